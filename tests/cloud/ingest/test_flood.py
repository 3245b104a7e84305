"""One edge floods the hub over a real broker; the others' frames are committed as if it were not there."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Protocol

import numpy as np
import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from tieline_cloud.ingest.service import Ingest
from tieline_cloud.ingest.settings import BrokerAddress, IngestSettings
from tieline_cloud.store.memory_store import MemoryStore
from tieline_cloud.store.ports import Verdict
from tieline_core import topics
from tieline_core.clock import SystemClock
from tieline_core.frame import Frame, encode, encode_readings
from tieline_core.ids import EdgeId, PointId
from tieline_core.messages.telemetry import Ack, FrameKind, Hello, HelloAnswer, Stream, StreamState
from tieline_core.quantities import Reading

pytestmark = pytest.mark.broker

T0 = datetime(2026, 1, 15, 12, tzinfo=UTC)
CALM = [EdgeId(f"calm-{n}") for n in range(3)]
LOUD = EdgeId("loud")
FLOOD = 20_000


class RunningBroker(Protocol):
    """What the broker fixture gives."""

    host: str
    port: int


def body(edge: EdgeId, seq: int) -> bytes:
    return encode_readings([Reading(PointId(f"{edge}/m1/p_w"), float(seq), T0 + timedelta(seconds=seq))])


class Edges:
    """Several edges on one connection."""

    def __init__(self, client: paho.Client) -> None:
        self.client = client
        self.epochs: dict[str, int] = {}
        self.committed: dict[str, int] = {}
        self.changed = threading.Condition()
        client.on_message = self._hear

    def _hear(self, _client: object, _data: object, got: paho.MQTTMessage) -> None:
        edge = topics.edge_of(got.topic)
        with self.changed:
            if got.topic == topics.answer(edge):
                self.epochs[edge] = HelloAnswer.from_bytes(bytes(got.payload), got.topic).epoch
            else:
                ack = Ack.from_bytes(bytes(got.payload), got.topic)
                self.committed[edge] = max(self.committed.get(edge, 0), ack.committed.get(Stream.MEASURE, 0))
            self.changed.notify_all()

    def say_hello(self, edge: EdgeId) -> None:
        still = StreamState(next_seq=1, oldest_seq=1, acked_seq=0)
        word = Hello(
            edge_id=edge,
            epoch=0,
            boot_id="boot-1",
            nonce="n" * 16,
            streams=dict.fromkeys(Stream, still),
            software="test",
            at=T0,
        )
        self.client.publish(topics.hello(edge), word.to_bytes(), 1)
        with self.changed:
            assert self.changed.wait_for(lambda: edge in self.epochs, 10)

    def send(self, edge: EdgeId, seq: int) -> None:
        frame = Frame(edge, self.epochs[edge], Stream.MEASURE, seq, FrameKind.READINGS, body(edge, seq))
        self.client.publish(topics.frame(edge, "measure"), encode(frame), 1)

    def latency_s(self, edge: EdgeId, seq: int) -> float:
        """Seconds from sending a frame to its acknowledgement; sent again as an edge does after a stall."""
        began_s = time.monotonic()
        self.send(edge, seq)
        with self.changed:
            while not self.changed.wait_for(lambda: self.committed.get(edge, 0) >= seq, 1.5):
                self.send(edge, seq)
                assert time.monotonic() - began_s < 20
        return time.monotonic() - began_s


@contextmanager
def client(broker: RunningBroker, name: str) -> Iterator[paho.Client]:
    ready = threading.Event()
    made = paho.Client(CallbackAPIVersion.VERSION2, name, protocol=paho.MQTTv5)
    made.on_connect = lambda c, *_: c.subscribe([(topics.answer("+"), 1), (topics.ack("+"), 1)])
    made.on_subscribe = lambda *_: ready.set()
    made.connect(broker.host, broker.port)
    made.loop_start()
    try:
        assert ready.wait(60)
        yield made
    finally:
        made.disconnect()
        made.loop_stop()
        made._reset_sockets()


def flood(broker: RunningBroker, stop: threading.Event) -> None:
    """Frames with a gap, hellos and junk of one edge, as fast as the broker takes them."""
    frame = encode(Frame(LOUD, 1, Stream.MEASURE, 5, FrameKind.READINGS, body(LOUD, 5)))
    with client(broker, "flood") as made:
        for n in range(FLOOD):
            if stop.is_set():
                return
            payload = (frame, b"junk", b"x" * 20_000)[n % 3]
            made.publish(topics.frame(LOUD, "measure"), payload, 0)
            made.publish(topics.hello(LOUD), b"{}", 0)


def measure(broker: RunningBroker) -> tuple[list[float], list[float]]:
    """Latencies of the calm edges before and during the flood."""
    with client(broker, "calm") as made:
        edges = Edges(made)
        for edge in CALM:
            edges.say_hello(edge)
        before = [edges.latency_s(edge, seq) for seq in range(1, 6) for edge in CALM]
        stop = threading.Event()
        thread = threading.Thread(target=flood, args=(broker, stop))
        thread.start()
        try:
            during = [edges.latency_s(edge, seq) for seq in range(6, 16) for edge in CALM]
        finally:
            stop.set()
            thread.join()
        return before, during


async def test_a_flooding_edge_does_not_delay_the_commits_of_others(broker: RunningBroker) -> None:
    store = MemoryStore()
    settings = IngestSettings(BrokerAddress(broker.host, broker.port, insecure=True))
    async with Ingest(settings, store, SystemClock()) as ingest:
        while not ingest.durable.connected:  # noqa: ASYNC110 (a fact of another thread, asked for once)
            await asyncio.sleep(0.02)
        before, during = await asyncio.to_thread(measure, broker)
        counters = ingest.durable_counters
    assert counters.frames[Verdict.ACCEPTED] == 45
    assert counters.turned_away["hello_rate"] > 100
    assert float(np.median(during)) < float(np.median(before)) + 1.0
    assert store.statistics().quarantined <= 100
    assert counters.epochs_granted == len(CALM)
