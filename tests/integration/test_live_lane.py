"""The live lane over a real broker, heard by an independent-minded Sparkplug host."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.conftest import Broker
from tieline_core import topics
from tieline_core.clock import ManualClock
from tieline_core.ids import DeviceId, EdgeId, PointId
from tieline_core.quantities import Quality, Reading
from tieline_core.sparkplug.metric import DataType, Metric, Payload
from tieline_core.sparkplug.payload import decode, encode
from tieline_core.sparkplug.session import BDSEQ, REBIRTH, BirthTable, HostState, bdseq_of, next_seq, rebirth_request
from tieline_edge.settings import MqttEndpoint
from tieline_edge.sync.durable_file import Counters
from tieline_edge.sync.live import LiveLane, LiveSettings
from tieline_edge.sync.live_state import LiveView
from tieline_edge.sync.mqtt_session import LinkTimes, MqttSession
from tieline_edge.sync.transport import MqttLink

pytestmark = pytest.mark.broker
EDGE = EdgeId("harbour")
BAT = DeviceId("bat1")
START = datetime(2016, 12, 7, 17, 30, tzinfo=UTC)
LINK = LinkTimes(connect_s=2.0, answer_s=2.0, keepalive_s=5, backoff_s=0.02, backoff_cap_s=0.1)
SETTINGS = LiveSettings(period_s=0.05, floor_wall_s=0.05, refresh_s=60.0, rebirth_wall_s=0.0)


def link(port: int, name: str) -> MqttLink:
    return MqttLink(MqttEndpoint(host="127.0.0.1", port=port, insecure=True), name, LINK)


@dataclass
class Heard:
    """One message of the node as the host understood it."""

    kind: str
    device: str | None
    payload: Payload
    metrics: tuple[Metric, ...]

    def values(self) -> dict[str | None, object]:
        return {metric.name: metric.value for metric in self.metrics}


@dataclass
class Host:
    """Subscribes to everything, announces itself, resolves aliases."""

    session: MqttSession
    table: BirthTable = field(default_factory=BirthTable)

    async def state(self, online: bool, ms: int) -> None:
        await self.session.publish(topics.host_state("hub"), HostState(online, ms).to_bytes(), retain=True)

    async def hear(self, kind: str | None = None) -> Heard:
        async with asyncio.timeout(60):
            while True:
                message = await self.session.receive()
                if "/STATE/" in message.topic:
                    continue
                assert not message.retain
                topic = topics.parse_sparkplug(message.topic)
                payload = decode(message.payload)
                metrics = payload.metrics
                if topic.kind in ("NBIRTH", "DBIRTH"):
                    self.table.learn(topic.device, metrics)
                elif topic.kind in ("NDATA", "DDATA"):
                    assert all(metric.name is None for metric in metrics)
                    metrics = self.table.resolve(topic.device, metrics)
                if kind is None or topic.kind == kind:
                    return Heard(topic.kind, topic.device, payload, metrics)

    async def command(self, topic: str, payload: Payload) -> None:
        await self.session.publish(topic, encode(payload), qos=0)


@dataclass
class World:
    """What the node sees."""

    p_w: float = 1000.0
    quality: Quality = Quality.GOOD
    offline: bool = False
    ladder: int = 0

    def view(self) -> LiveView:
        value = None if self.quality is Quality.BAD else self.p_w
        rows = (
            Reading(PointId("harbour/bat1/p_w"), value, START, self.quality),
            Reading(PointId("harbour/bat1/soc_pct"), 50.0, START),
            Reading(PointId("harbour/site/load_w"), 7.0, START),
        )
        return LiveView(
            {row.point: row for row in rows},
            {BAT: "storage"},
            frozenset({BAT}) if self.offline else frozenset(),
            {"ladder_step": self.ladder, "software": "tieline-edge 0"},
        )


@dataclass
class Scene:
    """Node and host at one broker."""

    lane: LiveLane
    host: Host
    world: World
    clock: ManualClock
    events: list[tuple[str, str]]
    running: asyncio.Task[None]


@asynccontextmanager
async def scene(broker: Broker, folder: Path, *, online: bool = True) -> AsyncIterator[Scene]:
    clock, world = ManualClock(START), World()
    events: list[tuple[str, str]] = []

    async def notify(code: str, text: str) -> None:
        events.append((code, text))

    async with link(broker.port, "host").connect() as session:
        host = Host(session)
        await session.subscribe("spBv1.0/#")
        if online:
            await host.state(True, 1)
        numbers = Counters(folder / "live.json")
        lane = LiveLane(link(broker.port, "harbour-live"), EDGE, clock, numbers, world.view, notify, SETTINGS)
        async with asyncio.TaskGroup() as group:
            running = group.create_task(lane.run())
            yield Scene(lane, host, world, clock, events, running)
            running.cancel()


async def test_births_declare_everything_and_count_from_zero(broker: Broker, tmp_path: Path) -> None:
    async with scene(broker, tmp_path) as held:
        node = await held.host.hear()
        assert (node.kind, node.payload.seq) == ("NBIRTH", 0)
        assert node.values() == {BDSEQ: 0, REBIRTH: False, "ladder_step": 0.0, "software": "tieline-edge 0"}
        assert all(metric.datatype is not None and metric.timestamp_ms is not None for metric in node.metrics)
        births = [await held.host.hear(), await held.host.hear()]
        assert {birth.device for birth in births} == {"bat1", "site"}
        assert [birth.payload.seq for birth in births] == [1, 2]
        battery = next(birth for birth in births if birth.device == "bat1")
        assert battery.values() == {"role": "storage", "p_w": 1000.0, "soc_pct": 50.0}


async def test_only_what_changed_by_its_resolution_is_said_and_unchanged_values_are_refreshed(
    broker: Broker, tmp_path: Path
) -> None:
    async with scene(broker, tmp_path) as held:
        births = [await held.host.hear() for _ in range(3)]
        held.world.p_w = 1000.04
        await asyncio.sleep(0.2)
        held.world.p_w = 1000.2
        changed = await held.host.hear()
        assert (changed.kind, changed.device, changed.values()) == ("DDATA", "bat1", {"p_w": 1000.2})
        assert changed.payload.seq == next_seq(births[-1].payload.seq or 0)
        held.world.quality = Quality.UNCERTAIN
        (metric,) = (await held.host.hear()).metrics
        assert (metric.value, metric.quality) == (1000.2, Quality.UNCERTAIN)
        held.world.quality = Quality.BAD
        (metric,) = (await held.host.hear()).metrics
        assert (metric.value, metric.quality) == (None, Quality.BAD)
        held.world.ladder = 2
        assert (await held.host.hear("NDATA")).values() == {"ladder_step": 2.0}
        await held.clock.advance(61)
        refreshed = [await held.host.hear() for _ in range(3)]
        assert {(row.kind, row.device) for row in refreshed} == {("NDATA", None), ("DDATA", "bat1"), ("DDATA", "site")}


async def test_a_device_dies_and_is_born_again(broker: Broker, tmp_path: Path) -> None:
    async with scene(broker, tmp_path) as held:
        for _ in range(3):
            await held.host.hear()
        held.world.offline = True
        death = await held.host.hear()
        assert (death.kind, death.device, death.payload.seq) == ("DDEATH", "bat1", 3)
        held.world.offline = False
        birth = await held.host.hear()
        assert (birth.kind, birth.device) == ("DBIRTH", "bat1")


async def test_a_rebirth_is_obeyed_with_the_same_birth_death_number(broker: Broker, tmp_path: Path) -> None:
    async with scene(broker, tmp_path) as held:
        first = await held.host.hear("NBIRTH")
        await held.host.command(topics.sparkplug("NCMD", EDGE), rebirth_request(1))
        again = await held.host.hear("NBIRTH")
        assert again.payload.seq == 0
        assert bdseq_of(again.payload) == bdseq_of(first.payload)


@pytest.mark.parametrize("kind", ["NCMD", "DCMD", "garbage"])
async def test_any_other_command_writes_nothing_and_raises_an_event(broker: Broker, tmp_path: Path, kind: str) -> None:
    async with scene(broker, tmp_path) as held:
        await held.host.hear("NBIRTH")
        command = Payload((Metric(name="p_w", value=9.0, datatype=DataType.DOUBLE), *rebirth_request(1).metrics))
        if kind == "garbage":
            await held.host.session.publish(topics.sparkplug("NCMD", EDGE), b"\xff\xff", qos=0)
        else:
            await held.host.command(topics.sparkplug(kind, EDGE, "bat1" if kind == "DCMD" else None), command)
        async with asyncio.timeout(60):
            while not held.events:  # noqa: ASYNC110 (what is waited for is a list)
                await asyncio.sleep(0.01)
        assert held.events[0][0] == ("live.garbage" if kind == "garbage" else "live.command_refused")
        assert held.lane.counters.births == 1


async def test_a_cut_connection_dies_with_the_number_of_its_birth_and_the_next_one_is_higher(
    broker: Broker, tmp_path: Path
) -> None:
    async with scene(broker, tmp_path) as held:
        first = await held.host.hear("NBIRTH")
        async with link(broker.port, "harbour-live").connect():
            # A second client with its id makes the broker throw the node out: its will is spoken.
            death = await held.host.hear("NDEATH")
        assert bdseq_of(death.payload) == bdseq_of(first.payload) == 0
        assert death.payload.seq is None
        second = await held.host.hear("NBIRTH")
        assert (bdseq_of(second.payload) or 0) > 0
        assert second.payload.seq == 0


async def test_the_birth_death_number_survives_a_restart_and_a_stop_says_goodbye_first(broker: Broker, tmp_path: Path) -> None:
    async with scene(broker, tmp_path) as held:
        await held.host.hear("NBIRTH")
        held.running.cancel()
        death = await held.host.hear("NDEATH")
        assert bdseq_of(death.payload) == 0
    async with scene(broker, tmp_path) as held:
        assert bdseq_of((await held.host.hear("NBIRTH")).payload) == 1


async def test_no_birth_before_the_host_is_online_and_a_goodbye_when_it_goes(broker: Broker, tmp_path: Path) -> None:
    async with scene(broker, tmp_path, online=False) as held:
        await asyncio.sleep(0.2)
        assert held.lane.counters.births == 0
        await held.host.state(True, 10)
        first = await held.host.hear("NBIRTH")
        await held.host.state(False, 9)  # older than the online: a late word of a former host
        held.world.p_w = 2000.0
        assert (await held.host.hear("DDATA")).values() == {"p_w": 2000.0}
        await held.host.state(False, 11)
        death = await held.host.hear("NDEATH")
        assert bdseq_of(death.payload) == bdseq_of(first.payload)
        await held.host.state(True, 12)
        second = await held.host.hear("NBIRTH")
        assert bdseq_of(second.payload) == (bdseq_of(first.payload) or 0) + 1


async def test_a_killed_broker_is_found_again_with_fresh_births(broker: Broker, tmp_path: Path) -> None:
    async with scene(broker, tmp_path) as held:
        await held.host.hear("NBIRTH")
        broker.kill()
        await asyncio.to_thread(broker.start)
        async with link(broker.port, "host-2").connect() as session:
            host = Host(session)
            await session.subscribe("spBv1.0/#")
            await host.state(True, 20)
            assert (bdseq_of((await host.hear("NBIRTH")).payload) or 0) >= 1
        assert held.clock.now() < START + timedelta(days=1)
