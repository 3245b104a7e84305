"""The outbox: everything recorded survives kill -9, is sent until the hub has committed it, and is kept beyond that.

Callers' readings are gathered for a moment and committed together; a caller is released when its readings are on the
disk, or told that they are not. Room is made by dropping what the hub has, oldest first; only then what it has not,
and that is declared by a skip frame, never while it is in flight.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from tieline_core.clock import Clock
from tieline_core.errors import BadInputError, TielineError, TransientError
from tieline_core.frame import Frame
from tieline_core.ids import EdgeId, PointId
from tieline_core.messages.desired import OutboxRoom, StreamBacklog
from tieline_core.messages.telemetry import Event, Held, IssuedForecast, Severity, Stream, StreamState
from tieline_core.quantities import Reading
from tieline_core.timegrid import from_us, to_us
from tieline_edge.outbox.database import code_of, is_damage
from tieline_edge.outbox.eviction import Eviction
from tieline_edge.outbox.file import OutboxFile
from tieline_edge.outbox.forgotten import MOST_WAITING, Forgotten
from tieline_edge.outbox.frame_table import ROW_BYTES, NewFrame
from tieline_edge.outbox.gauges import FillRate, OutboxCounters, room
from tieline_edge.outbox.holdings import Holdings, Place, Repeated
from tieline_edge.outbox.packing import Entry, check, pack
from tieline_edge.outbox.recorded import recorded_instants
from tieline_edge.outbox.reserve import Reserve
from tieline_edge.settings import OutboxSettings

_log = logging.getLogger(__name__)
#: Readings that may wait for a commit; more means that the disk is too slow, and callers are told so at once.
_MAX_PENDING: Final = 200_000
_MAX_RECORD_BYTES: Final = 64 * 1024
_AGE_CHECK: Final = timedelta(minutes=10)
#: After these the file is opened again before anything is believed.
_DISK_TROUBLE: Final = frozenset(
    {sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PROTOCOL, sqlite3.SQLITE_LOCKED}
)


class Outbox:
    """Implements :class:`tieline_edge.outbox.ports.Recorder`; open it with :meth:`open`."""

    def __init__(self, path: Path, edge: EdgeId, settings: OutboxSettings, clock: Clock) -> None:
        self.edge = edge
        self.counters = OutboxCounters()
        self._wake = asyncio.Event()
        self._file = OutboxFile(path, edge, clock, self._wake.set)
        self._db = self._file.db
        self._table = self._file.table
        self._forgotten = Forgotten(self._db, self._table)
        self._reserve = Reserve(path)
        self.holdings = Holdings(self._db, self._table)
        self._settings = settings
        self._clock = clock
        self._pending: list[Entry] = []
        self._pending_readings = 0
        self._grown = asyncio.Event()
        self._in_flight: dict[Stream, int] = {}
        self._eviction = Eviction(self._db, self._table, settings.max_bytes, self._in_flight, self.counters)
        self._rate = FillRate(clock.now())
        self._next_age_check = clock.now()
        #: What the streams' next numbers are when the commit under way has succeeded; empty before that is known.
        self._next_seqs: dict[Stream, int] = {}

    @classmethod
    @asynccontextmanager
    async def open(cls, path: Path, edge: EdgeId, settings: OutboxSettings, clock: Clock) -> AsyncIterator[Outbox]:
        """Open the file, commit in the background, and flush on the way out.

        A damaged file is moved aside under a name that says when, everything readable is taken over into a new one, and an
        ALARM event says what was saved and lost. A disk that refuses is tried again with every commit.

        Raises:
            BadInputError: The file belongs to another edge or a newer release.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        outbox = cls(path, edge, settings, clock)
        try:
            await outbox._file.open()
            outbox._tell_news()
            with contextlib.suppress(TransientError):  # what is damaged is repaired with the first commit
                outbox._eviction.respect((await outbox.room()).waiting_bytes)
            async with asyncio.TaskGroup() as group:
                writer = group.create_task(outbox._write_forever(), name=f"outbox[{edge}]")
                try:
                    yield outbox
                finally:
                    writer.cancel()
            await outbox._commit_pending()
        finally:
            await outbox._db.disconnect()

    @property
    def generation(self) -> int:
        """Counts the files since the start: whoever remembers sequence numbers of an earlier one has to ask again."""
        return self._file.generation

    @property
    def usable(self) -> bool:
        """False while the disk refuses, so that nothing is kept."""
        return self._db.doubt is None

    async def record(self, readings: Sequence[Reading]) -> None:
        """Keep readings; returns after the commit.

        Raises:
            TransientError: The disk refused; nothing of the batch may be acknowledged to its source.
            BadInputError: A point of another edge or an instant no clock shows: the hub would refuse the whole frame.
        """
        for reading in readings:
            check(reading, self.edge)
        if readings:
            await self._enqueue(Stream.MEASURE, readings, None)

    async def record_event(self, event: Event) -> None:
        """Keep an event in the alarm stream; returns after the commit."""
        await self._enqueue(Stream.ALARM, (), event)

    async def record_forecast(self, forecast: IssuedForecast) -> None:
        """Keep an issued forecast in the bulk stream; returns after the commit."""
        await self._enqueue(Stream.BULK, (), forecast)

    async def alarm(self, code: str, text: str, severity: Severity = Severity.ALARM) -> None:
        """Record an event of this edge about itself."""
        await self.record_event(self._event(code, text, severity))

    def _event(self, code: str, text: str, severity: Severity) -> Event:
        at = self._clock.now()
        return Event(event_id=uuid.uuid4().hex, edge_id=self.edge, severity=severity, code=code, text=text[:500], at=at)

    def _tell_news(self) -> None:
        """Let the next commit carry what was repaired."""
        for text in self._file.news:
            self._add(Stream.ALARM, (), self._event("outbox.damaged", text, Severity.ALARM))
        self._file.news.clear()

    async def _enqueue(self, stream: Stream, readings: Sequence[Reading], record: Event | IssuedForecast | None) -> None:
        if record is not None and (size := len(record.model_dump_json())) > _MAX_RECORD_BYTES:
            raise BadInputError(f"{record.record} record", "", f"{size} bytes", f"at most {_MAX_RECORD_BYTES} bytes are kept")
        if self._pending_readings + len(readings) > _MAX_PENDING:
            raise TransientError(f"outbox: {self._pending_readings} readings wait for the disk already")
        await self._add(stream, readings, record)

    def _add(self, stream: Stream, readings: Sequence[Reading], record: Event | IssuedForecast | None) -> asyncio.Future[None]:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        # Nobody waits for the outbox's own words: a failure is in the log and the counters then.
        done.add_done_callback(lambda future: future.cancelled() or future.exception())
        self._pending.append(Entry(stream, readings, record, done))
        self._pending_readings += len(readings)
        self._wake.set()
        return done

    async def _write_forever(self) -> None:
        while True:
            await self._wake.wait()
            await asyncio.sleep(self._settings.commit_interval_s)
            self._wake.clear()
            # A commit under way is finished even when the agent stops: its callers wait for a true answer.
            commit = asyncio.ensure_future(self._commit_pending())
            try:
                await asyncio.shield(commit)
            except asyncio.CancelledError:
                await commit
                raise

    async def _commit_pending(self) -> None:
        if self._db.doubt is not None:
            await self._mend_quietly()
        batch, self._pending = self._pending, []
        self._pending_readings = 0
        if not batch:
            return
        try:
            await self._keep(list(pack(batch, self._settings.frame_readings)))
        except (sqlite3.Error, OSError, ValueError, TielineError) as error:
            self.counters.failed_commits += 1
            _log.error("outbox: commit of %d entries failed: %s", len(batch), error)
            for entry in batch:
                if not entry.done.done():
                    entry.done.set_exception(TransientError(f"outbox: nothing was kept: {error}"))
            return
        self.counters.commits += 1
        for entry in batch:
            self.counters.recorded_readings += len(entry.readings)
            self.counters.recorded_records += entry.record is not None
            if not entry.done.done():
                entry.done.set_result(None)
        self._grown.set()

    async def _keep(self, frames: Sequence[NewFrame]) -> None:
        """Commit frames; whoever returns from here may release their callers.

        Raises:
            sqlite3.Error: Nothing was kept.
        """
        try:
            await self._store(frames)
        except sqlite3.Error as error:
            if code_of(error) == sqlite3.SQLITE_FULL:
                await self._free_the_disk(error)
                await self._store(frames)
            elif is_damage(error):
                self._db.doubt = error
                await self._mend()
                await self._store(frames)
            elif not (code_of(error) in _DISK_TROUBLE and await self._kept_after_all(error)):
                raise

    async def _kept_after_all(self, error: sqlite3.Error) -> bool:
        """After a failed write or sync nobody knows what reached the disk: the file is opened again, synced and asked.

        Trying the same sync again would prove nothing: the system may have dropped what it could not write.
        """
        self._db.doubt = error
        expected = self._next_seqs
        try:
            await self._mend()
            return bool(expected) and {stream: row.next_seq for stream, row in (await self.states()).items()} == expected
        except (sqlite3.Error, TransientError) as again:
            _log.error("outbox: %s; opening it again: %s", error, again)
            return False

    async def _mend(self) -> None:
        before = self.generation
        if self._db.doubt is not None and code_of(self._db.doubt) == sqlite3.SQLITE_FULL:
            self._reserve.release()
        await self._file.mend()
        self.counters.reopened += 1
        if self.generation != before:
            self._in_flight.clear()
        self._tell_news()
        self._grown.set()

    async def _mend_quietly(self) -> None:
        """Try to make the file usable again; whoever waits for a commit is told by that if it did not work."""
        try:
            await self._mend()
        except (sqlite3.Error, OSError, TielineError) as error:
            _log.error("outbox %s is still not usable: %s", self._file.path, error)

    async def _store(self, frames: Sequence[NewFrame]) -> None:
        now = self._clock.now()
        self._next_seqs = {}
        async with self._db.transaction():
            await self._table.append(frames, to_us(now))
            if now >= self._next_age_check:
                before = now - timedelta(days=self._settings.max_age_days)
                self.counters.evicted_bytes += await self._eviction.acknowledged(0, to_us(before))
                self._next_age_check = now + _AGE_CHECK
                if self._reserve.ensure():
                    await self._db.may_grow()
            await self._eviction.make_room(to_us(now))
            self._next_seqs = await self._table.next_seqs()
        self._rate.add(sum(len(frame.body) + ROW_BYTES for frame in frames), now)

    async def _free_the_disk(self, error: sqlite3.Error) -> None:
        """The disk is full: give up the reserve and drop a sixteenth of what is held; the file then has room inside."""
        _log.error("outbox: %s; reserve %s", error, "given up" if self._reserve.release() else "was used up before")
        self.counters.full_disk += 1
        with contextlib.suppress(sqlite3.Error):  # what cannot be copied stays in the log
            await self._db.empty_log()
        await self._db.stop_growing()
        async with self._db.transaction():
            await self._eviction.drop(await self._table.used_bytes() // 16, to_us(self._clock.now()))
        with contextlib.suppress(sqlite3.Error):
            await self._db.empty_log()

    async def wait_for_more(self) -> None:
        """Return when something has been committed since the last return."""
        await self._grown.wait()
        self._grown.clear()

    async def next_frames(self, stream: Stream, after_seq: int, limit: int) -> list[Frame]:
        """Committed frames of the present epoch above a sequence number, ascending, at most ``limit``."""
        return await self._table.frames_after(stream, after_seq, limit)

    def hold(self, stream: Stream, up_to_seq: int) -> None:
        """Say which frames are in flight: nothing at or below this number is turned into a skip."""
        self._in_flight[stream] = up_to_seq

    async def mark_acknowledged(self, stream: Stream, seq: int) -> int:
        """The hub has committed everything up to here; returns the number of frames that were waiting.

        Raises:
            ValueError: The number was never recorded.
            TransientError: The disk refused.
        """
        async with self._changing():
            count = await self._table.acknowledge(stream, seq)
        self.counters.acknowledged_frames += count
        return count

    async def rewind(self, stream: Stream, seq: int) -> None:
        """The hub knows less than it acknowledged: send again from ``seq + 1``, declaring what is no longer held."""
        async with self._changing():
            await self._table.rewind(stream, seq, to_us(self._clock.now()))

    async def relabel(self, epoch: int, held: Held | None = None) -> None:
        """Move all unacknowledged frames into a newly granted epoch, sequence numbers from 1.

        Args:
            epoch: The new epoch.
            held: The hub was put back to an older state and holds no more than this: see :meth:`take_back`.
        """
        async with self._changing():
            if held is not None:
                await self._forgotten.note(held, epoch)
            await self._table.relabel(epoch)
        self._in_flight.clear()

    async def take_back(self) -> bool:
        """Put some of what a restored hub has forgotten in line again, unless enough waits already.

        Returns:
            Whether there was something to do.

        Raises:
            TransientError: The disk refused.
        """
        if not await self.forgotten():
            return False
        if sum(row.frames for row in (await self._table.waiting()).values()) >= MOST_WAITING:
            return False
        async with self._changing():
            self.counters.taken_back_frames += await self._forgotten.step(to_us(self._clock.now()))
        return True

    async def forgotten(self) -> bool:
        """Whether frames a restored hub has forgotten may still have to be put in line."""
        async with self._db.reading():
            return await self._forgotten.pending()

    @asynccontextmanager
    async def _changing(self) -> AsyncIterator[None]:
        try:
            async with self._db.transaction():
                yield
        except sqlite3.Error as error:
            self._db.doubted(error)
            raise TransientError(f"outbox: {error}") from error

    async def recorded_instants(self, points: Sequence[PointId], last: int) -> dict[PointId, list[datetime]]:
        """The newest instants of each point that are kept already: what a repeated message is recognised by."""
        return await recorded_instants(self._db, points, last)

    async def epoch(self) -> int:
        """Epoch in force; 0 = none granted yet."""
        async with self._db.reading():
            return await self._table.epoch()

    async def states(self) -> dict[Stream, StreamState]:
        """Where each stream stands, as a hello says it."""
        return await self._table.states()

    async def backlog(self) -> dict[Stream, StreamBacklog]:
        """What the hub has not acknowledged, and where each stream stands."""
        states = await self._table.states()
        return {
            stream: StreamBacklog(
                frames=row.frames,
                bytes=row.bytes,
                readings=row.readings,
                oldest_at=None if row.oldest_us is None else from_us(row.oldest_us),
                committed_seq=states[stream].acked_seq,
                next_seq=states[stream].next_seq,
            )
            for stream, row in (await self._table.waiting()).items()
        }

    async def repeat(self, stream: Stream, span_us: tuple[int, int], after: Place | None, limit: int) -> Repeated:
        """One step of a backfill: copies of acknowledged frames of a span at the end of their stream.

        Raises:
            TransientError: The disk refused.
        """
        async with self._changing():
            now_us = to_us(self._clock.now())
            step = await self.holdings.repeat(stream, *span_us, after, limit, now_us)
            await self._eviction.make_room(now_us)
        self.counters.backfilled_frames += step.frames
        self._grown.set()
        return step

    async def room(self) -> OutboxRoom:
        """How full it is, and how long it lasts without the hub."""
        used = waiting = 0
        if self.usable:
            async with self._db.reading():
                used = await self._table.used_bytes()
            rows = (await self._table.waiting()).values()
            waiting = sum(row.bytes + ROW_BYTES * row.frames for row in rows)
        most, per_s = self._settings.max_bytes, self._rate.per_s(self._clock.now())
        return room(self._file.path, used=used, waiting=waiting, most=most, per_s=per_s, usable=self.usable)
