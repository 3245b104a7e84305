"""Reconciliation over a real broker: the hub's ledger and the edge's ring are compared, and what is lacking comes again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.conftest import Broker
from tieline_cloud.bootstrap import reply_connection
from tieline_cloud.dispatch.documents import DocumentStore
from tieline_cloud.dispatch.keys import Sealer
from tieline_cloud.dispatch.publisher import MqttPublisher
from tieline_cloud.fleet.reconcile import EdgeRequests, NoReplyError, Question, Reconciler
from tieline_cloud.ingest.service import Ingest
from tieline_cloud.ingest.settings import BrokerAddress, IngestSettings
from tieline_cloud.settings import MqttSettings
from tieline_cloud.store.memory_store import MemoryStore
from tieline_cloud.store.ports import Store, Verdict
from tieline_core import topics
from tieline_core.clock import SystemClock
from tieline_core.ids import EdgeId, PointId
from tieline_core.messages.reconciliation import BackfillRequest
from tieline_core.messages.telemetry import Stream
from tieline_core.quantities import Reading
from tieline_core.signing import EnvelopeType, Signer
from tieline_edge.lanes import RequestTaker
from tieline_edge.outbox.store import Outbox
from tieline_edge.settings import MqttEndpoint, OutboxSettings
from tieline_edge.sync.artifacts import Artifacts
from tieline_edge.sync.downlink import Downlink
from tieline_edge.sync.durable import DurableLane, durable_link
from tieline_edge.sync.explanation import Explanations
from tieline_edge.sync.reconciliation import Reconciliation
from tieline_edge.sync.sinks import Sinks
from tieline_edge.sync.trusted import trusted_keys
from tieline_edge.sync.uplink import Uplink

pytestmark = pytest.mark.broker
EDGE = EdgeId("harbour")
T0 = datetime(2026, 1, 15, 12, tzinfo=UTC)
POINT = PointId("harbour/bat1/p_w")
PRIVATE = bytes(range(32))
DAY = Question(EDGE, T0, T0 + timedelta(days=2))


def readings(first: int, count: int) -> list[Reading]:
    """One a minute."""
    return [Reading(POINT, float(n), T0 + timedelta(minutes=n)) for n in range(first, first + count)]


@dataclass
class Edge:
    outbox: Outbox
    downlink: Downlink


async def _nothing(_request: object) -> str:
    return ""


@asynccontextmanager
async def edge(broker: Broker, folder: Path, settings: OutboxSettings | None = None) -> AsyncIterator[Edge]:
    clock = SystemClock()
    settings = settings or OutboxSettings(commit_interval_s=0.0, frame_readings=20)
    async with Outbox.open(folder / "outbox.sqlite", EDGE, settings, clock) as outbox:
        uplink = Uplink(outbox, clock, "tieline-edge 0", "boot-1")
        answering = Reconciliation(outbox, clock)
        keys = trusted_keys([Signer(PRIVATE).public.hex()])
        artifacts = Artifacts(folder / "artifacts", "http://127.0.0.1:9")
        sinks = Sinks(request=RequestTaker(answering, Explanations(EDGE, clock, _nothing)))
        downlink = Downlink(outbox, clock, keys, uplink.nonces, artifacts, folder, sinks)
        endpoint = MqttEndpoint(host=broker.host, port=broker.port, insecure=True)
        lane = DurableLane(durable_link(endpoint, EDGE), [uplink, downlink, answering])
        async with asyncio.TaskGroup() as group:
            running = group.create_task(lane.run())
            yield Edge(outbox, downlink)
            running.cancel()


@dataclass
class Hub:
    store: Store
    ingest: Ingest
    reconciler: Reconciler
    requests: EdgeRequests
    publisher: MqttPublisher


@asynccontextmanager
async def hub(broker: Broker, folder: Path, store: Store, silence_s: float = 10.0) -> AsyncIterator[Hub]:
    address = BrokerAddress(broker.host, broker.port, insecure=True)
    clock = SystemClock()
    mqtt = MqttSettings(host=broker.host, port=broker.port, insecure=True)
    with DocumentStore(folder / "hub.sqlite") as documents:
        async with (
            MqttPublisher(mqtt, "hub-dispatch") as publisher,
            Ingest(IngestSettings(address), store, clock) as ingest,
            asyncio.TaskGroup() as group,
        ):
            requests = EdgeRequests(Sealer(PRIVATE, documents), publisher, clock, silence_s)
            listening = group.create_task(reply_connection(address, requests).run())
            async with asyncio.timeout(60):
                while not publisher.connected:  # noqa: ASYNC110 (a network thread sets it)
                    await asyncio.sleep(0.01)
            yield Hub(store, ingest, Reconciler(requests, store), requests, publisher)
            listening.cancel()


async def committed(outbox: Outbox) -> None:
    async with asyncio.timeout(60):
        while sum(row.frames for row in (await outbox.backlog()).values()):  # noqa: ASYNC110 (the ledger is a file)
            await asyncio.sleep(0.02)


async def test_both_sides_hold_the_same_after_everything_is_committed(broker: Broker, tmp_path: Path) -> None:
    async with edge(broker, tmp_path) as near, hub(broker, tmp_path / "hub", MemoryStore()) as far:
        await near.outbox.record(readings(0, 600))
        await near.outbox.alarm("test.alarm", "now")
        await committed(near.outbox)
        result = await far.reconciler.reconcile(DAY)
        assert result["equal"]
        measure = result["streams"]["measure"]
        assert measure["hub"] == measure["edge"] == {"frames": 30, "readings": 600}
        assert measure["hours"] == 10
        assert result["skips"] == {}


def gutted() -> MemoryStore:
    """A ledger that lost its readings and not its marks: nothing tells the edge that something is missing."""
    store = MemoryStore()
    store.grant_epoch(EDGE, T0, above=5)
    return store


async def test_a_hub_that_lost_readings_unnoticed_gets_exactly_what_it_lacks(broker: Broker, tmp_path: Path) -> None:
    """Hours are named, a backfill fills them, a second one stores nothing."""
    async with edge(broker, tmp_path) as near:
        async with hub(broker, tmp_path / "hub", MemoryStore()):
            await near.outbox.record(readings(0, 300))
            await committed(near.outbox)
        async with hub(broker, tmp_path / "hub", gutted()) as far:
            await near.outbox.record(readings(300, 100))
            await committed(near.outbox)
            result = await far.reconciler.reconcile(DAY)
            assert not result["equal"]
            lacking = result["streams"]["measure"]["differing"]
            assert [row["hour"] for row in lacking] == [(T0 + timedelta(hours=n)).isoformat() for n in range(5)]
            assert lacking[0]["hub"] is None
            assert lacking[0]["edge"]["readings"] == 60
            told: list[str] = []
            sent = await far.reconciler.backfill(DAY, lambda _share, words: told.append(words))
            assert (sent["frames"], sent["readings"]) == (20, 400)
            assert sent["no_longer_held"] == ["alarm: nothing is held", "bulk: nothing is held"]
            assert told[-1] == "20 of 20 frames in line, 0 not committed yet"
            assert (await far.reconciler.reconcile(DAY))["equal"]
            assert far.store.statistics().readings == 400
            repeated = far.ingest.durable_counters.frames[Verdict.REPEATED]
            again = await far.reconciler.backfill(DAY)
            assert again["frames"] == 20
            assert far.store.statistics().readings == 400
            assert far.ingest.durable_counters.frames[Verdict.REPEATED] == repeated + 20
            assert (await near.outbox.states())[Stream.MEASURE].acked_seq >= 40


async def test_a_backfill_goes_on_when_the_broker_was_away_in_its_middle(broker: Broker, tmp_path: Path) -> None:
    async with edge(broker, tmp_path) as near:
        async with hub(broker, tmp_path / "hub", MemoryStore()):
            await near.outbox.record(readings(0, 8000))
            await committed(near.outbox)
        async with hub(broker, tmp_path / "hub", gutted(), silence_s=30.0) as far:

            def cut(_share: float, _words: str) -> None:
                if not done.is_set():
                    done.set()
                    broker.kill()

            done = asyncio.Event()
            async with asyncio.TaskGroup() as group:
                asked = group.create_task(far.reconciler.backfill(Question(EDGE, T0, T0 + timedelta(days=6)), cut))
                await done.wait()
                await asyncio.to_thread(broker.start)
                assert (await asked)["frames"] >= 400
            assert far.store.statistics().readings == 8000


async def test_what_the_ring_no_longer_holds_is_named(broker: Broker, tmp_path: Path) -> None:
    small = OutboxSettings(commit_interval_s=0.0, frame_readings=20, max_age_days=1e-9)
    async with edge(broker, tmp_path, small) as near, hub(broker, tmp_path / "hub", MemoryStore()) as far:
        await near.outbox.record(readings(0, 200))
        await committed(near.outbox)
        near.outbox._commits.next_age_check = T0
        await near.outbox.record(readings(1000, 20))
        await committed(near.outbox)
        result = await far.reconciler.reconcile(DAY)
        assert result["equal"], "what only the ring has forgotten is no difference"
        assert result["streams"]["measure"]["only_here"] == 4
        assert f"measure: nothing before {(T0 + timedelta(minutes=1000)).isoformat()} is held" in result["no_longer_held"]


async def test_an_edge_that_is_away_is_said_to_be(broker: Broker, tmp_path: Path) -> None:
    async with hub(broker, tmp_path / "hub", MemoryStore(), silence_s=0.3) as far:
        with pytest.raises(NoReplyError, match=r"edge harbour said nothing for 0\.3 s \(nothing came\)"):
            await far.reconciler.reconcile(DAY)


async def test_requests_that_are_old_repeated_retained_or_of_others_are_not_obeyed(broker: Broker, tmp_path: Path) -> None:
    async with edge(broker, tmp_path) as near, hub(broker, tmp_path / "hub", MemoryStore(), silence_s=5.0) as far:
        await near.outbox.record(readings(0, 40))
        await committed(near.outbox)
        assert (await far.reconciler.backfill(DAY))["frames"] == 2
        counters = near.downlink.counters
        now = SystemClock().now()
        request = BackfillRequest(**DAY.fields()).to_bytes()
        minute = timedelta(minutes=1)

        def sealed(
            named: str = EDGE, private: bytes = PRIVATE, age: timedelta = timedelta(), kind: EnvelopeType = EnvelopeType.REQUEST
        ) -> bytes:
            valid = (now - age - minute, now - age + minute)
            return Signer(private, 2**60).seal(kind, EdgeId(named), request, now=now, valid=valid)

        good = sealed()
        hostile = {
            "edge": sealed("mill"),
            "key": sealed(private=bytes(32)),
            "validity": sealed(age=timedelta(hours=1)),
            "type": sealed(kind=EnvelopeType.COMMAND),
        }
        for number, (check, envelope) in enumerate(hostile.items(), 1):
            await far.publisher.publish(topics.request(EDGE), envelope, retain=False)
            async with asyncio.timeout(60):
                while len(near.downlink.refusals) < number:  # noqa: ASYNC110 (another task counts)
                    await asyncio.sleep(0.01)
            assert near.downlink.refusals[-1].check == check
        await far.publisher.publish(topics.request(EDGE), good, retain=False)
        await far.publisher.publish(topics.request(EDGE), good, retain=False)
        async with asyncio.timeout(60):
            while counters.repeated == 0:  # noqa: ASYNC110 (another task counts)
                await asyncio.sleep(0.01)
        assert counters.requests == 2
        assert near.outbox.counters.backfilled_frames <= 4
