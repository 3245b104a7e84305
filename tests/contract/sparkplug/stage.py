"""An edge node and a host application of Tieline, each behind a recorder, and messages decoded by the second codec."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from tests.conftest import Broker
from tests.contract.sparkplug.reference import DOUBLE, INT64, ReferencePayload, metric
from tests.contract.sparkplug.wire import Connection, Packet, Recorder, recording
from tieline_cloud.fleet.registry import FleetRegistry
from tieline_cloud.ingest.live import LiveHost, LiveNotices
from tieline_cloud.ingest.rebirth import RebirthPace
from tieline_cloud.ingest.settings import BrokerAddress, IngestSettings
from tieline_cloud.store.ports import Ingested, LastValue
from tieline_core.clock import ManualClock
from tieline_core.frame import ReadingBatch
from tieline_core.ids import DeviceId, EdgeId, PointId
from tieline_core.quantities import Quality, Reading
from tieline_edge.settings import MqttEndpoint
from tieline_edge.sync.durable_file import Counters
from tieline_edge.sync.live import LiveLane, LiveSettings
from tieline_edge.sync.live_state import LiveView
from tieline_edge.sync.mqtt_session import LinkTimes
from tieline_edge.sync.transport import MqttLink

START = datetime(2026, 1, 15, 17, 30, tzinfo=UTC)
START_MS = 1_768_498_200_000
LINK = LinkTimes(connect_s=2.0, answer_s=2.0, keepalive_s=5, backoff_s=0.02, backoff_cap_s=0.1)
SETTINGS = LiveSettings(period_s=0.01, floor_wall_s=0.01, refresh_s=60.0, rebirth_wall_s=0.0)
STATE_TOPIC = "spBv1.0/STATE/hub"


@dataclass(frozen=True)
class Word:
    """One Sparkplug message of a node, as somebody else reads it."""

    packet: Packet
    kind: str
    device: str | None
    body: Any

    @property
    def names(self) -> list[str]:
        return [row.name for row in self.body.metrics]

    def row(self, name: str) -> Any:
        """The metric of that name."""
        (found,) = [row for row in self.body.metrics if row.name == name]
        return found


def words(connection: Connection) -> list[Word]:
    """What a node published on one connection; its STATE or anything else would fail here."""
    found = []
    for packet in connection.published:
        space, group, kind, node, *device = packet.topic.split("/")
        assert (space, group, node, len(device) <= 1) == ("spBv1.0", "tieline", "harbour", True)
        found.append(Word(packet, kind, device[0] if device else None, ReferencePayload.FromString(packet.payload)))
    return found


class Raw:
    """A plain MQTT client that says what a test tells it to and keeps what it hears."""

    def __init__(self, port: int, name: str, *filters: str) -> None:
        self.heard: list[tuple[str, bytes, bool]] = []
        self._client = paho.Client(CallbackAPIVersion.VERSION2, name, protocol=paho.MQTTv311)
        self._client.on_message = lambda _c, _d, got: self.heard.append((got.topic, bytes(got.payload), bool(got.retain)))
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        if filters:
            self._client.subscribe([(row, 1) for row in filters])

    def say(self, topic: str, body: bytes, *, qos: int = 0, retain: bool = False) -> None:
        """Publish and wait until the broker has it (QoS 1) or it has left (QoS 0)."""
        self._client.publish(topic, body, qos, retain).wait_for_publish(5)

    def state(self, online: bool, ms: int, host: str = "hub") -> None:
        """Speak as a host application."""
        body = json.dumps({"online": online, "timestamp": ms}).encode()
        self.say(f"spBv1.0/STATE/{host}", body, qos=1, retain=True)

    def close(self) -> None:
        """Disconnect and free every socket."""
        self._client.disconnect()
        self._client.loop_stop()
        self._client._reset_sockets()


@dataclass
class World:
    """What the node sees; a test changes it."""

    clock: ManualClock
    values: dict[str, float | None] = field(default_factory=lambda: {"bat1/p_w": 1000.0, "bat1/soc_pct": 50.0, "tr1/p_w": 7.0})
    quality: Quality = Quality.GOOD
    offline: frozenset[DeviceId] = frozenset()
    ladder: int = 0

    def view(self) -> LiveView:
        rows = []
        for place, (name, value) in enumerate(self.values.items()):
            quality = Quality.BAD if value is None else self.quality
            # Measured one after the other, the last one first: the node has to bring them into the order of time.
            at = self.clock.now() - timedelta(seconds=10 * place)
            rows.append(Reading(PointId(f"harbour/{name}"), value, at, quality))
        return LiveView(
            {row.point: row for row in rows},
            {DeviceId("bat1"): "storage", DeviceId("tr1"): "transformer"},
            self.offline,
            {"ladder_step": self.ladder, "software": "tieline-edge 0"},
        )


@dataclass
class Node:
    """A running edge node and everything its client sent."""

    lane: LiveLane
    world: World
    wire: Recorder
    peer: Raw
    events: list[tuple[str, str]]
    running: asyncio.Task[None]

    def said(self, kind: str | None = None) -> list[Word]:
        """Its messages on the newest connection."""
        return [word for word in words(self.wire.last) if kind in (None, word.kind)] if self.wire.connections else []

    async def until(self, kind: str, count: int = 1) -> list[Word]:
        """Wait for so many messages of a kind on the newest connection."""
        await self.wire.until(lambda: len(self.said(kind)) >= count)
        return self.said(kind)

    async def births(self) -> tuple[Word, Word, Word]:
        """Wait for the node's birth and those of both of its devices."""
        await self.until("DBIRTH", 2)
        first, second, third = self.said()[:3]
        return first, second, third


@asynccontextmanager
async def edge_node(
    broker: Broker, folder: Path, *, online: bool = True, only_311: bool = False, settings: LiveSettings = SETTINGS
) -> AsyncIterator[Node]:
    """A node of two devices at a real broker; the primary host application is played by the test."""
    world, events = World(ManualClock(START)), list[tuple[str, str]]()

    async def notify(code: str, text: str) -> None:
        events.append((code, text))

    async with recording(broker.port, only_311=only_311) as wire:
        peer = Raw(broker.port, "peer", "spBv1.0/#")
        try:
            if online:
                peer.state(True, START_MS)
            link = MqttLink(MqttEndpoint(host="127.0.0.1", port=wire.port, insecure=True), "harbour-live", LINK)
            lane = LiveLane(link, EdgeId("harbour"), world.clock, Counters(folder / "live.json"), world.view, notify, settings)
            async with asyncio.TaskGroup() as group:
                running = group.create_task(lane.run())
                yield Node(lane, world, wire, peer, events, running)
                running.cancel()
        finally:
            peer.close()


@dataclass
class Host:
    """A running host application and everything its client sent."""

    live: LiveHost
    fleet: FleetRegistry
    clock: ManualClock
    wire: Recorder
    peer: Raw
    running: asyncio.Task[None]
    stored: ReadingsKept

    def spoken(self, part: str) -> list[Packet]:
        """What it published on topics with that part, on all connections."""
        return [row for connection in self.wire.connections for row in connection.published if part in row.topic]

    def node(self, name: str = "harbour", group: str = "tieline") -> Sender:
        """A node played by the test."""
        return Sender(self.peer, name, group)

    def last(self) -> dict[str, tuple[float | None, int]]:
        """Newest values and their quality by point."""
        return {str(row.point): (row.value, row.quality) for row in self.live.values()}


class ReadingsKept:
    """Stands where the ledger does and keeps what is handed over."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, float | None, int, int]] = []
        self.keys: list[str] = []

    def ingest_once(self, batch: ReadingBatch, _source: str, key: str, _sha256: str, at: datetime) -> tuple[Ingested, int]:
        return Ingested.STORED, self.import_readings(batch, key, at)

    def import_readings(self, batch: ReadingBatch, key: str, _at: datetime) -> int:
        self.keys.append(key)
        for row in batch.readings():
            self.rows.append((str(row.point), row.value, int(row.measured_at.timestamp() * 1000), int(row.quality)))
        return len(batch)

    def last(self, _points: Sequence[PointId] | None = None) -> list[LastValue]:
        return []


@dataclass
class Sender:
    """Speaks as a node through the second codec; says exactly what it is told, right or wrong."""

    peer: Raw
    name: str
    group: str
    seq: int = 0
    at_ms: int = START_MS

    def send(self, kind: str, *rows: dict[str, Any], device: str | None = None, seq: int | None = None) -> bytes:
        """Publish a message of metrics given as arguments of :func:`metric`; returns its body."""
        self.seq = seq if seq is not None else 0 if kind == "NBIRTH" else (self.seq + 1) % 256
        payload = ReferencePayload(timestamp=self.at_ms, seq=self.seq)
        if kind == "NDEATH":
            payload.ClearField("seq")
        for row in rows:
            fields = {"timestamp": self.at_ms, **row}
            metric(payload, fields.pop("name", None), fields.pop("kind", DOUBLE), fields.pop("value", None), **fields)
        body = bytes(payload.SerializeToString())
        self.peer.say("/".join(filter(None, ("spBv1.0", self.group, kind, self.name, device))), body)
        return body

    def births(self, bdseq: int = 0) -> None:
        """A node with a device of one metric."""
        self.send("NBIRTH", {"name": "bdSeq", "kind": INT64, "value": bdseq}, {"name": "load_w", "value": 2.0, "alias": 1})
        self.send("DBIRTH", {"name": "p_w", "value": 1.0, "alias": 2}, device="tr1")

    def data(self, value: float, seq: int | None = None) -> bytes:
        """A value of the device's metric."""
        self.at_ms += 1
        return self.send("DDATA", {"alias": 2, "value": value}, device="tr1", seq=seq)

    def death(self, bdseq: int = 0) -> None:
        """The death of a session."""
        self.send("NDEATH", {"name": "bdSeq", "kind": INT64, "value": bdseq})


@asynccontextmanager
async def host_application(broker: Broker, *, only_311: bool = False, **changes: Any) -> AsyncIterator[Host]:
    """A host at a real broker, online."""
    clock, kept = ManualClock(START), ReadingsKept()
    fleet = FleetRegistry(clock)
    async with recording(broker.port, only_311=only_311) as wire:
        address = BrokerAddress("127.0.0.1", wire.port, insecure=True)
        settings = IngestSettings(address, **{"rebirths": RebirthPace(pause_s=0.0), "reorder_s": 0.3, **changes})
        live = LiveHost(settings, fleet, clock, LiveNotices(), kept)
        peer = Raw(broker.port, "peer", "spBv1.0/#")
        try:
            async with asyncio.TaskGroup() as group:
                running = group.create_task(live.run())
                await wire.until(lambda: live.connected)
                yield Host(live, fleet, clock, wire, peer, running, kept)
                running.cancel()
        finally:
            peer.close()
