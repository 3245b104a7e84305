"""The one thread between the durable socket and the ledger.

Gather what has arrived, by count or by time; judge and commit it in one transaction; publish what is committed; only then
send PUBACK. A second thread is one batch ahead: it reads the next frames while the ledger is busy with these. When the
ledger is slow or its disk is full, arrivals wait (:mod:`tieline_cloud.ingest.intake`), and beyond the cap the socket is not
read: TCP carries the pressure back to the edges, whose outboxes are made for it.
"""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Final

from tieline_cloud.ingest.connection import Inbound
from tieline_cloud.ingest.counters import DurableCounters
from tieline_cloud.ingest.greeter import Greeter
from tieline_cloud.ingest.intake import Intake, Receipt
from tieline_cloud.ingest.outlet import UNHEARD, Notices, Outlet
from tieline_cloud.ingest.point_budget import PointBudget
from tieline_cloud.ingest.rates import Buckets
from tieline_cloud.ingest.reception import Garbage, edge_on, read_frame, read_hello
from tieline_cloud.ingest.settings import IngestSettings
from tieline_cloud.store.ports import Committed, Ledger, LedgerFrame, Verdict, Watermark
from tieline_core.clock import Clock
from tieline_core.errors import TransientError
from tieline_core.ids import EdgeId
from tieline_core.messages.telemetry import Hello, Stream
from tieline_core.timegrid import from_us

_log = logging.getLogger(__name__)
#: Pieces of garbage stored of one batch; the others are counted only, so that a flood cannot fill the disk.
_QUARANTINED_PER_BATCH: Final = 5
_RETAINED_TOPICS: Final = 10_000
_RETRY_S: Final = 0.5
_EVERYBODY: Final = "*"


@dataclass(frozen=True, slots=True)
class _Batch:
    """What one gathering brought, each with what it reads as (None: retained, not read at all); empty at the end."""

    receipts: Sequence[Receipt]
    read: Sequence[Hello | LedgerFrame | Garbage | None]


class LedgerThread:
    """Queue, commits and answers; :meth:`run` is the body of the thread.

    Args:
        settings: Limits and pace.
        ledger: Takes frames and watermarks in one transaction.
        clock: For stamps in records.
        outlet: Where answers go.
        notices: Who wants to know.
        monotonic: Seconds for rates and latencies.
    """

    def __init__(
        self,
        settings: IngestSettings,
        ledger: Ledger,
        clock: Clock,
        outlet: Outlet,
        notices: Notices = UNHEARD,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.counters = DurableCounters()
        self._settings = settings
        self._ledger = ledger
        self._clock = clock
        self._outlet = outlet
        self._notices = notices
        self._monotonic = monotonic
        self._intake = Intake(settings, self.counters, monotonic)
        self._greeter = Greeter(ledger, clock, outlet, notices, self.counters, settings.rates, monotonic)
        self._points = PointBudget(ledger, settings.max_points_per_edge)
        self._kept = Buckets(settings.rates.kept, monotonic)
        self._kept_of_all = Buckets(settings.rates.kept_of_all, monotonic)
        self._acknowledging = threading.Lock()
        #: What was refused because it was retained: it comes again with every connect and is set aside once.
        self._retained: dict[str, bytes] = {}

    # Network side

    def offer(self, message: Inbound) -> None:
        """Take a message; blocks while too many wait, and with it the reading of the socket."""
        if not self._intake.offer(message):
            self._acknowledge_messages()

    def stop(self) -> None:
        """End :meth:`run` after the batch at hand; what waits is left to the edges, who hold it."""
        self._intake.stop()

    def _acknowledge_messages(self) -> None:
        with self._acknowledging:
            ready = self._intake.acknowledgeable()
            if ready:
                self._outlet.acknowledge(ready)

    # Thread

    def run(self) -> None:
        """Serve until :meth:`stop`.

        Raises:
            PermanentError: The ledger cannot go on; the process has to.
        """
        with ThreadPoolExecutor(1, "frames") as reader:
            try:
                ahead = reader.submit(self._next)
                while (batch := ahead.result()).receipts:
                    ahead = reader.submit(self._next)
                    self._process(batch)
            finally:
                self._intake.stop()  # else the reader would wait for ever for what comes next

    def _next(self) -> _Batch:
        """Gather and read a batch; what it means depends on the batches before and is judged in their order."""
        receipts = self._intake.gather()
        return _Batch(receipts, [self._read(receipt.message) for receipt in receipts])

    def _read(self, message: Inbound) -> Hello | LedgerFrame | Garbage | None:
        if message.retain:
            return None
        if message.topic.endswith("/up/hello"):
            return read_hello(message.topic, message.payload)
        settings = self._settings
        return read_frame(message.topic, message.payload, self._clock.now(), settings.limits, settings.packet_bytes)

    def _process(self, batch: _Batch) -> None:
        """Commit, answer and acknowledge one batch, in its order; a full disk is waited for."""
        for step in self._steps(batch):
            while not self._intake.stopping:
                try:
                    step()
                    break
                except TransientError as error:
                    self.counters.commit_failures += 1
                    _log.error("Durable lane waits for the ledger: %s", error)
                    self._intake.wait_stop(_RETRY_S)
        if not self._intake.stopping:
            now_s = self._monotonic()
            self.counters.settled(now_s - receipt.arrived_s for receipt in batch.receipts)
            self._intake.settle(batch.receipts)
            self._acknowledge_messages()

    def _steps(self, batch: _Batch) -> Iterator[Callable[[], None]]:
        """One round of greetings and one commit, or several where an edge says hello behind frames or hellos of its own."""
        garbage: list[Garbage] = []
        hellos: dict[EdgeId, Hello] = {}
        frames: list[LedgerFrame] = []
        for receipt, read in zip(batch.receipts, batch.read, strict=True):
            if read is None:
                self._refuse_retained(receipt.message, garbage)
                continue
            admitted = self._admit(receipt.message, read, garbage)
            if isinstance(admitted, Hello):
                # What came before it counts when it is answered; frames behind it are judged by what it says.
                if admitted.edge_id in hellos or any(frame.edge == admitted.edge_id for frame in frames):
                    yield partial(self._greeter.greet, tuple(hellos.values()))
                    yield partial(self._commit, tuple(frames))
                    hellos.clear()
                    frames.clear()
                hellos[admitted.edge_id] = admitted
            elif admitted is not None:
                frames.append(admitted)
        yield partial(self._greeter.greet, tuple(hellos.values()))
        yield partial(self._commit, tuple(frames))
        self.counters.garbage += len(garbage)
        yield partial(self._set_aside, garbage)

    def _refuse_retained(self, message: Inbound, garbage: list[Garbage]) -> None:
        """What a broker has kept is no word of an edge: its hello would cost an epoch at every connect of the hub."""
        self.counters.retained += 1
        content = hashlib.sha256(message.payload).digest()
        if self._retained.get(message.topic) != content and len(self._retained) < _RETAINED_TOPICS:
            self._retained[message.topic] = content
            reason = "a retained message: no edge sends one here; remove it from the broker"
            garbage.append(Garbage(edge_on(message.topic) or "", message.topic, message.payload, reason))

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

    def _believes(self, frame: LedgerFrame) -> bool:
        if frame.skip is None or not self._greeter.overreaches(frame.edge, frame.stream, frame.skip):
            return True
        self.counters.skips_refused += 1
        _log.warning("%s/%s skips up to %d, which its hello does not know of", frame.edge, frame.stream, frame.skip.last)
        return False

    def _commit(self, offered: Sequence[LedgerFrame]) -> None:
        frames = self._points.within([frame for frame in offered if self._believes(frame)])
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
                text = f"frame {row.seq} of stream {row.stream} is in quarantine: {row.refused.reason}"
                self._greeter.raise_event(row.edge, "lane.frame_refused", text)

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
        marks: dict[EdgeId, dict[Stream, Watermark]] = {edge: {} for edge in verdicts}
        for (edge, stream), mark in outcome.watermarks.items():
            marks[edge][stream] = mark
        for edge, met in verdicts.items():
            self._notices.heard(edge)
            if met & {Verdict.CONFLICT, Verdict.FOREIGN}:
                self._greeter.forget(edge)
            if Verdict.CONFLICT in met:
                self._greeter.part(edge)
            elif Verdict.FOREIGN in met:
                self._greeter.answer(edge)
            else:
                self._greeter.moved(edge, marks[edge])
                self._greeter.acknowledge(edge, marks[edge])

    # Garbage

    def _set_aside(self, garbage: Sequence[Garbage]) -> None:
        for row in garbage[:_QUARANTINED_PER_BATCH]:
            if self._kept.allow(row.edge) and self._kept_of_all.allow(_EVERYBODY):
                _log.warning("Set aside what came on %s: %s", row.topic, row.reason)
                self._ledger.quarantine(row.edge, row.topic, row.payload, row.reason, self._clock.now())
                self.counters.garbage_kept += 1
        # Perhaps a frame was damaged on its way: the edge is told where it stands and sends again from there.
        for edge in {found for row in garbage if (found := edge_on(row.topic)) is not None}:
            self._greeter.acknowledge(edge, self._greeter.marks(edge))
