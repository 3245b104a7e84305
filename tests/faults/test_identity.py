"""Who is who: restored and cloned edge images, a restored hub, forged acknowledgements, two owners of one id."""

from __future__ import annotations

import asyncio
import getpass
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from tests.conftest import Broker, make_broker
from tests.integration.test_reconciliation import EDGE, committed, hub, readings
from tieline_cloud.fleet.owners import Owners
from tieline_cloud.store.adapters import open_store
from tieline_cloud.store.memory_store import MemoryStore
from tieline_cloud.store.ports import Store, Verdict
from tieline_core import topics
from tieline_core.clock import SystemClock
from tieline_core.ids import PointId
from tieline_core.messages.telemetry import Ack, Hello, Severity, Stream
from tieline_core.timegrid import EARLIEST, LATEST
from tieline_edge.outbox.store import Outbox
from tieline_edge.settings import MqttEndpoint, OutboxSettings
from tieline_edge.sync.durable import DurableLane
from tieline_edge.sync.mqtt_session import LinkTimes, MqttSession, PublishRefusedError
from tieline_edge.sync.transport import MqttLink
from tieline_edge.sync.uplink import Uplink

pytestmark = pytest.mark.broker
POINT = PointId("harbour/bat1/p_w")
TIMES = LinkTimes(backoff_s=0.5, backoff_cap_s=5.0)
KEEP = OutboxSettings(commit_interval_s=0.0, frame_readings=20)


@asynccontextmanager
async def edge(broker: Broker, folder: Path, boot: str) -> AsyncIterator[tuple[Outbox, MqttLink]]:
    clock = SystemClock()
    async with Outbox.open(folder / "outbox.sqlite", EDGE, KEEP, clock) as outbox:
        uplink = Uplink(outbox, clock, "tieline-edge 0", boot)
        link = MqttLink(MqttEndpoint(host=broker.host, port=broker.port, insecure=True), f"{EDGE}-durable", TIMES)

        async def alarm(text: str) -> None:
            await outbox.alarm("link.taken_over", text)

        link.on_takeover = alarm
        async with asyncio.TaskGroup() as group:
            running = group.create_task(DurableLane(link, [uplink]).run())
            yield outbox, link
            running.cancel()


def values(store: Store) -> list[float]:
    return sorted(store.series(POINT, EARLIEST, LATEST).values.tolist())


def alarms(store: Store) -> list[str]:
    return [event.text for event in store.events() if event.severity is Severity.ALARM]


def image(folder: Path, name: str) -> Path:
    """A copy of an edge's state, taken while it was off."""
    there = folder.parent / name
    shutil.copytree(folder, there)
    return there


async def test_a_restored_edge_image_goes_on_in_a_new_epoch_with_an_alarm_and_doubles_nothing(
    broker: Broker, tmp_path: Path
) -> None:
    folder, store = tmp_path / "edge", MemoryStore()
    async with hub(broker, tmp_path / "hub", store):
        async with edge(broker, folder, "boot-1") as (outbox, _):
            await outbox.record(readings(0, 100))
            await committed(outbox)
        old = image(folder, "image")
        async with edge(broker, folder, "boot-2") as (outbox, _):
            await outbox.record(readings(100, 100))
            await committed(outbox)
        async with edge(broker, old, "boot-3") as (outbox, _):
            await outbox.record(readings(200, 40))
            await committed(outbox)
            assert await outbox.epoch() > 1
        assert values(store) == [float(n) for n in range(240)]
        assert any("restored or cloned" in text for text in alarms(store))


async def test_a_hub_restored_within_the_epoch_gets_again_what_it_lost(broker: Broker, tmp_path: Path) -> None:
    """The ledger's file of before, put back: the edge goes back to where that stands, in the same epoch."""
    file, backup = tmp_path / "hub.duckdb", tmp_path / "backup.duckdb"
    async with edge(broker, tmp_path / "edge", "boot-1") as (outbox, _):
        for first in (0, 100):
            with open_store(f"duckdb:{file}") as store:
                async with hub(broker, tmp_path / "hub", store):
                    await outbox.record(readings(first, 100))
                    await committed(outbox)
            if first == 0:
                shutil.copy(file, backup)
        epoch = await outbox.epoch()
        with open_store(f"duckdb:{backup}") as store:
            assert len(values(store)) == 100
            async with hub(broker, tmp_path / "hub", store):
                await outbox.record(readings(200, 20))
                async with asyncio.timeout(60):
                    while store.statistics().readings < 220:  # noqa: ASYNC110 (the ledger's thread fills it)
                        await asyncio.sleep(0.02)
                await committed(outbox)
            assert values(store) == [float(n) for n in range(220)]
            assert await outbox.epoch() == epoch


@pytest.mark.parametrize("everything_is_lost", [False, True], ids=["an epoch behind", "empty"])
async def test_a_hub_restored_to_before_the_edges_epoch_gets_again_what_it_lost(
    broker: Broker, tmp_path: Path, everything_is_lost: bool
) -> None:
    """I1, I10: what was acknowledged in an epoch the hub no longer knows comes again without anybody asking for it."""
    file, backup = tmp_path / "hub.duckdb", tmp_path / "backup.duckdb"
    with open_store(f"duckdb:{file}") as store:
        if everything_is_lost:
            shutil.copy(file, backup)
        async with hub(broker, tmp_path / "hub", store), edge(broker, tmp_path / "edge", "boot-1") as (outbox, _):
            await outbox.record(readings(0, 100))
            await committed(outbox)
    if not everything_is_lost:
        shutil.copy(file, backup)
    with open_store(f"duckdb:{file}") as store:
        store.grant_epoch(EDGE, SystemClock().now())  # a doubt of the hub: the edge goes on in a new epoch
        async with hub(broker, tmp_path / "hub", store), edge(broker, tmp_path / "edge", "boot-2") as (outbox, _):
            for first in range(100, 9100, 1000):
                await outbox.record(readings(first, 1000))
            await committed(outbox)
    with open_store(f"duckdb:{backup}") as store:
        async with hub(broker, tmp_path / "hub", store) as far, edge(broker, tmp_path / "edge", "boot-3") as (outbox, _):
            await outbox.record(readings(9100, 20))
            async with asyncio.timeout(60):
                while store.statistics().readings < 9120:  # noqa: ASYNC110 (the ledger's thread fills it)
                    await asyncio.sleep(0.02)
            await committed(outbox)
            assert outbox.counters.taken_back_frames >= 450
            assert far.ingest.durable_counters.frames[Verdict.REPEATED] == 0, "only what is missing comes again"
        assert values(store) == [float(n) for n in range(9120)]


async def test_a_cloned_edge_is_noticed_and_what_both_measured_arrives_once(broker: Broker, tmp_path: Path) -> None:
    """F24: two processes of one image, thrown out by each other through a broker that does not say why."""
    folder, store = tmp_path / "edge", MemoryStore()
    async with hub(broker, tmp_path / "hub", store) as far:
        async with edge(broker, folder, "boot-0") as (outbox, _):
            await outbox.record(readings(0, 40))
            await committed(outbox)
        clone = image(folder, "clone")
        async with edge(broker, folder, "boot-a") as (first, first_link):
            await first.record(readings(100, 40))
            await committed(first)
            async with edge(broker, clone, "boot-b") as (second, second_link):
                await second.record(readings(200, 40))
                await first.record(readings(140, 40))
                await committed(second)
                connects = first_link.counters.connects + second_link.counters.connects
                assert connects <= 20, "the clones chase each other"
            await committed(first)
        assert values(store) == [
            float(n) for first, count in ((0, 40), (100, 80), (200, 40)) for n in range(first, first + count)
        ]
        assert far.ingest.durable_counters.epochs_granted >= 2
        assert alarms(store)


async def test_who_is_thrown_out_by_a_broker_that_says_why_steps_back_longer_each_time() -> None:
    """MQTT 5, reason 0x8E: session taken over."""
    connects: list[float] = []
    told: list[str] = []
    served: list[asyncio.Event] = []

    async def broker(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        served.append(ended := asyncio.Event())
        try:
            await reader.read(100)
            connects.append(asyncio.get_running_loop().time())
            writer.write(b"\x20\x03\x00\x00\x00")  # CONNACK
            await asyncio.sleep(0.1)
            writer.write(b"\xe0\x01\x8e")  # DISCONNECT, session taken over
            await reader.read(100)
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()
            ended.set()

    async def tell(text: str) -> None:
        told.append(text)

    async def serve(session: MqttSession) -> None:
        while True:
            await session.receive()

    server = await asyncio.start_server(broker, "127.0.0.1", 0)
    async with server, asyncio.TaskGroup() as group:
        port = int(server.sockets[0].getsockname()[1])
        quick = replace(TIMES, takeover_s=0.2, takeover_cap_s=1.0)
        link = MqttLink(MqttEndpoint(host="127.0.0.1", port=port, insecure=True), "harbour-durable", quick)
        link.on_takeover = tell
        running = group.create_task(link.run(serve))
        async with asyncio.timeout(60):
            while len(connects) < 5:  # noqa: ASYNC110 (the server counts)
                await asyncio.sleep(0.02)
        running.cancel()
    for ended in served:
        await ended.wait()
    assert link.counters.takeovers >= 4
    assert connects[4] - connects[0] > (0.2 + 0.4 + 0.8 + 1.0) / 4, "each wait is at least a quarter of its ceiling"
    assert len(told) == 1, "told once a minute, not each time"
    assert "another client connected as harbour-durable" in told[0]


def test_the_hub_sees_an_owner_that_was_replaced_speak_again() -> None:
    owners = Owners()
    hello = Hello(
        edge_id=EDGE, epoch=1, boot_id="a", nonce="0" * 16, streams={}, software="tieline-edge 0", at=SystemClock().now()
    )
    said = [owners.greeted(hello.model_copy(update={"boot_id": boot})) for boot in ("a", "a", "b", "b", "a", "b", "c", "c")]
    assert [words is not None for words in said] == [False, False, False, False, True, False, False, False]
    assert "two processes speak for harbour in turn (boot ids a, b)" in str(said[4])


def guarded(folder: Path) -> Broker:
    """A broker with an access list; not started."""
    broker = make_broker(folder)
    (folder / "acl").write_text(
        "user hub\ntopic readwrite tieline/v1/#\n\npattern write tieline/v1/%u/up/#\npattern read tieline/v1/%u/down/#\n",
        encoding="utf-8",
    )
    conf = Path(broker.command[-1])
    # Started by root it would become another user, who may not read the list.
    more = f"user {getpass.getuser()}\nacl_file {folder / 'acl'}\n"
    conf.write_text(conf.read_text(encoding="utf-8") + more, encoding="utf-8")
    return broker


async def test_only_the_hub_may_acknowledge_and_nobody_else_is_heard(tmp_path: Path) -> None:
    """The broker's access list, one line a role: a neighbour and the edge itself are refused, the edge's ring stays."""
    broker = guarded(tmp_path)
    broker.start()
    try:
        ack = Ack(edge_id=EDGE, epoch=1, committed={Stream.MEASURE: 2}).to_bytes()
        for user in ("mill", "harbour"):
            endpoint = MqttEndpoint(host=broker.host, port=broker.port, insecure=True, username=user)
            async with MqttLink(endpoint, f"{user}-stranger", replace(TIMES)).connect() as session:
                with pytest.raises(PublishRefusedError):
                    await session.publish(topics.ack(EDGE), ack)
                with pytest.raises(PublishRefusedError):
                    await session.publish(topics.frame("market", "measure"), b"x")
        endpoint = MqttEndpoint(host=broker.host, port=broker.port, insecure=True, username="hub")
        async with MqttLink(endpoint, "hub", TIMES).connect() as session:
            await session.publish(topics.ack(EDGE), ack)
    finally:
        broker.kill()
