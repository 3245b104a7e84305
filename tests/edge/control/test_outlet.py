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


class SlowDisk(Disk):
    """A recorder that gathers for a while and commits all of it at once, as the outbox does."""

    def __init__(self) -> None:
        super().__init__()
        self.commits: list[int] = []
        self.committed = asyncio.Event()
        self.waiting = 0

    async def record(self, readings: Sequence[Reading]) -> None:
        self.waiting += 1
        await self.committed.wait()
        await super().record(readings)

    async def record_event(self, event: Event) -> None:
        self.waiting += 1
        await self.committed.wait()
        await super().record_event(event)

    async def commit(self) -> None:
        """Let everything through that waits now."""
        for _ in range(5):
            await asyncio.sleep(0)
        self.commits.append(self.waiting)
        self.waiting = 0
        self.committed.set()
        self.committed.clear()
        for _ in range(5):
            await asyncio.sleep(0)


async def test_what_comes_during_a_commit_goes_together_with_the_next_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """One item a commit let the queue grow for ever where a commit takes longer than a cycle."""
    monkeypatch.setattr(module, "MAX_TOGETHER", 4)
    disk = SlowDisk()
    outlet = Outlet(EdgeId("harbour"), ManualClock(NOW), disk)
    async with asyncio.TaskGroup() as group:
        writer = group.create_task(outlet.run())
        outlet.keep([READING])
        await disk.commit()
        for number in range(3):
            outlet.keep([READING])
            outlet.tell(Severity.INFORMATION, f"plan.{number}", "taken")
        await disk.commit()
        await disk.commit()
        await outlet.drain(5.0)
        writer.cancel()
    assert disk.commits == [1, 4, 2], "bounded, and nothing waits alone"
    assert (outlet.counters.events, outlet.counters.readings) == (3, 4)
    assert [item.code for item in disk.kept if isinstance(item, Event)] == ["plan.0", "plan.1", "plan.2"]


async def test_only_what_was_refused_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_RETRY_S", 0.0)
    disk = Disk(refusals=1)
    outlet = Outlet(EdgeId("harbour"), ManualClock(NOW), disk)
    outlet.keep([READING])
    outlet.tell(Severity.ALARM, "shed.thermal", "overload")
    async with asyncio.TaskGroup() as group:
        writer = group.create_task(outlet.run())
        await outlet.drain(5.0)
        writer.cancel()
    assert len(disk.kept) == 2
    assert (outlet.counters.events, outlet.counters.readings) == (1, 1)


async def test_a_disk_that_stays_away_fills_a_bounded_queue_and_the_rest_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_WAITING", 2)
    outlet = Outlet(EdgeId("harbour"), ManualClock(NOW), Disk())
    for _ in range(module.MAX_WAITING + 3):
        outlet.keep([READING])
    assert outlet.counters.dropped == 3
    await outlet.drain(0.01)
    assert outlet.counters.readings == 0
