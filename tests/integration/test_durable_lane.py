"""The hub's durable lane over a real broker, with a scripted edge that loses and repeats, and a hub that is killed."""

from __future__ import annotations

import asyncio
import queue
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from tieline_cloud.ingest.service import Ingest, IngestCallbacks
from tieline_cloud.ingest.settings import BrokerAddress, IngestSettings
from tieline_cloud.store.duckdb_store import DuckDbStore
from tieline_cloud.store.memory_store import MemoryStore
from tieline_cloud.store.ports import Store, Verdict
from tieline_core import topics
from tieline_core.clock import SystemClock
from tieline_core.frame import Frame, encode, encode_readings
from tieline_core.ids import EdgeId, PointId
from tieline_core.messages.telemetry import Ack, FrameKind, Hello, HelloAnswer, Stream, StreamState
from tieline_core.quantities import Reading

pytestmark = pytest.mark.broker

T0 = datetime(2026, 1, 15, 12, tzinfo=UTC)
POINT = PointId("harbour/m01/p_w")
ROWS = 20
WINDOW = 16


class RunningBroker(Protocol):
    """What the broker fixture gives."""

    host: str
    port: int

    def start(self) -> None: ...
    def kill(self) -> None: ...


def bodies(count: int, first: int = 0) -> list[bytes]:
    """Bodies of frames: ROWS readings each, whose values count on over all frames."""
    return [
        encode_readings([Reading(POINT, float(n), T0 + timedelta(seconds=n)) for n in range(frame * ROWS, frame * ROWS + ROWS)])
        for frame in range(first, first + count)
    ]


@dataclass
class ScriptedEdge:
    """An edge's durable lane, written from the wire contract and nothing else; every method blocks."""

    host: str
    port: int
    edge: EdgeId
    held: list[bytes]
    epoch: int = 0
    acked: int = 0
    boot_id: str = "boot-1"
    lose: float = 0.0
    repeat: float = 0.0
    rng: random.Random = field(default_factory=lambda: random.Random(7))
    epochs: list[int] = field(default_factory=list)
    inbox: queue.Queue[HelloAnswer | Ack] = field(default_factory=queue.Queue)
    nonce: str = ""

    @contextmanager
    def connected(self) -> Iterator[None]:
        """Connected to the broker and subscribed."""
        ready = threading.Event()
        client = paho.Client(CallbackAPIVersion.VERSION2, f"{self.edge}-durable", protocol=paho.MQTTv5)
        client.on_connect = lambda c, *_: c.subscribe([(topics.answer(self.edge), 1), (topics.ack(self.edge), 1)])
        client.on_subscribe = lambda *_: ready.set()
        client.on_message = self._hear
        client.reconnect_delay_set(1, 1)
        client.connect(self.host, self.port)
        client.loop_start()
        self.client = client
        try:
            assert ready.wait(60)
            yield
        finally:
            client.disconnect()
            client.loop_stop()
            client._reset_sockets()

    def _hear(self, _client: object, _data: object, got: paho.MQTTMessage) -> None:
        kind = HelloAnswer if got.topic == topics.answer(self.edge) else Ack
        self.inbox.put(kind.from_bytes(bytes(got.payload), got.topic))

    def frame(self, index: int) -> Frame:
        return Frame(self.edge, self.epoch, Stream.MEASURE, index + 1, FrameKind.READINGS, self.held[index])

    def send(self, index: int) -> None:
        """Send one held frame over a link that loses and repeats."""
        for _ in range(1 + (self.rng.random() < self.repeat)):
            if self.rng.random() >= self.lose:
                self.client.publish(topics.frame(self.edge, "measure"), encode(self.frame(index)), qos=1)

    def say_hello(self) -> None:
        self.nonce = f"{self.rng.getrandbits(64):016x}"
        held_hash = self.frame(self.acked - 1).sha256 if self.acked else None
        still = StreamState(next_seq=1, oldest_seq=1, acked_seq=0)
        mine = StreamState(next_seq=len(self.held) + 1, oldest_seq=1, acked_seq=self.acked, acked_sha256=held_hash)
        hello = Hello(
            edge_id=self.edge,
            epoch=self.epoch,
            boot_id=self.boot_id,
            nonce=self.nonce,
            streams={Stream.ALARM: still, Stream.MEASURE: mine, Stream.BULK: still},
            software="scripted",
            at=T0,
        )
        self.client.publish(topics.hello(self.edge), hello.to_bytes(), qos=1)

    def take(self, word: HelloAnswer | Ack) -> bool:
        """Take a word of the hub; true when it moved something."""
        if isinstance(word, HelloAnswer):
            if word.nonce != self.nonce:
                return False
            if word.epoch != self.epoch:
                self.held = self.held[self.acked :]  # relabel what is not acknowledged: new epoch, from 1
                self.epoch, self.acked = word.epoch, 0
                self.epochs.append(word.epoch)
            self.acked = max(self.acked, word.watermarks[Stream.MEASURE])
            return True
        committed = word.committed.get(Stream.MEASURE, 0)
        if word.epoch != self.epoch or committed <= self.acked:
            return False
        assert committed <= len(self.held), "acknowledged more than was sent"
        self.acked = committed
        return True

    def drain(self, seconds: float = 20.0, hub: subprocess.Popen[str] | None = None) -> None:
        """Hello, then window and go-back until everything is acknowledged, or the hub process has died."""
        deadline = time.monotonic() + seconds
        greeted, moved_at, next_index = False, 0.0, 0
        while (not greeted or self.acked < len(self.held)) and (hub is None or hub.poll() is None):
            assert time.monotonic() < deadline, f"{self.acked} of {len(self.held)} acknowledged"
            if time.monotonic() - moved_at > 0.4:
                self.say_hello()
                next_index, moved_at = self.acked, time.monotonic()
            while greeted and next_index < min(len(self.held), self.acked + WINDOW):
                self.send(next_index)
                next_index += 1
            try:
                word = self.inbox.get(timeout=0.05)
            except queue.Empty:
                continue
            epoch = self.epoch
            if self.take(word):
                moved_at = time.monotonic()
                greeted = greeted or isinstance(word, HelloAnswer)
                next_index = self.acked if self.epoch != epoch else max(next_index, self.acked)


def settings(broker: RunningBroker) -> IngestSettings:
    return IngestSettings(BrokerAddress(broker.host, broker.port, insecure=True), commit_after_s=0.01)


def scripted(broker: RunningBroker, held: Sequence[bytes], edge: str = "harbour") -> ScriptedEdge:
    return ScriptedEdge(broker.host, broker.port, EdgeId(edge), list(held))


def stored(store: Store) -> list[float]:
    return [float(value) for value in store.series(POINT, T0, T0 + timedelta(days=1)).values]


async def drained(peer: ScriptedEdge) -> None:
    def work() -> None:
        with peer.connected():
            peer.drain()

    await asyncio.to_thread(work)


async def test_frames_lost_and_repeated_on_the_way_are_stored_exactly_once(broker: RunningBroker, tmp_path: Path) -> None:
    peer = scripted(broker, bodies(60))
    peer.lose, peer.repeat = 0.15, 0.15
    with DuckDbStore(tmp_path / "hub.duckdb") as store:
        async with Ingest(settings(broker), store, SystemClock()) as ingest:
            await drained(peer)
            counted = ingest.durable_counters
            assert counted.frames[Verdict.ACCEPTED] == 60
            assert counted.frames[Verdict.GAP] > 0
            assert counted.frames[Verdict.DUPLICATE] + counted.turned_away["waits_already"] > 0
            assert counted.newest_measured_at == T0 + timedelta(seconds=60 * ROWS - 1)
        assert stored(store) == [float(n) for n in range(60 * ROWS)]
    assert peer.epochs == [1]


async def test_an_edge_is_known_by_its_hello_and_its_nonce_reaches_dispatch(broker: RunningBroker) -> None:
    heard: list[tuple[str, int]] = []
    peer = scripted(broker, bodies(1))
    callbacks = IngestCallbacks(hello=lambda hello, epoch: heard.append((hello.nonce, epoch)))
    store = MemoryStore()
    async with Ingest(settings(broker), store, SystemClock(), callbacks) as ingest:
        await drained(peer)
        status = ingest.fleet.edge(EdgeId("harbour"))
        assert status is not None
        assert (status.online_durable, status.epoch, status.nonce, status.software) == (True, 1, peer.nonce, "scripted")
    assert heard[-1] == (peer.nonce, 1)
    # What was learned outlasts the hub; that the edge is online does not.
    async with Ingest(settings(broker), store, SystemClock()) as again:
        status = again.fleet.edge(EdgeId("harbour"))
        assert status is not None
        assert (status.online_durable, status.epoch, status.nonce) == (False, 1, peer.nonce)


async def test_a_restored_gateway_gets_a_new_epoch_and_nothing_is_stored_twice(broker: RunningBroker) -> None:
    store = MemoryStore()
    async with Ingest(settings(broker), store, SystemClock()):
        peer = scripted(broker, bodies(10))
        await drained(peer)
        restored = scripted(broker, bodies(6))  # an image of the time when 4 were acknowledged and 2 were waiting
        restored.epoch, restored.acked, restored.boot_id = 1, 4, "boot-2"
        restored.held += bodies(3, first=20)
        await drained(restored)
    assert restored.epochs == [2]
    expected = [*range(10 * ROWS), *range(20 * ROWS, 23 * ROWS)]
    assert stored(store) == [float(n) for n in expected]
    assert [event.code for event in store.events()].count("lane.new_epoch") == 2


async def test_two_gateways_of_one_image_lose_nothing(broker: RunningBroker) -> None:
    store = MemoryStore()
    async with Ingest(settings(broker), store, SystemClock()) as ingest:
        first = scripted(broker, bodies(5))
        await drained(first)
        clone = scripted(broker, bodies(5) + bodies(8, first=50))
        clone.epoch, clone.acked, clone.boot_id = first.epoch, first.acked, "boot-clone"
        first.held += bodies(3, first=5)
        await drained(first)
        await drained(clone)
        first.held += bodies(2, first=8)
        await drained(first)
        assert ingest.durable_counters.epochs_granted >= 2
    expected = [*range(10 * ROWS), *range(50 * ROWS, 58 * ROWS)]
    assert stored(store) == [float(n) for n in expected]


async def test_garbage_is_set_aside_with_its_reason_and_the_lane_goes_on(broker: RunningBroker) -> None:
    store = MemoryStore()
    peer = scripted(broker, bodies(4))
    foreign = encode(Frame(EdgeId("mill"), 1, Stream.MEASURE, 1, FrameKind.READINGS, bodies(1)[0]))

    def work() -> None:
        with peer.connected():
            held, peer.held = peer.held, peer.held[:1]
            peer.drain()
            for payload in (b"", b"garbage", b"TLF1" + b"\x00" * 40, foreign):
                peer.client.publish(topics.frame("harbour", "measure"), payload, qos=1)
            peer.client.publish(topics.hello("harbour"), b'{"edge_id": 5}', qos=1)
            peer.held = held
            peer.drain()

    async with Ingest(settings(broker), store, SystemClock()) as ingest:
        await asyncio.to_thread(work)
        assert ingest.durable_counters.garbage == 5
    reasons = " | ".join(row.reason for row in store.quarantined())
    for expected in ("shorter than a header", "a frame of mill/measure", "edge_id"):
        assert expected in reasons
    assert stored(store) == [float(n) for n in range(4 * ROWS)]


async def test_a_frame_with_an_unreadable_body_is_kept_aside_and_does_not_stop_its_stream(broker: RunningBroker) -> None:
    store = MemoryStore()
    good = bodies(3)
    stolen = encode_readings([Reading(PointId("mill/m01/p_w"), 1.0, T0)])
    peer = scripted(broker, [good[0], b"\x01" * 40, stolen, good[1], good[2]])
    async with Ingest(settings(broker), store, SystemClock()) as ingest:
        await drained(peer)
        assert ingest.durable_counters.refused_bodies == 2
    assert stored(store) == [float(n) for n in range(3 * ROWS)]
    assert store.points() == [POINT]
    assert "mill/m01/p_w is no point of harbour" in store.quarantined()[0].reason
    assert [event.code for event in store.events()].count("lane.frame_refused") == 2


async def test_an_edge_that_is_not_admitted_is_refused(broker: RunningBroker) -> None:
    store = MemoryStore()
    chosen = IngestSettings(
        BrokerAddress(broker.host, broker.port, insecure=True), admitted_edges=frozenset({"harbour"}), commit_after_s=0.01
    )
    stranger = scripted(broker, bodies(1), edge="stranger")

    def knock() -> None:
        with stranger.connected():
            stranger.say_hello()

    async with Ingest(chosen, store, SystemClock()) as ingest:
        await drained(scripted(broker, bodies(2)))
        await asyncio.to_thread(knock)
        again = scripted(broker, bodies(3))
        again.boot_id = "boot-2"
        await drained(again)
        assert ingest.durable_counters.garbage == 1
    assert store.watermarks(EdgeId("stranger")) == {}
    assert "not admitted" in store.quarantined()[0].reason


async def test_a_broker_that_is_killed_and_comes_back_costs_nothing(broker: RunningBroker) -> None:
    store = MemoryStore()
    peer = scripted(broker, bodies(40))
    async with Ingest(settings(broker), store, SystemClock()) as ingest:

        def work() -> None:
            with peer.connected():
                held, peer.held = peer.held, peer.held[:15]
                peer.drain()
                broker.kill()
                broker.start()
                peer.held = held
                peer.drain()

        await asyncio.to_thread(work)
        assert ingest.durable_counters.connects == 2
    assert stored(store) == [float(n) for n in range(40 * ROWS)]


HUB = """
import asyncio, os, signal, sys
from pathlib import Path
from tieline_cloud.ingest.service import Ingest
from tieline_cloud.ingest.settings import BrokerAddress, IngestSettings
from tieline_cloud.store.duckdb_store import DuckDbStore
from tieline_core.clock import SystemClock

class Dying(DuckDbStore):
    left = int(sys.argv[3])
    def commit(self, frames):
        outcome = super().commit(frames)
        Dying.left -= 1
        if Dying.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return outcome

async def main():
    settings = IngestSettings(BrokerAddress("127.0.0.1", int(sys.argv[2]), insecure=True), commit_frames=4)
    with Dying(Path(sys.argv[1])) as store:
        async with Ingest(settings, store, SystemClock()):
            print("up", flush=True)
            await asyncio.Event().wait()

asyncio.run(main())
"""


def test_a_hub_killed_between_commit_and_acknowledgement_stores_exactly_once(broker: RunningBroker, tmp_path: Path) -> None:
    path = tmp_path / "hub.duckdb"
    peer = scripted(broker, bodies(50))
    deaths = 0

    def hub(commits: int) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", HUB, str(path), str(broker.port), str(commits)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        return process

    with peer.connected():
        for commits in (1, 3):
            with hub(commits) as process:
                peer.drain(hub=process)
                deaths += process.wait(timeout=60) == -signal.SIGKILL
    assert deaths == 2
    with DuckDbStore(path) as store:

        async def finish() -> None:
            async with Ingest(settings(broker), store, SystemClock()):
                await drained(peer)

        asyncio.run(finish())
        assert stored(store) == [float(n) for n in range(50 * ROWS)]
        assert store.statistics().readings == 50 * ROWS
