"""The group commit: what callers hand in is gathered for a moment and kept together, whatever the disk does meanwhile.

A caller is released when its readings are on the disk, or told that they are not; after a failed write or sync the file is
opened again and asked.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
import uuid
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Final

from tieline_core.clock import Clock
from tieline_core.errors import BadInputError, TielineError, TransientError
from tieline_core.messages.telemetry import Event, IssuedForecast, Severity, Stream
from tieline_core.quantities import Reading
from tieline_core.timegrid import to_us
from tieline_edge.outbox.database import code_of, is_damage
from tieline_edge.outbox.eviction import Eviction
from tieline_edge.outbox.file import OutboxFile
from tieline_edge.outbox.frame_table import ROW_BYTES, NewFrame
from tieline_edge.outbox.gauges import FillRate, OutboxCounters
from tieline_edge.outbox.packing import Entry, pack
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


class GroupCommit:
    """Gathers, commits and answers; :meth:`run` is its task.

    Args:
        file: The outbox file.
        eviction: Makes room inside a commit.
        settings: Pace, size of frames, age of what is kept.
        clock: For stamps and ages.
        counters: What happened since the start.
        wake: Set by whoever wants a commit; the file sets it when it wants to be mended.
        new_file: Called when the file was replaced by a new one.

    Attributes:
        grown: Set when something has been committed.
        rate: How fast the outbox fills.
        next_age_check: When frames are next looked at for their age.
    """

    def __init__(
        self,
        file: OutboxFile,
        eviction: Eviction,
        settings: OutboxSettings,
        clock: Clock,
        counters: OutboxCounters,
        wake: asyncio.Event,
        new_file: Callable[[], None],
    ) -> None:
        self.grown = asyncio.Event()
        self.rate = FillRate(clock.now())
        self.next_age_check = clock.now()
        self._file = file
        self._db = file.db
        self._table = file.table
        self._eviction = eviction
        self._reserve = Reserve(file.path)
        self._settings = settings
        self._clock = clock
        self._counters = counters
        self._wake = wake
        self._new_file = new_file
        self._pending: list[Entry] = []
        self._pending_readings = 0
        #: The streams' next numbers before the commit under way and after it; the latter empty before they are known.
        self._seqs_before: dict[Stream, int] = {}
        self._next_seqs: dict[Stream, int] = {}
        #: Those of a commit whose callers were told that nothing was kept before anybody could ask the file.
        self._unsettled: tuple[dict[Stream, int], dict[Stream, int]] | None = None

    def own_event(self, code: str, text: str, severity: Severity) -> Event:
        """An event of this edge about itself."""
        at = self._clock.now()
        return Event(event_id=uuid.uuid4().hex, edge_id=self._file.edge, severity=severity, code=code, text=text[:500], at=at)

    def tell_news(self) -> None:
        """Let the next commit carry what was repaired."""
        for text in self._file.news:
            self._add(Stream.ALARM, (), self.own_event("outbox.damaged", text, Severity.ALARM))
        self._file.news.clear()

    async def enqueue(self, stream: Stream, readings: Sequence[Reading], record: Event | IssuedForecast | None) -> None:
        """Add something to the next commit and wait for it.

        Raises:
            TransientError: The disk refused or is too slow.
            BadInputError: The record is too large to be kept.
        """
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

    async def run(self) -> None:
        """Commit what comes, until cancelled; :meth:`flush` commits the rest."""
        while True:
            await self._wake.wait()
            await asyncio.sleep(self._settings.commit_interval_s)
            self._wake.clear()
            # A commit under way is finished even when the agent stops: its callers wait for a true answer.
            commit = asyncio.ensure_future(self.flush())
            try:
                await asyncio.shield(commit)
            except asyncio.CancelledError:
                await commit
                raise

    async def flush(self) -> None:
        """Commit what waits now; every caller of it is told how that went."""
        if self._db.doubt is not None:
            await self._mend_quietly()
        batch, self._pending = self._pending, []
        self._pending_readings = 0
        if not batch:
            return
        try:
            await self._keep(list(pack(batch, self._settings.frame_readings)))
        except (sqlite3.Error, OSError, ValueError, TielineError) as error:
            self._counters.failed_commits += 1
            _log.error("outbox: commit of %d entries failed: %s", len(batch), error)
            for entry in batch:
                if not entry.done.done():
                    entry.done.set_exception(TransientError(f"outbox: nothing was kept: {error}"))
            return
        self._counters.commits += 1
        for entry in batch:
            self._counters.recorded_readings += len(entry.readings)
            self._counters.recorded_records += entry.record is not None
            if not entry.done.done():
                entry.done.set_result(None)
        self.grown.set()

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
                await self._store_or_ask(frames)
            elif is_damage(error):
                self._db.doubt = error
                await self._mend()
                await self._store_or_ask(frames)
            elif not await self._kept_after_all(error):
                raise

    async def _store_or_ask(self, frames: Sequence[NewFrame]) -> None:
        try:
            await self._store(frames)
        except sqlite3.Error as error:
            if not await self._kept_after_all(error):
                raise

    async def _kept_after_all(self, error: sqlite3.Error) -> bool:
        """After a failed write or sync nobody knows what reached the disk: the file is opened again, synced and asked.

        Trying the same sync again would prove nothing: the system may have dropped what it could not write. When the file
        cannot be asked now, the callers are told that nothing was kept, and :meth:`_settle` makes that true later.
        """
        if code_of(error) not in _DISK_TROUBLE:
            return False
        self._db.doubt = error
        before, expected = self._seqs_before, self._next_seqs
        try:
            await self._mend()
            async with self._db.reading():
                return bool(expected) and await self._table.next_seqs() == expected
        except (sqlite3.Error, TransientError) as again:
            _log.error("outbox: %s; opening it again: %s", error, again)
            self._unsettled = (before, expected) if expected else self._unsettled
            self._db.doubt = error
            async with self._db.exclusively():
                # Closed, so that no frame is sent before it is known whether it may be there.
                await self._db.disconnect()
            return False

    async def _settle(self) -> None:
        """Take frames back whose callers were told that nothing was kept: they record them again. None can have been sent."""
        unsettled, self._unsettled = self._unsettled, None
        if unsettled is None:
            return
        before, expected = unsettled
        try:
            if await self._table.next_seqs() == expected:
                async with self._db.all_or_nothing():
                    await self._table.withdraw(before)
        except sqlite3.Error:
            self._unsettled = unsettled
            raise

    async def _mend(self) -> None:
        before = self._file.generation
        if self._db.doubt is not None and code_of(self._db.doubt) == sqlite3.SQLITE_FULL:
            self._reserve.release()
        await self._file.mend(self._settle)
        self._counters.reopened += 1
        if self._file.generation != before:
            self._new_file()
        self.tell_news()
        self.grown.set()

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
            self._seqs_before = await self._table.next_seqs()
            await self._table.append(frames, to_us(now))
            if now >= self.next_age_check:
                before = now - timedelta(days=self._settings.max_age_days)
                self._counters.evicted_bytes += await self._eviction.acknowledged(0, to_us(before))
                self.next_age_check = now + _AGE_CHECK
                if self._reserve.ensure():
                    await self._db.may_grow()
            await self._eviction.make_room(to_us(now))
            self._next_seqs = await self._table.next_seqs()
        self.rate.add(sum(len(frame.body) + ROW_BYTES for frame in frames), now)

    async def _free_the_disk(self, error: sqlite3.Error) -> None:
        """The disk is full: give up the reserve and drop a sixteenth of what is held; the file then has room inside."""
        _log.error("outbox: %s; reserve %s", error, "given up" if self._reserve.release() else "was used up before")
        self._counters.full_disk += 1
        with contextlib.suppress(sqlite3.Error):  # what cannot be copied stays in the log
            await self._db.empty_log()
        await self._db.stop_growing()
        async with self._db.transaction():
            await self._eviction.drop(await self._table.used_bytes() // 16, to_us(self._clock.now()))
        with contextlib.suppress(sqlite3.Error):
            await self._db.empty_log()
