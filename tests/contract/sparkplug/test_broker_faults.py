"""Edge node and host application together over a broker that dies, comes back empty, or comes back with an old memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import Broker
from tests.contract.sparkplug.stage import LINK, SETTINGS, START, START_MS, Raw, World
from tieline_cloud.fleet.registry import FleetRegistry
from tieline_cloud.ingest.live import LiveHost, LiveNotices
from tieline_cloud.ingest.rebirth import RebirthPace
from tieline_cloud.ingest.settings import BrokerAddress, IngestSettings
from tieline_core.clock import ManualClock
from tieline_core.ids import EdgeId
from tieline_core.quantities import Quality
from tieline_edge.settings import MqttEndpoint
from tieline_edge.sync.durable_file import Counters
from tieline_edge.sync.live import LiveLane
from tieline_edge.sync.transport import MqttLink

pytestmark = pytest.mark.broker


@dataclass
class Both:
    """A hub's live host and an edge's live lane."""

    broker: Broker
    world: World
    lane: LiveLane
    fleet: FleetRegistry
    group: asyncio.TaskGroup
    hub: LiveHost | None = None
    running: asyncio.Task[None] | None = None

    def start_hub(self) -> LiveHost:
        address = BrokerAddress("127.0.0.1", self.broker.port, insecure=True)
        settings = IngestSettings(address, rebirths=RebirthPace(pause_s=0.0))
        self.hub = LiveHost(settings, self.fleet, self.world.clock, LiveNotices())
        self.running = self.group.create_task(self.hub.run())
        return self.hub

    async def stop_hub(self) -> None:
        assert self.running is not None
        self.running.cancel()
        await asyncio.wait({self.running})

    def power(self) -> tuple[float | None, int] | None:
        assert self.hub is not None
        return next(((v.value, v.quality) for v in self.hub.values() if v.point == "harbour/bat1/p_w"), None)


@asynccontextmanager
async def both(broker: Broker, folder: Path) -> AsyncIterator[Both]:
    world = World(ManualClock(START))

    async def notify(_code: str, _text: str) -> None:
        return None

    link = MqttLink(MqttEndpoint(host="127.0.0.1", port=broker.port, insecure=True), "harbour-live", LINK)
    lane = LiveLane(link, EdgeId("harbour"), world.clock, Counters(folder / "live.json"), world.view, notify, SETTINGS)
    async with asyncio.TaskGroup() as group:
        held = Both(broker, world, lane, FleetRegistry(world.clock), group)
        speaking = group.create_task(lane.run())
        yield held
        speaking.cancel()
        if held.running is not None:
            held.running.cancel()


async def until(test: object) -> None:
    assert callable(test)
    async with asyncio.timeout(60):
        while not test():  # noqa: ASYNC110 (what is waited for changes in many places)
            await asyncio.sleep(0.01)


async def test_after_a_broker_without_memory_came_back_everything_is_told_anew(broker: Broker, tmp_path: Path) -> None:
    async with both(broker, tmp_path) as held:
        held.start_hub()
        await until(lambda: held.power() == (1000.0, Quality.GOOD))
        broker.kill()
        await until(lambda: held.power() == (1000.0, Quality.STALE))
        await held.world.clock.advance(60)
        held.world.values["bat1/p_w"] = 2000.0
        await asyncio.to_thread(broker.start)
        await until(lambda: held.power() == (2000.0, Quality.GOOD))
        (edge,) = held.fleet.edges()
        assert (edge.online_live, edge.offline_since) == (True, None)


async def test_a_broker_that_remembers_an_old_online_wakes_no_edge_and_its_old_commands_do_nothing(
    broker: Broker, tmp_path: Path
) -> None:
    async with both(broker, tmp_path) as held:
        held.start_hub()
        await until(lambda: held.power() == (1000.0, Quality.GOOD))
        births = held.lane.counters.births
        await held.world.clock.advance(60)
        await held.stop_hub()
        await until(lambda: not held.lane.host_online)
        broker.kill()
        await asyncio.to_thread(broker.start)
        memory = Raw(broker.port, "memory")
        memory.state(True, START_MS)
        memory.say("spBv1.0/tieline/NCMD/harbour", b"\x12\x1a\x0a\x14Node Control/Rebirth\x20\x0b\x70\x01", qos=1, retain=True)
        memory.close()
        await until(lambda: held.lane.counters.stale_states >= 1)
        await until(lambda: held.lane.counters.commands_refused >= 1)
        assert held.lane.counters.births == births
        await held.world.clock.advance(60)
        held.start_hub()
        await until(lambda: held.power() == (1000.0, Quality.GOOD))
        assert held.lane.counters.births == births + 1
