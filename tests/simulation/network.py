"""The network between edge and broker, and the MQTT library's client on it.

A connection is TCP: what is sent arrives in order or not at all. Each direction can be open, a black hole (what is sent waits,
and is lost when the connection ends) or refused. The broker hands a message on at once and may hand it on twice.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Final

import paho.mqtt.client as paho
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.reasoncodes import ReasonCode

from tests.simulation.timeline import Timeline, VirtualLoop

#: A line that is silent for so long is given up by either end.
_KEEPALIVE_S: Final = 20.0


@dataclass(slots=True)
class Line:
    """How the line is at present.

    Attributes:
        up: The edge's messages arrive.
        down: The broker's messages arrive.
        refused: Nobody answers the phone at all.
        delay_s: Longest delay of a message.
        twice: Share of the messages towards the edge that come twice.
    """

    up: bool = True
    down: bool = True
    refused: bool = False
    delay_s: float = 0.05
    twice: float = 0.0

    @property
    def whole(self) -> bool:
        """Both ways are open."""
        return self.up and self.down and not self.refused


@dataclass(frozen=True, slots=True)
class Parcel:
    """A message under way."""

    topic: str
    payload: bytes
    qos: int
    retain: bool


class Network:
    """The line and the broker's end of it.

    Args:
        timeline: Time.
        rng: Delays.
        arrived: Takes what the edge has published.
        subscribed: Told what a client listens to.
    """

    def __init__(
        self,
        timeline: Timeline,
        rng: random.Random,
        arrived: Callable[[str, bytes], None],
        subscribed: Callable[[SimClient, Sequence[str]], None],
    ) -> None:
        self.timeline = timeline
        self.rng = rng
        self.line = Line()
        self.arrived = arrived
        self.subscribed = subscribed
        self.loop: VirtualLoop | None = None
        self.clients: list[SimClient] = []
        self.sent = 0
        self._changes = 0

    def client(self, _version: object, client_id: str, **_rest: Any) -> SimClient:
        """In place of the library's constructor."""
        return SimClient(self, client_id)

    def deliver(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Hand a message to every client that listens to its topic."""
        for client in list(self.clients):
            if client.listens(topic):
                client.hand_on(Parcel(topic, payload, 1, retain))

    def changed(self) -> None:
        """The line has changed: what waited goes on, or is given up after the keepalive."""
        self._changes += 1
        if not self.line.whole:
            change = self._changes
            self.timeline.after(_KEEPALIVE_S, lambda: self.cut("keepalive timed out") if self._changes == change else None)
        for client in list(self.clients):
            client.flush()

    def cut(self, reason: str = "connection reset") -> None:
        """End every connection."""
        for client in list(self.clients):
            client.end(reason, told=True)

    def forget(self) -> None:
        """The process is gone: some of what it sent last may still arrive."""
        for client in list(self.clients):
            client.end("process gone", told=False)


class SimClient:
    """As much of paho's client as the edge uses, with its callbacks."""

    def __init__(self, network: Network, client_id: str) -> None:
        self._net = network
        self.client_id = client_id
        self.on_connect: Any = None
        self.on_disconnect: Any = None
        self.on_message: Any = None
        self.on_publish: Any = None
        self.on_subscribe: Any = None
        self.on_socket_open: Any = None
        self.on_thread_end: Any = None
        self.speaks_will = False
        self.connect_timeout = 5.0
        self.open = False
        self._topics: set[str] = set()
        self._mid = 0
        self._up: list[Callable[[], None]] = []
        self._down: list[Callable[[], None]] = []
        self._up_free_s = 0.0
        self._down_free_s = 0.0

    def will_set(self, *_args: Any, **_rest: Any) -> None:
        """Nobody here listens to wills."""

    def connect(self, *_args: Any, **_rest: Any) -> int:
        """Dial."""
        line, loop = self._net.line, self._net.loop
        if loop is None:
            raise OSError("no process")
        if line.refused:
            raise ConnectionRefusedError("connection refused")
        if not (line.up and line.down):
            loop.blocked_s = self.connect_timeout
            raise TimeoutError("timed out")
        if self.on_socket_open is not None:
            self.on_socket_open(self, None, None)
        self.open = True
        self._net.clients.append(self)
        return 0

    def loop_start(self) -> int:
        """The broker answers CONNECT."""
        code = ReasonCode(PacketTypes.CONNACK, "Success")
        self._back(lambda: self.on_connect(self, None, None, code, None))
        return 0

    def loop_stop(self) -> int:
        """There is no thread."""
        return 0

    def socket(self) -> None:
        """There is no socket."""

    def release(self) -> None:
        """Let go of everything."""
        self.end("released", told=False)

    def disconnect(self, _reason: object = None) -> int:
        """Say goodbye; what was sent before still arrives."""
        for send in self._up:
            send()
        self._up.clear()
        self.end("goodbye", told=False)
        return 0

    def subscribe(self, wishes: Sequence[tuple[str, int]]) -> tuple[int, int | None]:
        """Subscribe."""
        if not self.open:
            return paho.MQTT_ERR_NO_CONN, None
        self._mid += 1
        mid, topics = self._mid, [topic for topic, _ in wishes]

        def arrive() -> None:
            self._topics.update(topics)
            codes = [ReasonCode(PacketTypes.SUBACK, "Granted QoS 1")] * len(topics)
            self._back(lambda: self.on_subscribe(self, None, mid, codes, None))
            self._net.subscribed(self, topics)

        self._forth(arrive)
        return paho.MQTT_ERR_SUCCESS, mid

    def publish(self, topic: str, payload: bytes, qos: int = 0, retain: bool = False) -> Any:
        """Publish."""
        self._mid += 1
        mid = self._mid
        if not self.open:
            return SimpleNamespace(rc=paho.MQTT_ERR_NO_CONN, mid=mid)

        def arrive() -> None:
            if qos:
                code = ReasonCode(PacketTypes.PUBACK, "Success")
                self._back(lambda: self.on_publish(self, None, mid, code, None))
            self._net.sent += 1
            self._net.arrived(topic, payload)

        self._forth(arrive)
        return SimpleNamespace(rc=paho.MQTT_ERR_SUCCESS, mid=mid)

    def listens(self, topic: str) -> bool:
        """Whether it has subscribed to a topic."""
        return topic in self._topics

    def hand_on(self, parcel: Parcel) -> None:
        """The broker sends it a message, perhaps twice."""
        message = SimpleNamespace(topic=parcel.topic, payload=parcel.payload, qos=parcel.qos, retain=parcel.retain)
        for _ in range(2 if self._net.rng.random() < self._net.line.twice else 1):
            self._back(lambda: self.on_message(self, None, message))

    def _forth(self, arrive: Callable[[], None]) -> None:
        self._up.append(arrive)
        self._up_free_s = self._soon(self._up_free_s)
        self._net.timeline.at(self._up_free_s, self.flush)

    def _back(self, arrive: Callable[[], None]) -> None:
        self._down.append(arrive)
        self._down_free_s = self._soon(self._down_free_s)
        self._net.timeline.at(self._down_free_s, self.flush)

    def _soon(self, free_s: float) -> float:
        now_s = self._net.timeline.now_s
        return max(free_s, now_s + self._net.rng.uniform(0.001, self._net.line.delay_s))

    def flush(self) -> None:
        """Let arrive what can: one message each time one is due, all of them after a pause of the line."""
        if not self.open:
            return
        line = self._net.line
        if line.up and self._up:
            self._up.pop(0)()
        if line.down and self._down and self.open:
            self._down.pop(0)()
        due = max(self._up_free_s, self._down_free_s) <= self._net.timeline.now_s
        if due and ((line.up and self._up) or (line.down and self._down)):
            self._net.timeline.after(0.001, self.flush)

    def end(self, reason: str, *, told: bool) -> None:
        """The connection is over; a part of what was under way may have arrived."""
        if not self.open:
            return
        self.open = False
        if self in self._net.clients:
            self._net.clients.remove(self)
        if self._net.line.up:
            for send in self._up[: self._net.rng.randint(0, len(self._up))]:
                send()
        self._up.clear()
        self._down.clear()
        if told and self._net.loop is not None:
            code = ReasonCode(PacketTypes.DISCONNECT, "Unspecified error")
            if self.on_disconnect is not None:
                self.on_disconnect(self, None, None, code, None)
            if self.on_thread_end is not None:
                self.on_thread_end(reason)
