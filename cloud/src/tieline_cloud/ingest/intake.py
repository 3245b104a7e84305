"""The door of the durable lane: limits by edge before anything is parsed, turns, PUBACK in order.

Called from two threads: the network thread offers, the ledger thread gathers and settles. Whoever offers waits while too
much waits in all: the socket is not read then, and TCP carries the pressure back. An edge that alone fills its share, or
comes faster than its rate, is turned away instead, because its pressure would stop all others on the one socket: its
message gets its PUBACK and is forgotten, and the edge, which has no acknowledgement, sends it again later.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from tieline_cloud.ingest.connection import Inbound
from tieline_cloud.ingest.counters import DurableCounters
from tieline_cloud.ingest.fair_queue import FairQueue
from tieline_cloud.ingest.rates import Buckets
from tieline_cloud.ingest.settings import IngestSettings
from tieline_core.frame import HEADER, READINGS_HEADER
from tieline_core.messages.telemetry import FrameKind

#: Work of a frame beside its readings, in readings.
_FRAME_WORK: Final = 256
#: Work an edge may spend in one turn: one frame of the usual size always fits.
_QUANTUM: Final = 8192
_KIND_AT, _EDGE_LENGTH_AT = 4, 6


def announced_readings(payload: bytes) -> int:
    """Readings a frame says it holds, without reading it any further; 0 for anything else."""
    if len(payload) < HEADER.size or payload[_KIND_AT] != FrameKind.READINGS:
        return 0
    offset = HEADER.size + payload[_EDGE_LENGTH_AT]
    if len(payload) < offset + READINGS_HEADER.size:
        return 0
    return int.from_bytes(payload[offset : offset + 4], "little")


def sender_of(topic: str) -> str:
    """Whose limits a message counts against; the broker's access rules see to it that an edge writes its own topics only."""
    parts = topic.split("/", 3)
    return parts[2] if len(parts) == 4 else ""


@dataclass(slots=True)
class Receipt:
    """A message between its arrival and its PUBACK."""

    message: Inbound
    arrived_s: float
    done: bool = False


class Intake:
    """Bounded, fair and limited queue of what arrived.

    Args:
        settings: Bounds and rates.
        counters: Where turned away messages and blocked reads are counted.
        monotonic: Seconds for rates and ages.
    """

    def __init__(
        self, settings: IngestSettings, counters: DurableCounters, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._settings = settings
        self._counters = counters
        self._monotonic = monotonic
        self._queue: FairQueue[Receipt] = FairQueue(_QUANTUM)
        self._order: deque[Receipt] = deque()
        self._bytes = 0
        self._changed = threading.Condition()
        self._stopping = False
        rates = settings.rates
        self._frames = Buckets(rates.frames, monotonic)
        self._volume = Buckets(rates.bytes, monotonic)
        self._hellos = Buckets(rates.hellos, monotonic)

    @property
    def stopping(self) -> bool:
        """True once :meth:`stop` was called."""
        return self._stopping

    def stop(self) -> None:
        """Let everybody who waits go; what is held is left to the edges."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()

    def wait_stop(self, seconds: float) -> None:
        """Return after some seconds or at :meth:`stop`."""
        with self._changed:
            self._changed.wait_for(lambda: self._stopping, seconds)

    def offer(self, message: Inbound) -> bool:
        """Take a message or turn it away; waits while too much waits. False when it was turned away."""
        sender = sender_of(message.topic)
        size = len(message.payload)
        with self._changed:
            why = self._objection(sender, message)
            if why is not None:
                self._counters.turned_away[why] += 1
                self._order.append(Receipt(replace(message, payload=b""), 0.0, done=True))
                return False
            if self._full():
                self._counters.blocked += 1
                self._changed.wait_for(lambda: self._stopping or not self._full())
            if not self._stopping:
                receipt = Receipt(message, self._monotonic())
                work = min(announced_readings(message.payload), self._settings.limits.readings)
                self._queue.push(sender, receipt, _FRAME_WORK + work)
                self._order.append(receipt)
                self._bytes += size
                self._gauge()
                self._changed.notify_all()
        return True

    def _objection(self, sender: str, message: Inbound) -> str | None:
        if message.topic.endswith("/up/hello"):
            if not self._hellos.allow(sender):
                return "hello_rate"
        elif not self._frames.allow(sender):
            return "frame_rate"
        if not self._volume.allow(sender, len(message.payload)):
            return "byte_rate"
        if self._queue.waiting(sender) >= self._settings.max_pending_per_edge:
            return "queue"
        return None

    def _full(self) -> bool:
        settings = self._settings
        return len(self._queue) >= settings.max_pending or self._bytes >= settings.max_pending_bytes

    def gather(self) -> list[Receipt]:
        """The next batch: what came within ``commit_after_s`` of the first, at most one commit; empty at the end."""
        settings = self._settings
        with self._changed:
            self._changed.wait_for(lambda: self._stopping or len(self._queue))
            deadline_s = time.monotonic() + settings.commit_after_s
            while not self._stopping and len(self._queue) < settings.commit_frames:
                left_s = deadline_s - time.monotonic()
                if left_s <= 0 or not self._changed.wait(left_s):
                    break
            if self._stopping:
                return []
            batch = self._queue.take(settings.commit_frames, settings.commit_readings)
            self._bytes -= sum(len(receipt.message.payload) for receipt in batch)
            self._gauge()
            self._changed.notify_all()
            return batch

    def settle(self, batch: Sequence[Receipt]) -> None:
        """Everything that can be done with a batch has been done: it may be acknowledged."""
        with self._changed:
            for receipt in batch:
                receipt.done = True

    def acknowledgeable(self) -> list[Inbound]:
        """Messages whose PUBACK is due, in the order of their arrival (MQTT 5, 4.6: never before an older one's)."""
        ready: list[Inbound] = []
        with self._changed:
            while self._order and self._order[0].done:
                ready.append(self._order.popleft().message)
        return ready

    def _gauge(self) -> None:
        self._counters.pending = len(self._queue)
        self._counters.pending_bytes = self._bytes
