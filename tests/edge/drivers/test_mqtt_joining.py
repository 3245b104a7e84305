"""Devices that join and leave the field broker in the middle of something: nothing is lost, doubled or shown too long."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import pytest

from tests.conftest import Broker
from tests.edge.drivers.field import EDGE, START, MemoryRecorder, make_context
from tests.edge.drivers.test_mqtt_gateway import Recalled, meter, party_of, site
from tieline_core.clock import ManualClock
from tieline_core.ids import PointId
from tieline_core.quantities import Quality, Reading
from tieline_edge.drivers.capabilities import DeviceTransientError
from tieline_edge.drivers.mqtt.reports import ReportingDevice
from tieline_edge.drivers.registry import open_driver
from tieline_edge.pollers import Pollers
from tieline_edge.sampling import DeviceHandle
from tieline_edge.settings import CycleSettings, DeviceSettings, MqttEndpoint

POWER = PointId("harbour/m01/p_w")


class SlowlyRecalled(Recalled):
    """An outbox that thinks about its first answer."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.free = asyncio.Event(), asyncio.Event()

    async def recorded_instants(self, points: Sequence[PointId], last: int) -> Mapping[PointId, Collection[datetime]]:
        found = await super().recorded_instants(points, last)
        self.asked.set()
        await self.free.wait()
        return found


@dataclass
class SlowRecorder(MemoryRecorder):
    """Takes its time over a batch."""

    asked: asyncio.Event = field(default_factory=asyncio.Event)
    free: asyncio.Event = field(default_factory=asyncio.Event)

    async def record(self, readings: Sequence[Reading]) -> None:
        self.asked.set()
        await self.free.wait()
        await super().record(readings)


@pytest.mark.broker
async def test_a_meter_that_is_configured_anew_while_the_outbox_is_asked_is_asked_for_again(broker: Broker) -> None:
    recalled = SlowlyRecalled()
    async with asyncio.timeout(60), site(broker, recalled) as here:
        here.side.send("m01", 1)
        await recalled.asked.wait()
        here.gateway.leave(party_of(here.drivers[0]))
        here.gateway.join([party_of(open_driver(meter("m01"), EDGE, here.context))])
        recalled.free.set()
        # As a meter does that has no receipt.
        while here.side.receipts.empty():
            here.side.send("m01", 1)
            await asyncio.sleep(0.05)
        assert here.recorder.readings == [], "it was recorded before the restart"


@pytest.mark.broker
async def test_a_meter_that_leaves_while_it_is_recorded_gets_its_receipt_and_is_shown_no_longer(broker: Broker) -> None:
    async with asyncio.timeout(60), site(broker) as here:
        slow = SlowRecorder()
        here.gateway._recorder = slow
        here.side.send("m01", 1)
        await slow.asked.wait()
        here.gateway.leave(party_of(here.drivers[0]))
        here.context.image.forget([POWER])
        slow.free.set()
        assert await here.receipts(1) == ["m01-1"]
        assert POWER in {reading.point for reading in slow.readings}
        assert here.context.image.freeze(START).readings == {}


async def test_what_a_device_has_said_before_it_leaves_is_recorded() -> None:
    context, recorder = make_context(broker=MqttEndpoint(host="127.0.0.1", port=1, insecure=True))
    plug = DeviceSettings.model_validate(
        {"id": "plug1", "catalog": "tasmota-plug", "mqtt": {"serial": "p"}, "priority_class": 3}
    )
    driver = open_driver(plug, EDGE, context)
    party = party_of(driver)
    assert isinstance(party, ReportingDevice)
    handle = DeviceHandle(plug, driver, party.points.ids(), 1.0)
    pollers = Pollers({}, context, CycleSettings())
    running = asyncio.create_task(pollers.run())
    await asyncio.sleep(0)
    await pollers.start(handle)
    async with asyncio.timeout(30):
        while not handle.counters.polls:  # noqa: ASYNC110 - a counter has no event
            await asyncio.sleep(0.01)
    said = Reading(PointId("harbour/plug1/p_w"), 7.0, START, Quality.GOOD)
    party.keep([said])
    await pollers.stop(handle)
    assert said in recorder.readings
    running.cancel()
    await asyncio.wait([running])


async def test_a_field_broker_whose_password_cannot_be_read_costs_its_own_devices_only(tmp_path: Path) -> None:
    endpoint = MqttEndpoint(host="127.0.0.1", port=1, username="tieline", password_file=tmp_path / "none", insecure=True)
    context, _ = make_context(broker=endpoint)
    driver = open_driver(meter("m01"), EDGE, context)
    assert context.meters is not None
    context.meters.join([party_of(driver)])
    running = asyncio.create_task(context.meters.run())
    await asyncio.sleep(0.05)
    assert not running.done()
    clock = context.clock
    assert isinstance(clock, ManualClock)
    await clock.advance(200)
    with pytest.raises(DeviceTransientError, match=r"field broker 127\.0\.0\.1:1 is not reached: .*none"):
        await driver.read()
    running.cancel()
    await asyncio.wait([running])
