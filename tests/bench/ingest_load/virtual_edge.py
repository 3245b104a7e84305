"""One edge without devices: the product's window, go-back and relabelling over frames held in memory."""

from __future__ import annotations

import random
import secrets
import time
from collections import deque
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, Protocol

from tieline_core import topics
from tieline_core.frame import Frame, encode
from tieline_core.ids import EdgeId
from tieline_core.messages.telemetry import Ack, FrameKind, Hello, HelloAnswer, Stream, StreamState
from tieline_edge.sync import uplink_state as core

TIMES: Final = core.UplinkTimes()


class Sender(Protocol):
    """Publishes with QoS 1."""

    def send(self, topic: str, payload: bytes) -> None:
        """Hand a message over."""
        ...


@dataclass(slots=True)
class Held:
    """Frames of one stream from the first unacknowledged on; body, number of readings, when it was first sent."""

    first: int = 1
    bodies: deque[tuple[bytes, int]] = field(default_factory=deque)
    sent_at_s: dict[int, float] = field(default_factory=dict)
    acked_hash: str | None = None

    @property
    def next_seq(self) -> int:
        """Number the next new frame gets."""
        return self.first + len(self.bodies)


class HubForgotError(RuntimeError):
    """The hub takes back what it had acknowledged: nothing of the sort may happen in this benchmark."""


class VirtualEdge:
    """Speaks the durable protocol for one edge; driven by :meth:`step`."""

    def __init__(self, edge: EdgeId, rng: random.Random) -> None:
        self.edge = edge
        self.held = {stream: Held() for stream in Stream}
        self.acked_readings = 0
        self.latencies_s: list[float] = []
        self.go_backs = 0
        self._rng = rng
        self._boot = secrets.token_hex(8)
        self._state = core.begin(0, dict.fromkeys(Stream, 0), dict.fromkeys(Stream, 0))

    @property
    def open(self) -> bool:
        """True once the hub has answered."""
        return self._state.open

    @property
    def waiting(self) -> int:
        """Frames that are not acknowledged."""
        return sum(len(held.bodies) for held in self.held.values())

    def hold(self, stream: Stream, body: bytes, readings: int) -> None:
        """Put a frame into the outbox."""
        self.held[stream].bodies.append((body, readings))

    def lost_link(self) -> None:
        """The connection is gone."""
        self._state = core.disconnected(self._state)

    def hear(self, topic: str, payload: bytes) -> None:
        """Take a word of the hub."""
        now_s = time.monotonic()
        if topic == topics.answer(self.edge):
            state, effects = core.answered(self._state, HelloAnswer.from_bytes(payload, topic), now_s)
        else:
            state, effects = core.acknowledged(self._state, Ack.from_bytes(payload, topic), now_s, TIMES)
        self._adopt(state)
        for effect in effects:
            match effect:
                case core.Relabel():
                    for held in self.held.values():
                        held.first, held.acked_hash = 1, None
                        held.sent_at_s.clear()
                case core.Acknowledge(stream, seq):
                    self._release(stream, seq, now_s)
                case core.Rewind() | core.Refuse():
                    raise HubForgotError(f"{self.edge}: {effect}")

    def _release(self, stream: Stream, seq: int, now_s: float) -> None:
        held = self.held[stream]
        while held.first <= seq:
            body, readings = held.bodies.popleft()
            self.acked_readings += readings
            sent_at_s = held.sent_at_s.pop(held.first, None)
            if sent_at_s is not None:
                self.latencies_s.append(now_s - sent_at_s)
            if held.first == seq:
                held.acked_hash = self._frame(stream, seq, body).sha256
            held.first += 1

    def step(self, sender: Sender) -> None:
        """Let time pass and send what the window allows."""
        now_s = time.monotonic()
        state, effects = core.tick(self._state, now_s, TIMES)
        self._adopt(state)
        if effects:
            self._say_hello(sender, now_s)
        for stream in Stream:
            held, sent = self.held[stream], self._state.streams[stream].sent
            last = min(held.next_seq - 1, sent + self._state.room(stream, TIMES))
            for seq in range(sent + 1, last + 1):
                body, _ = held.bodies[seq - held.first]
                sender.send(topics.frame(self.edge, stream), encode(self._frame(stream, seq, body)))
                held.sent_at_s.setdefault(seq, now_s)
                self._state = core.sent(self._state, stream, seq, now_s)

    def _adopt(self, state: core.UplinkState) -> None:
        self.go_backs += sum(state.streams[s].sent < self._state.streams[s].sent for s in Stream if state.open)
        self._state = state

    def _frame(self, stream: Stream, seq: int, body: bytes) -> Frame:
        return Frame(self.edge, self._state.epoch, stream, seq, FrameKind.READINGS, body)

    def _say_hello(self, sender: Sender, now_s: float) -> None:
        nonce = secrets.token_hex(16)
        wait_s = core.hello_wait_s(self._state, TIMES) * self._rng.uniform(0.75, 1.25)
        self._state = core.hello_said(self._state, nonce, now_s + wait_s)
        streams = {
            stream: StreamState(
                next_seq=held.next_seq, oldest_seq=held.first, acked_seq=held.first - 1, acked_sha256=held.acked_hash
            )
            for stream, held in self.held.items()
        }
        hello = Hello(
            edge_id=self.edge,
            epoch=self._state.epoch,
            boot_id=self._boot,
            nonce=nonce,
            streams=streams,
            software="bench",
            at=datetime.now(UTC),  # noqa: TID251 (a benchmark's own clock)
        )
        sender.send(topics.hello(self.edge), hello.to_bytes())
