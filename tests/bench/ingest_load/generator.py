"""The one process that is 97 edges: a connection for each, one thread, one clock.

Commands come over a pipe and are answered over it: ``prepare`` encodes a backlog ahead of time, as an outbox holds it,
``release`` puts it into the outboxes, ``steady`` starts or stops the live load, ``status`` says how everything stands.
"""

from __future__ import annotations

import random
import selectors
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

import numpy as np
import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from tests.bench.ingest_load.source import SECOND_US, EdgeSource, read_meters
from tests.bench.ingest_load.virtual_edge import VirtualEdge
from tieline_core import topics
from tieline_core.frame import encode_batch
from tieline_core.ids import EdgeId
from tieline_core.messages.telemetry import Stream

_TICK_S: Final = 0.1


@dataclass(frozen=True, slots=True)
class Load:
    """What the generator is.

    Attributes:
        port: Of the hub's broker on loopback.
        edges: Edges it speaks for.
        meters: Meters of each; one frame holds a reading of each of them.
        period_s: Time between two frames of an edge in the steady load.
        seed: Of all data.
        meters_file: Parquet of real meters; None = random walks.
    """

    port: int
    edges: int
    meters: int
    period_s: float
    seed: int
    meters_file: Path | None


def edge_id(number: int) -> EdgeId:
    """Name of a virtual edge."""
    return EdgeId(f"virtual-{number:03d}")


class _Link:
    """One edge's connection, served by the generator's own selector."""

    def __init__(self, edge: VirtualEdge, port: int, selector: selectors.BaseSelector) -> None:
        self.edge = edge
        self.ready = False
        self._client = paho.Client(CallbackAPIVersion.VERSION2, f"{edge.edge}-durable", protocol=paho.MQTTv5)
        self._client.max_inflight_messages_set(1000)
        self._client.on_connect = self._subscribe
        self._client.on_subscribe = lambda *_: setattr(self, "ready", True)
        self._client.on_message = lambda _c, _d, got: edge.hear(got.topic, bytes(got.payload))
        self._client.connect("127.0.0.1", port, 60)
        found = self._client.socket()
        assert isinstance(found, socket.socket)
        self._socket = found
        self._selector = selector
        self._events = selectors.EVENT_READ
        selector.register(found, self._events, self)

    def _subscribe(self, client: paho.Client, *_: object) -> None:
        client.subscribe([(topics.answer(self.edge.edge), 1), (topics.ack(self.edge.edge), 1)])

    def send(self, topic: str, payload: bytes) -> None:
        """Publish with QoS 1."""
        self._client.publish(topic, payload, 1)

    def serve(self, events: int) -> None:
        """Read and write what the socket is ready for."""
        if events & selectors.EVENT_READ:
            self._client.loop_read(100)
        if events & selectors.EVENT_WRITE:
            self._client.loop_write()
        if not self._client.is_connected() and self.ready:
            raise ConnectionError(f"{self.edge.edge} has lost its connection")

    def tick(self) -> None:
        """Send what the window allows and say what has to be heard."""
        if self.ready:
            self.edge.step(self)
        self._client.loop_misc()
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._client.want_write() else 0)
        if events != self._events:
            self._events = events
            self._selector.modify(self._socket, events, self)


class Generator:
    """All virtual edges of the benchmark."""

    def __init__(self, load: Load) -> None:
        real = None if load.meters_file is None else read_meters(load.meters_file)
        self._load = load
        self._selector = selectors.DefaultSelector()
        rng = random.Random(load.seed)
        self._edges = [VirtualEdge(edge_id(number), rng) for number in range(load.edges)]
        self._sources = [
            EdgeSource.of(edge.edge, load.meters, load.seed + number, real) for number, edge in enumerate(self._edges)
        ]
        self._links = [_Link(edge, load.port, self._selector) for edge in self._edges]
        self._backlog: list[list[tuple[bytes, int]]] = [[] for _ in self._edges]
        self._oldest_us = (int(time.time()) - 3600) * SECOND_US  # noqa: TID251 (a benchmark's own clock)
        self._due_s: list[float] | None = None
        self.generated = 0

    def _body(self, number: int, at_us: int) -> tuple[bytes, int]:
        self.generated += self._load.meters
        return encode_batch(self._sources[number].batch(at_us)), self._load.meters

    # Commands

    def prepare(self, readings: int) -> dict[str, Any]:
        """Encode a backlog that ends where the one before began."""
        frames = -(-readings // (self._load.edges * self._load.meters))
        first_us = self._oldest_us - frames * SECOND_US
        began_s = time.process_time()
        for number, bodies in enumerate(self._backlog):
            bodies += [self._body(number, first_us + k * SECOND_US) for k in range(frames)]
            self._serve_for(0.0)
        self._oldest_us = first_us - SECOND_US
        sizes = [len(body) for bodies in self._backlog for body, _ in bodies]
        return {
            "readings": frames * self._load.edges * self._load.meters,
            "bytes_per_reading": float(np.sum(sizes)) / max(1, len(sizes) * self._load.meters),
            "encode_cpu_s": time.process_time() - began_s,
        }

    def release(self) -> dict[str, Any]:
        """The backlog stands in the outboxes from now on."""
        for edge, bodies in zip(self._edges, self._backlog, strict=True):
            for body, readings in bodies:
                edge.hold(Stream.BULK, body, readings)
            bodies.clear()
        return {}

    def steady(self, on: bool) -> dict[str, Any]:
        """Start the live load, spread over the period, or end it."""
        period_s, now_s = self._load.period_s, time.monotonic()
        count = len(self._edges)
        self._due_s = [now_s + period_s * number / count for number in range(count)] if on else None
        return {}

    def status(self) -> dict[str, Any]:
        """How everything stands; latencies are those since the last question."""
        latencies = np.array([s for edge in self._edges for s in edge.latencies_s])
        for edge in self._edges:
            edge.latencies_s.clear()
        return {
            "generated": self.generated - sum(readings for bodies in self._backlog for _, readings in bodies),
            "acked": sum(edge.acked_readings for edge in self._edges),
            "waiting": sum(edge.waiting for edge in self._edges),
            "open": sum(edge.open for edge in self._edges),
            "go_backs": sum(edge.go_backs for edge in self._edges),
            "latencies_s": latencies.tolist(),
        }

    # Loop

    def _generate(self) -> None:
        if self._due_s is None:
            return
        now_s = time.monotonic()
        for number, due_s in enumerate(self._due_s):
            if due_s <= now_s:
                at_us = int(time.time() * SECOND_US) - SECOND_US  # noqa: TID251 (a benchmark's own clock)
                self._edges[number].hold(Stream.MEASURE, *self._body(number, at_us))
                self._due_s[number] = due_s + self._load.period_s

    def _serve_for(self, wait_s: float) -> None:
        for key, events in self._selector.select(wait_s):
            key.data.serve(events)

    def run(self, pipe: Connection) -> None:
        """Serve until told to stop."""
        commands: dict[str, Callable[..., dict[str, Any]]] = {
            "prepare": self.prepare,
            "release": self.release,
            "steady": self.steady,
            "status": self.status,
        }
        ticked_s = 0.0
        while True:
            self._serve_for(0.02)
            if time.monotonic() - ticked_s >= _TICK_S / 10:
                self._generate()
                for link in self._links:
                    link.tick()
                ticked_s = time.monotonic()
            if pipe.poll():
                name, *arguments = pipe.recv()
                if name == "stop":
                    return
                pipe.send(commands[name](*arguments))


def run(load: Load, pipe: Connection) -> None:
    """Body of the process."""
    Generator(load).run(pipe)
