"""The one thread between the durable socket and the ledger.

Gather what has arrived, by count or by time; judge and commit it in one transaction; publish what is committed; only then
send PUBACK. When the ledger is slow or its disk is full, arrivals wait, and beyond the cap the socket is not read: TCP
carries the pressure back to the edges, whose outboxes are made for it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol

from tieline_cloud.ingest.connection import Inbound
from tieline_cloud.ingest.counters import DurableCounters
from tieline_cloud.ingest.hello import judge_hello
from tieline_cloud.ingest.reception import Garbage, edge_on, read_frame, read_hello
from tieline_cloud.ingest.settings import IngestSettings
from tieline_cloud.store.ports import Committed, Ledger, LedgerFrame, Verdict, Watermark
from tieline_core import topics
from tieline_core.clock import Clock
from tieline_core.errors import TransientError
from tieline_core.ids import EdgeId
from tieline_core.messages.telemetry import Ack, Event, Hello, HelloAnswer, Severity, Stream
from tieline_core.timegrid import from_us, to_us

_log = logging.getLogger(__name__)
#: Pieces of garbage stored of one batch; the others are counted only, so that a flood cannot fill the disk.
_QUARANTINED_PER_BATCH: Final = 5
_RETRY_S: Final = 0.5
HELLO_DOCUMENTS: Final = "hello"


class Outlet(Protocol):
    """Where answers go; a connection, or a test's notebook."""

    def publish(self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False) -> bool:
        """Hand a message over; false when there is no connection."""
        ...

    def acknowledge(self, messages: Sequence[Inbound]) -> None:
        """Send PUBACK."""
        ...


@dataclass(frozen=True, slots=True)
class Notices:
    """What the thread tells others; every one is called in the ledger thread and must not block."""

    hello: Callable[[Hello, int], None] = lambda _hello, _epoch: None
    heard: Callable[[EdgeId], None] = lambda _edge: None
    events: Callable[[Sequence[Event]], None] = lambda _events: None


class LedgerThread:
    """Queue, commits and answers; :meth:`run` is the body of the thread.

    Args:
        settings: Limits and pace.
        ledger: Takes frames and watermarks in one transaction.
        clock: For stamps in records.
        outlet: Where answers go.
        notices: Who wants to know.
    """

    def __init__(
        self, settings: IngestSettings, ledger: Ledger, clock: Clock, outlet: Outlet, notices: Notices = Notices()
    ) -> None:
        self.counters = DurableCounters()
        self._settings = settings
        self._ledger = ledger
        self._clock = clock
        self._outlet = outlet
        self._notices = notices
        self._pending: deque[Inbound] = deque()
        self._changed = threading.Condition()
        self._stopping = False
        self._hellos = {
            edge: Hello.from_bytes(body, f"{HELLO_DOCUMENTS}/{edge}")
            for edge, body in ledger.documents(HELLO_DOCUMENTS).items()
        }
        self._raised = 0

    # Network side

    def offer(self, message: Inbound) -> None:
        """Take a message; blocks while too many wait, and with it the reading of the socket."""
        with self._changed:
            if len(self._pending) >= self._settings.max_pending:
                self.counters.blocked += 1
            self._changed.wait_for(lambda: self._stopping or len(self._pending) < self._settings.max_pending)
            if not self._stopping:
                self._pending.append(message)
                self.counters.pending = len(self._pending)
                self._changed.notify_all()

    def stop(self) -> None:
        """End :meth:`run` after the batch at hand; what waits is left to the edges, who hold it."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()

    # Thread

    def run(self) -> None:
        """Serve until :meth:`stop`.

        Raises:
            PermanentError: The ledger cannot go on; the process has to.
        """
        while batch := self._gather():
            self._process(batch)

    def _gather(self) -> list[Inbound]:
        """The next batch; empty at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._stopping or self._pending)
            deadline_s = time.monotonic() + self._settings.commit_after_s
            while not self._stopping and len(self._pending) < self._settings.commit_frames:
                left_s = deadline_s - time.monotonic()
                if left_s <= 0 or not self._changed.wait(left_s):
                    break
            if self._stopping:
                return []
            count = min(len(self._pending), self._settings.commit_frames)
            batch = [self._pending.popleft() for _ in range(count)]
            self.counters.pending = len(self._pending)
            self._changed.notify_all()
            return batch

    def _process(self, batch: Sequence[Inbound]) -> None:
        """Commit, answer and acknowledge one batch, in its order; a full disk is waited for."""
        for step in self._steps(batch):
            while not self._stopping:
                try:
                    step()
                    break
                except TransientError as error:
                    self.counters.commit_failures += 1
                    _log.error("Durable lane waits for the ledger: %s", error)
                    with self._changed:
                        self._changed.wait_for(lambda: self._stopping, _RETRY_S)
        if not self._stopping:
            self._outlet.acknowledge(batch)

    def _steps(self, batch: Sequence[Inbound]) -> Iterator[Callable[[], None]]:
        """Frames between two hellos are one commit; a hello is answered after the frames before it."""
        garbage: list[Garbage] = []
        frames: list[LedgerFrame] = []
        for message in batch:
            if message.topic.endswith("/up/hello"):
                hello = self._admit(message, read_hello(message.topic, message.payload), garbage)
                if isinstance(hello, Hello):
                    yield partial(self._commit, tuple(frames))
                    frames.clear()
                    yield partial(self._greet, hello)
                continue
            read = read_frame(message.topic, message.payload, self._clock.now(), self._settings.limits)
            frame = self._admit(message, read, garbage)
            if isinstance(frame, LedgerFrame):
                frames.append(frame)
        yield partial(self._commit, tuple(frames))
        self.counters.garbage += len(garbage)
        yield partial(self._set_aside, garbage)

    def _admit(
        self, message: Inbound, read: Hello | LedgerFrame | Garbage, garbage: list[Garbage]
    ) -> Hello | LedgerFrame | None:
        admitted = self._settings.admitted_edges
        if isinstance(read, Garbage):
            garbage.append(read)
            return None
        edge = read.edge_id if isinstance(read, Hello) else read.edge
        if admitted is not None and edge not in admitted:
            garbage.append(Garbage(edge, message.topic, message.payload, f"{edge} is not admitted by the hub's settings"))
            return None
        return read

    # Frames

    def _commit(self, frames: Sequence[LedgerFrame]) -> None:
        if not frames:
            return
        started_s = time.monotonic()
        outcome = self._ledger.commit(frames)
        self.counters.commits += 1
        self.counters.commit_seconds += time.monotonic() - started_s
        self._count(frames, outcome)
        taken = [row for row, verdict in zip(frames, outcome.verdicts, strict=True) if verdict is Verdict.ACCEPTED]
        self._settle(frames, outcome)
        events = [event for row in taken for event in row.events]
        if events:
            self._notices.events(events)
        for row in taken:
            if row.refused is not None:
                text = f"frame {row.seq} of stream {row.stream} could not be read and is in quarantine: {row.refused.reason}"
                self._raise(row.edge, "lane.frame_refused", text)

    def _count(self, frames: Sequence[LedgerFrame], outcome: Committed) -> None:
        counters = self.counters
        counters.readings += outcome.rows
        for row, verdict in zip(frames, outcome.verdicts, strict=True):
            counters.frames[verdict] += 1
            if verdict is not Verdict.ACCEPTED:
                continue
            counters.refused_bodies += row.refused is not None
            if row.readings is not None:
                newest = from_us(int(row.readings.at_us.max()))
                if counters.newest_measured_at is None or newest > counters.newest_measured_at:
                    counters.newest_measured_at = newest

    def _settle(self, frames: Sequence[LedgerFrame], outcome: Committed) -> None:
        """Tell every edge of the batch where it stands."""
        verdicts: dict[EdgeId, set[Verdict]] = {}
        for row, verdict in zip(frames, outcome.verdicts, strict=True):
            verdicts.setdefault(row.edge, set()).add(verdict)
        for edge, met in verdicts.items():
            self._notices.heard(edge)
            if Verdict.CONFLICT in met:
                self._part(edge)
            elif Verdict.FOREIGN in met:
                self._answer(edge)
            else:
                self._acknowledge(edge, {lane[1]: mark for lane, mark in outcome.watermarks.items() if lane[0] == edge})

    def _acknowledge(self, edge: EdgeId, marks: Mapping[Stream, Watermark]) -> None:
        if marks:
            epoch = next(iter(marks.values())).epoch
            word = Ack(edge_id=edge, epoch=epoch, committed={stream: mark.seq for stream, mark in marks.items()})
            self.counters.acknowledgements += self._outlet.publish(topics.ack(edge), word.to_bytes())

    # Hello

    def _greet(self, hello: Hello) -> None:
        edge = hello.edge_id
        self.counters.hellos += 1
        marks = self._ledger.watermarks(edge)
        before = self._hellos.get(edge)
        epoch = next(iter(marks.values())).epoch if marks else 0

        def committed(stream: Stream, seq: int) -> str | None:
            return self._ledger.frame_sha256(edge, stream, epoch, seq)

        verdict = judge_hello(hello, marks, committed, before.boot_id if before else None)
        if verdict.reason is not None:
            epoch = self._grant(edge, hello.epoch, verdict.reason, alarming=verdict.alarming)
        self._ledger.put_document(HELLO_DOCUMENTS, edge, hello.to_bytes(), self._clock.now())
        self._hellos[edge] = hello
        self._answer(edge)
        self._notices.heard(edge)
        self._notices.hello(hello, epoch)

    def _grant(self, edge: EdgeId, above: int, reason: str, *, alarming: bool) -> int:
        epoch = self._ledger.grant_epoch(edge, self._clock.now(), above)
        self.counters.epochs_granted += 1
        _log.info("Edge %s gets epoch %d: %s", edge, epoch, reason)
        severity = Severity.ALARM if alarming else Severity.INFORMATION
        self._raise(edge, "lane.new_epoch", f"epoch {epoch} granted: {reason}", severity)
        return epoch

    def _answer(self, edge: EdgeId) -> None:
        """Answer the newest hello of an edge; an edge that never said one has to say it first."""
        hello = self._hellos.get(edge)
        marks = self._ledger.watermarks(edge)
        if hello is None or not marks:
            return
        word = HelloAnswer(
            edge_id=edge,
            nonce=hello.nonce,
            epoch=next(iter(marks.values())).epoch,
            watermarks={stream: mark.seq for stream, mark in marks.items()},
        )
        self._outlet.publish(topics.answer(edge), word.to_bytes())

    def _part(self, edge: EdgeId) -> None:
        """Two senders use one name: whoever said hello last goes on in a new epoch, the other has to say hello again."""
        self._grant(edge, 0, "one label came with two contents: two senders under one name", alarming=True)
        self._answer(edge)

    # Garbage

    def _set_aside(self, garbage: Sequence[Garbage]) -> None:
        for row in garbage[:_QUARANTINED_PER_BATCH]:
            _log.warning("Set aside what came on %s: %s", row.topic, row.reason)
            self._ledger.quarantine(row.edge, row.topic, row.payload, row.reason, self._clock.now())
        # Perhaps a frame was damaged on its way: the edge is told where it stands and sends again from there.
        for edge in {found for row in garbage if (found := edge_on(row.topic)) is not None}:
            self._acknowledge(edge, self._ledger.watermarks(edge))

    def _raise(self, edge: EdgeId, code: str, text: str, severity: Severity = Severity.ALARM) -> None:
        """Record an event of the hub's own."""
        at = self._clock.now()
        self._raised += 1
        event = Event(
            event_id=f"hub-{to_us(at)}-{self._raised}", edge_id=edge, severity=severity, code=code, text=text[:500], at=at
        )
        self._ledger.record_events([event])
        self._notices.events([event])
