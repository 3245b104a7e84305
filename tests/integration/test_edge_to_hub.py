"""Both real ends of the durable lane over a real broker: outbox and uplink here, ingest and ledger there."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

import pytest

from tieline_cloud.ingest.service import Ingest
from tieline_cloud.ingest.settings import BrokerAddress, IngestSettings
from tieline_cloud.store.duckdb_store import DuckDbStore
from tieline_core.clock import SystemClock
from tieline_core.ids import EdgeId, PointId
from tieline_core.messages.telemetry import Event, Severity
from tieline_core.quantities import Quality, Reading
from tieline_edge.outbox.store import Outbox
from tieline_edge.settings import MqttEndpoint, OutboxSettings
from tieline_edge.sync.durable import DurableLane, durable_link
from tieline_edge.sync.uplink import Uplink, UplinkSettings
from tieline_edge.sync.uplink_state import UplinkTimes

pytestmark = pytest.mark.broker

T0 = datetime(2026, 1, 15, 12, tzinfo=UTC)
HARBOUR = EdgeId("harbour")
POINT = PointId("harbour/m01/p_w")
BATCH = 50
FAST = UplinkSettings(UplinkTimes(stall_s=0.3, rehello_s=0.8, hello_s=0.2, hello_cap_s=0.5), drain_frames_per_s=2000.0)


class RunningBroker(Protocol):
    """What the broker fixture gives."""

    host: str
    port: int

    def start(self) -> None: ...
    def kill(self) -> None: ...


class Edge:
    """A running outbox with its uplink."""

    def __init__(self, outbox: Outbox, uplink: Uplink) -> None:
        self.outbox = outbox
        self.uplink = uplink

    async def record(self, first: int, batches: int) -> None:
        """Record batches of readings whose values count on from ``first`` batches."""
        for batch in range(first, first + batches):
            numbers = range(batch * BATCH, (batch + 1) * BATCH)
            await self.outbox.record([Reading(POINT, float(n), T0 + timedelta(seconds=n)) for n in numbers])

    async def drained(self) -> None:
        """Wait until nothing is left to acknowledge."""
        async with asyncio.timeout(60):
            while any(row.frames for row in (await self.outbox.backlog()).values()):  # noqa: ASYNC110 (a file has no event)
                await asyncio.sleep(0.02)


@asynccontextmanager
async def edge(broker: RunningBroker, path: Path, boot: str) -> AsyncIterator[Edge]:
    clock = SystemClock()
    endpoint = MqttEndpoint(host=broker.host, port=broker.port, insecure=True)
    settings = OutboxSettings(commit_interval_s=0.0, frame_readings=BATCH)
    async with Outbox.open(path, HARBOUR, settings, clock) as outbox:
        uplink = Uplink(outbox, clock, "test", boot, FAST)
        task = asyncio.create_task(DurableLane(durable_link(endpoint, HARBOUR), [uplink]).run())
        try:
            yield Edge(outbox, uplink)
        finally:
            task.cancel()
            await asyncio.wait({task})


@asynccontextmanager
async def hub(broker: RunningBroker, path: Path) -> AsyncIterator[DuckDbStore]:
    address = BrokerAddress(broker.host, broker.port, insecure=True)
    with DuckDbStore(path) as store:
        async with Ingest(IngestSettings(address, commit_after_s=0.01), store, SystemClock()):
            yield store


def stored(store: DuckDbStore) -> list[float]:
    return [float(value) for value in store.series(POINT, T0, T0 + timedelta(days=30)).values]


def counted(batches: int) -> list[float]:
    return [float(n) for n in range(batches * BATCH)]


def copy_files(folder: Path, source: str, target: str) -> None:
    """Copy a database with all files beside it, in place of whatever was there."""
    for old in folder.glob(target + "*"):
        old.unlink()
    for file in folder.glob(source + "*"):
        shutil.copy(file, folder / (target + file.name.removeprefix(source)))


async def test_what_was_recorded_before_during_and_after_every_outage_arrives_once(
    broker: RunningBroker, tmp_path: Path
) -> None:
    event = Event(event_id="event-0001", edge_id=HARBOUR, severity=Severity.ALARM, code="shed.thermal", text="load shed", at=T0)
    async with edge(broker, tmp_path / "outbox.db", "boot-1") as peer:
        await peer.record(0, 30)  # nobody listens yet
        async with hub(broker, tmp_path / "hub.duckdb"):
            await peer.drained()
            await peer.record(30, 10)
        await peer.record(40, 10)  # the hub is away
        await peer.outbox.record_event(event)
        async with hub(broker, tmp_path / "hub.duckdb") as store:
            await peer.record(50, 5)
            broker.kill()
            await peer.record(55, 5)
            broker.start()
            await peer.drained()
            assert stored(store) == counted(60)
            assert store.events(edge="harbour")[-1] == event
            assert [row.value for row in store.last()] == [60.0 * BATCH - 1]


async def test_a_restarted_edge_goes_on_where_it_was(broker: RunningBroker, tmp_path: Path) -> None:
    async with hub(broker, tmp_path / "hub.duckdb") as store:
        async with edge(broker, tmp_path / "outbox.db", "boot-1") as peer:
            await peer.record(0, 5)
            await peer.drained()
            await peer.record(5, 5)
        async with edge(broker, tmp_path / "outbox.db", "boot-2") as peer:
            await peer.record(10, 5)
            await peer.drained()
        assert stored(store) == counted(15)


async def test_a_hub_restored_from_an_older_copy_gets_back_what_it_had_acknowledged(
    broker: RunningBroker, tmp_path: Path
) -> None:
    path = tmp_path / "hub.duckdb"
    async with edge(broker, tmp_path / "outbox.db", "boot-1") as peer:
        async with hub(broker, path):
            await peer.record(0, 10)
            await peer.drained()
        shutil.copy(path, tmp_path / "copy")
        async with hub(broker, path):
            await peer.record(10, 10)
            await peer.drained()
        path.unlink()
        shutil.copy(tmp_path / "copy", path)
        async with hub(broker, path) as store:
            await peer.record(20, 2)
            await peer.drained()
            assert stored(store) == counted(22)


async def test_an_edge_restored_from_an_older_copy_loses_and_doubles_nothing(broker: RunningBroker, tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    async with hub(broker, tmp_path / "hub.duckdb") as store:
        async with edge(broker, path, "boot-1") as peer:
            await peer.record(0, 10)
            await peer.drained()
        copy_files(tmp_path, "outbox.db", "copy-outbox.db")
        async with edge(broker, path, "boot-2") as peer:
            await peer.record(10, 5)
            await peer.drained()
        copy_files(tmp_path, "copy-outbox.db", "outbox.db")
        async with edge(broker, path, "boot-3") as peer:
            await peer.record(15, 8)
            await peer.drained()
        assert stored(store) == counted(23)
        assert "restored or cloned" in " ".join(event.text for event in store.events())


async def test_qualities_and_absent_values_survive_the_whole_way(broker: RunningBroker, tmp_path: Path) -> None:
    rows = [
        Reading(POINT, 0.0, T0),
        Reading(POINT, None, T0 + timedelta(seconds=1), Quality.BAD),
        Reading(POINT, -50_000_000.1, T0 + timedelta(seconds=2), Quality.STALE),
        Reading(PointId("harbour/m01/e_import_wh"), 1e13, T0, Quality.SUBSTITUTED),
    ]
    async with edge(broker, tmp_path / "outbox.db", "boot-1") as peer, hub(broker, tmp_path / "hub.duckdb") as store:
        await peer.outbox.record(rows)
        await peer.drained()
        series = store.series(POINT, T0, T0 + timedelta(days=1))
        assert series.values.tolist()[::2] == [0.0, -50_000_000.1]
        assert series.quality.tolist() == [Quality.GOOD, Quality.BAD, Quality.STALE]
        assert [(row.value, row.quality) for row in store.last([rows[3].point])] == [(1e13, Quality.SUBSTITUTED)]
