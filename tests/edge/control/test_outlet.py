"""The outlet: control never waits for the disk."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime

import pytest

from tieline_core.clock import ManualClock
from tieline_core.errors import TransientError
from tieline_core.ids import DeviceId, EdgeId, PointId
from tieline_core.messages.telemetry import Event, IssuedForecast, Severity
from tieline_core.quantities import Reading
from tieline_edge.control import outlet as module
from tieline_edge.control.outlet import Outlet

NOW = datetime(2016, 12, 7, 16, tzinfo=UTC)
READING = Reading(PointId("harbour/site/load_w"), 1.0, NOW)


class Disk:
    """A recorder that refuses a number of times."""

    def __init__(self, refusals: int = 0) -> None:
        self.refusals = refusals
        self.kept: list[Event | Reading] = []

    def _look(self) -> None:
        if self.refusals:
            self.refusals -= 1
            raise TransientError("disk full")

    async def record(self, readings: Sequence[Reading]) -> None:
        self._look()
        self.kept.extend(readings)

    async def record_event(self, event: Event) -> None:
        self._look()
        self.kept.append(event)

    async def record_forecast(self, forecast: IssuedForecast) -> None:
        raise AssertionError(forecast)


async def test_events_and_readings_are_recorded_in_order_and_readings_are_handed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_RETRY_S", 0.0)
    disk = Disk(refusals=2)
    outlet = Outlet(EdgeId("harbour"), ManualClock(NOW), disk)
    tapped: list[Reading] = []

    async def tap(reading: Reading) -> None:
        tapped.append(reading)

    outlet.taps.append(tap)
    outlet.tell(Severity.ALARM, "shed.thermal", "x" * 900, DeviceId("load01"), {"loading_pct": 112.0})
    outlet.keep([READING])
    outlet.keep([])
    task = asyncio.create_task(outlet.run())
    await outlet.drain(5.0)
    event, reading = disk.kept
    assert isinstance(event, Event)
    assert (event.code, event.at, len(event.text), event.device_id) == ("shed.thermal", NOW, 500, "load01")
    assert reading == READING
    assert tapped == [READING]
    assert (outlet.counters.events, outlet.counters.readings, outlet.counters.dropped) == (1, 1, 0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_disk_that_stays_away_fills_a_bounded_queue_and_the_rest_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_WAITING", 2)
    outlet = Outlet(EdgeId("harbour"), ManualClock(NOW), Disk())
    for _ in range(module.MAX_WAITING + 3):
        outlet.keep([READING])
    assert outlet.counters.dropped == 3
    await outlet.drain(0.01)
    assert outlet.counters.readings == 0
