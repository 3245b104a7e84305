"""The durable lane over a real broker: a scripted hub that commits, forgets, restarts; a broker that is killed."""

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
from tieline_core.frame import Frame, decode, decode_readings, decode_records
from tieline_core.ids import EdgeId, PointId
from tieline_core.messages.telemetry import Ack, Event, Hello, HelloAnswer, Stream
from tieline_core.quantities import Reading
from tieline_edge.outbox.store import Outbox
from tieline_edge.settings import MqttEndpoint, OutboxSettings
from tieline_edge.sync.durable import DurableLane
from tieline_edge.sync.mqtt_session import LinkLostError, LinkTimes, MqttSession
from tieline_edge.sync.transport import MqttLink
from tieline_edge.sync.uplink import TokenBucket, Uplink, UplinkSettings
from tieline_edge.sync.uplink_state import UplinkTimes

pytestmark = pytest.mark.broker
EDGE = EdgeId("harbour")
START = datetime(2016, 12, 7, 17, 30, tzinfo=UTC)
LINK = LinkTimes(connect_s=2.0, answer_s=2.0, keepalive_s=5, backoff_s=0.02, backoff_cap_s=0.1)
LANE = UplinkSettings(UplinkTimes(window=8, stall_s=0.2, rehello_s=0.6, hello_s=0.2, hello_cap_s=0.5, go_back_s=0.05))


@dataclass
class ScriptedHub:
    """Takes ``watermark + 1``; ``ignore`` frames are lost on it, as if they had never arrived."""

    port: int
    epoch: int = 7
    marks: dict[Stream, int] = field(default_factory=lambda: dict.fromkeys(Stream, 0))
    values: list[float] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    order: list[Stream] = field(default_factory=list)
    hellos: list[Hello] = field(default_factory=list)
    ignore: int = 0
    answers: bool = True
    forged: bool = False
    delay_s: float = 0.0
    grown: asyncio.Event = field(default_factory=asyncio.Event)

    async def serve(self, session: MqttSession) -> None:
        await session.subscribe(topics.hello("+"), topics.frame("+", "+"))
        while True:
            message = await session.receive()
            if message.topic == topics.hello(EDGE):
                self.hellos.append(Hello.from_bytes(message.payload, message.topic))
                if self.answers:
                    await asyncio.sleep(self.delay_s)
                    nonce = self.hellos[-1].nonce
                    marks = dict(self.marks)
                    answer = HelloAnswer(edge_id=EDGE, nonce=nonce, epoch=self.epoch, watermarks=marks)
                    await session.publish(topics.answer(EDGE), answer.to_bytes())
            elif self.answers:
                self.commit(message.payload)
                committed = {**self.marks, Stream.BULK: 99} if self.forged else dict(self.marks)
                await session.publish(topics.ack(EDGE), Ack(edge_id=EDGE, epoch=self.epoch, committed=committed).to_bytes())
            self.grown.set()

    def commit(self, data: bytes) -> None:
        frame = decode(data)
        if self.ignore:
            self.ignore -= 1
        elif frame.epoch == self.epoch and frame.seq == self.marks[frame.stream] + 1:
            self.marks[frame.stream] = frame.seq
            self.order.append(frame.stream)
            if frame.stream is Stream.MEASURE:
                self.values += decode_readings(frame.body).values.tolist()
            else:
                self.events += [record for record in decode_records(frame.body) if isinstance(record, Event)]

    async def until(self, count: int) -> None:
        async with asyncio.timeout(60):
            while len(self.values) < count:
                self.grown.clear()
                await self.grown.wait()


def link(port: int, name: str) -> MqttLink:
    return MqttLink(MqttEndpoint(host="127.0.0.1", port=port, insecure=True), name, LINK)


def readings(first: int, count: int) -> list[Reading]:
    point = PointId("harbour/bat1/p_w")
    return [Reading(point, float(n), START + timedelta(seconds=n)) for n in range(first, first + count)]


@dataclass
class Lane:
    """Edge and hub, both connected to the broker."""

    outbox: Outbox
    uplink: Uplink
    hub: ScriptedHub


@asynccontextmanager
async def lane(broker: Broker, folder: Path, settings: UplinkSettings = LANE) -> AsyncIterator[Lane]:
    clock, hub = ManualClock(START), ScriptedHub(broker.port)
    keep = OutboxSettings(commit_interval_s=0.0, frame_readings=5)
    async with Outbox.open(folder / "outbox.sqlite", EDGE, keep, clock) as outbox:
        uplink = Uplink(outbox, clock, "tieline-edge 0", "boot-1", settings)
        async with asyncio.TaskGroup() as group:
            serving = group.create_task(link(broker.port, "hub").run(hub.serve))
            durable = DurableLane(link(broker.port, "harbour-durable"), [uplink])
            running = group.create_task(durable.run())
            yield Lane(outbox, uplink, hub)
            running.cancel()
            serving.cancel()


async def acknowledged(outbox: Outbox) -> None:
    async with asyncio.timeout(60):
        while sum(row.frames for row in list((await outbox.backlog()).values())):  # noqa: ASYNC110 (the ledger is a file)
            await asyncio.sleep(0.01)


async def test_everything_recorded_is_committed_once_and_acknowledged(broker: Broker, tmp_path: Path) -> None:
    async with lane(broker, tmp_path) as held:
        await held.outbox.record(readings(0, 203))
        await held.hub.until(203)
        await acknowledged(held.outbox)
        assert held.hub.values == [float(n) for n in range(203)]
        assert (held.hub.hellos[0].epoch, await held.outbox.epoch()) == (0, 7)
        assert held.uplink.online


async def test_an_idle_lane_leaves_the_disk_alone(broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with lane(broker, tmp_path) as held:
        await held.outbox.record(readings(0, 20))
        await held.hub.until(20)
        await acknowledged(held.outbox)
        asked: list[Stream] = []
        real = held.outbox.next_frames

        async def next_frames(stream: Stream, after_seq: int, limit: int) -> list[Frame]:
            asked.append(stream)
            return await real(stream, after_seq, limit)

        monkeypatch.setattr(held.outbox, "next_frames", next_frames)
        async with asyncio.timeout(60):
            before = -1
            while len(asked) != before:  # the last acknowledgements may still stir it
                before = len(asked)
                await asyncio.sleep(1.2)  # more than one of its ticks, at rest too
        await held.outbox.record(readings(20, 1))
        await held.hub.until(21)
        assert len(asked) > before


async def test_lost_frames_are_sent_again_and_nothing_comes_twice(broker: Broker, tmp_path: Path) -> None:
    async with lane(broker, tmp_path) as held:
        held.hub.ignore = 3
        for first in range(0, 100, 10):
            await held.outbox.record(readings(first, 10))
        await held.hub.until(100)
        await acknowledged(held.outbox)
        assert held.hub.values == [float(n) for n in range(100)]
        assert held.uplink.counters.go_backs > 0


async def test_a_frame_that_went_out_as_the_session_ended_is_acknowledged_by_the_next_one(
    broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hub has it and says so: taken for a forged word, no hello would ever be answered again."""
    torn: list[str] = []
    real = MqttSession.send

    def send(session: MqttSession, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False) -> asyncio.Future[None]:
        done = real(session, topic, payload, qos=qos, retain=retain)
        if "/up/frame/" in topic and not torn:
            torn.append(topic)
            raise LinkLostError("cut as it went out")
        return done

    async with lane(broker, tmp_path) as held:
        monkeypatch.setattr(MqttSession, "send", send)
        await held.outbox.record(readings(0, 5))
        await held.hub.until(5)
        await acknowledged(held.outbox)
        assert torn
        assert held.hub.values == [float(n) for n in range(5)]
        assert held.uplink.counters.refused == 0


async def test_a_killed_broker_costs_nothing(broker: Broker, tmp_path: Path) -> None:
    async with lane(broker, tmp_path) as held:
        await held.outbox.record(readings(0, 60))
        await held.hub.until(10)
        broker.kill()
        await held.outbox.record(readings(60, 60))
        await asyncio.to_thread(broker.start)
        await held.hub.until(120)
        await acknowledged(held.outbox)
        assert held.hub.values == [float(n) for n in range(120)]


async def test_a_hub_that_falls_silent_is_greeted_again_although_the_broker_stays(broker: Broker, tmp_path: Path) -> None:
    async with lane(broker, tmp_path) as held:
        await held.outbox.record(readings(0, 10))
        await held.hub.until(10)
        held.hub.answers = False
        greetings = len(held.hub.hellos)
        await held.outbox.record(readings(10, 10))
        async with asyncio.timeout(60):
            while len(held.hub.hellos) == greetings:
                held.hub.grown.clear()
                await held.hub.grown.wait()
        assert not held.uplink.online
        held.hub.answers = True
        await held.hub.until(20)
        assert held.hub.values == [float(n) for n in range(20)]


async def test_alarms_overtake_a_backlog(broker: Broker, tmp_path: Path) -> None:
    slow = UplinkSettings(LANE.times, drain_frames_per_s=20.0, drain_burst=2)
    async with lane(broker, tmp_path, slow) as held:
        await held.outbox.record(readings(0, 50))
        await held.hub.until(10)
        await held.outbox.alarm("test.alarm", "now")
        await held.hub.until(50)
        assert held.hub.order.index(Stream.ALARM) < len(held.hub.order) - 2
        assert [event.code for event in held.hub.events] == ["test.alarm"]


async def test_a_forged_acknowledgement_is_refused_with_an_alarm(broker: Broker, tmp_path: Path) -> None:
    async with lane(broker, tmp_path) as held:
        held.hub.forged = True
        await held.outbox.record(readings(0, 5))
        await held.hub.until(5)
        async with asyncio.timeout(60):
            while not held.hub.events:
                held.hub.grown.clear()
                await held.hub.grown.wait()
        assert (await held.outbox.states())[Stream.BULK].acked_seq == 0
        assert held.hub.events[0].code == "uplink.ack"
        assert held.uplink.counters.refused > 0


async def test_garbage_from_the_hub_is_reported_and_changes_nothing(broker: Broker, tmp_path: Path) -> None:
    async with lane(broker, tmp_path) as held, link(broker.port, "stranger").connect() as stranger:
        await held.outbox.record(readings(0, 5))
        await held.hub.until(5)
        await stranger.publish(topics.ack(EDGE), b"{" * 1000)
        await held.outbox.record(readings(5, 5))
        await held.hub.until(10)
        async with asyncio.timeout(60):
            while not held.hub.events:
                held.hub.grown.clear()
                await held.hub.grown.wait()
        assert held.hub.events[0].code == "uplink.garbage"


def test_a_token_bucket_gives_its_burst_and_then_its_rate() -> None:
    now = [0.0]
    bucket = TokenBucket(10.0, 3, lambda: now[0])
    assert bucket.available() == 3
    bucket.take(3)
    assert bucket.available() == 0
    now[0] = 0.25
    assert bucket.available() == 2
    now[0] = 99.0
    assert bucket.available() == 3


async def test_a_hub_slower_than_the_edges_patience_is_heard_all_the_same(broker: Broker, tmp_path: Path) -> None:
    async with lane(broker, tmp_path) as held:
        held.hub.delay_s = 0.7  # every answer comes after the edge has said hello again
        await held.outbox.record(readings(0, 5))
        await held.hub.until(5)
        assert held.hub.values == [float(n) for n in range(5)]


async def test_an_outbox_repaired_in_the_middle_of_a_session_goes_on_in_a_new_epoch(broker: Broker, tmp_path: Path) -> None:
    async with lane(broker, tmp_path) as held:
        await held.outbox.record(readings(0, 20))
        await held.hub.until(20)
        await acknowledged(held.outbox)
        held.hub.answers = False
        await held.outbox.record(readings(20, 20))
        await held.outbox._db.run("UPDATE meta SET value = 'garbled' WHERE key = 'epoch'")
        await held.outbox.record(readings(40, 20))
        assert held.outbox.generation == 1
        held.hub.epoch, held.hub.marks = 8, dict.fromkeys(Stream, 0)
        held.hub.answers = True
        await held.hub.until(60)
        await acknowledged(held.outbox)
        assert sorted(held.hub.values) == [float(n) for n in range(60)]
        assert [event.code for event in held.hub.events] == ["outbox.damaged"]
