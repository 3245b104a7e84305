"""The outbox: everything recorded survives kill -9, is sent until the hub has committed it, and is kept beyond that.

Callers' readings are gathered for a moment and committed together; a caller is released when its readings are on the
disk, or told that they are not. Room is made by dropping what the hub has, oldest first; only then what it has not,
and that is declared by a skip frame, never while it is in flight.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from tieline_core.clock import Clock
from tieline_core.errors import BadInputError, TransientError
from tieline_core.frame import Frame, encode_readings, encode_records
from tieline_core.ids import EdgeId, PointId
from tieline_core.messages.desired import StreamBacklog
from tieline_core.messages.telemetry import Event, FrameKind, IssuedForecast, Severity, Stream, StreamState
from tieline_core.quantities import Reading
from tieline_core.timegrid import EARLIEST, LATEST, from_us, to_us
from tieline_edge.outbox.database import Database, move_aside
from tieline_edge.outbox.eviction import Eviction
from tieline_edge.outbox.frame_table import FrameTable, NewFrame
from tieline_edge.outbox.recorded import recorded_instants
from tieline_edge.outbox.reserve import Reserve
from tieline_edge.settings import OutboxSettings

_log = logging.getLogger(__name__)
#: Readings that may wait for a commit; more means that the disk is too slow, and callers are told so at once.
_MAX_PENDING: Final = 200_000
_MAX_POINTS: Final = 4096
_MAX_RECORD_BYTES: Final = 64 * 1024
_MAX_RECORDS_BYTES: Final = 512 * 1024
_AGE_CHECK: Final = timedelta(minutes=10)
#: What is not acknowledged goes in this order when there is no room.
_SACRIFICE: Final = (Stream.BULK, Stream.MEASURE, Stream.ALARM)


@dataclass(slots=True)
class OutboxCounters:
    """What happened since the start."""

    recorded_readings: int = 0
    recorded_records: int = 0
    commits: int = 0
    failed_commits: int = 0
    full_disk: int = 0
    acknowledged_frames: int = 0
    evicted_bytes: int = 0
    lost_readings: int = 0


@dataclass(frozen=True, slots=True)
class _Entry:
    stream: Stream
    readings: Sequence[Reading]
    record: Event | IssuedForecast | None
    done: asyncio.Future[None]


class Outbox:
    """Implements :class:`tieline_edge.outbox.ports.Recorder`; open it with :meth:`open`."""

    def __init__(self, database: Database, reserve: Reserve, edge: EdgeId, settings: OutboxSettings, clock: Clock) -> None:
        self.edge = edge
        self.counters = OutboxCounters()
        self._db = database
        self._reserve = reserve
        self._table = FrameTable(database, edge)
        self._eviction = Eviction(database, self._table)
        self._settings = settings
        self._clock = clock
        self._pending: list[_Entry] = []
        self._pending_readings = 0
        self._wake = asyncio.Event()
        self._grown = asyncio.Event()
        self._in_flight: dict[Stream, int] = {}
        self._next_age_check = clock.now()

    @classmethod
    @asynccontextmanager
    async def open(cls, path: Path, edge: EdgeId, settings: OutboxSettings, clock: Clock) -> AsyncIterator[Outbox]:
        """Open the file, commit in the background, and flush on the way out.

        A damaged file is moved aside under a name that says when, a new one is started and an ALARM event recorded.

        Raises:
            BadInputError: The file belongs to another edge or a newer release.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        async with AsyncExitStack() as stack:
            aside: Path | None = None
            try:
                database = await stack.enter_async_context(Database.open(path, edge))
            except sqlite3.DatabaseError as error:
                aside = move_aside(path, clock.now())
                _log.exception("outbox %s is damaged (%s), moved to %s", path, error, aside.name)
                database = await stack.enter_async_context(Database.open(path, edge))
            outbox = cls(database, Reserve(path), edge, settings, clock)
            async with asyncio.TaskGroup() as group:
                writer = group.create_task(outbox._write_forever(), name=f"outbox[{edge}]")
                try:
                    if aside is not None:
                        await outbox.alarm(
                            "outbox.damaged", f"The outbox was damaged; it was moved to {aside.name} and a new one started."
                        )
                    yield outbox
                finally:
                    writer.cancel()
            await outbox._commit_pending()

    async def record(self, readings: Sequence[Reading]) -> None:
        """Keep readings; returns after the commit.

        Raises:
            TransientError: The disk refused; nothing of the batch may be acknowledged to its source.
            BadInputError: A point of another edge or an instant no clock shows: the hub would refuse the whole frame.
        """
        for reading in readings:
            self._check(reading)
        if readings:
            await self._enqueue(Stream.MEASURE, readings, None)

    def _check(self, reading: Reading) -> None:
        if not reading.point.startswith(f"{self.edge}/"):
            raise BadInputError("outbox", str(reading.point), self.edge, "a point of another edge cannot be recorded here")
        if not EARLIEST <= reading.measured_at <= LATEST:
            reason = f"an instant from {EARLIEST.year} to {LATEST.year - 1} was expected"
            raise BadInputError("outbox", f"{reading.point}.measured_at", reading.measured_at.isoformat(), reason)

    async def record_event(self, event: Event) -> None:
        """Keep an event in the alarm stream; returns after the commit."""
        await self._enqueue(Stream.ALARM, (), event)

    async def record_forecast(self, forecast: IssuedForecast) -> None:
        """Keep an issued forecast in the bulk stream; returns after the commit."""
        await self._enqueue(Stream.BULK, (), forecast)

    async def alarm(self, code: str, text: str, severity: Severity = Severity.ALARM) -> None:
        """Record an event of this edge about itself."""
        await self.record_event(
            Event(
                event_id=uuid.uuid4().hex,
                edge_id=self.edge,
                severity=severity,
                code=code,
                text=text[:500],
                at=self._clock.now(),
            )
        )

    async def _enqueue(self, stream: Stream, readings: Sequence[Reading], record: Event | IssuedForecast | None) -> None:
        if record is not None and (size := len(record.model_dump_json())) > _MAX_RECORD_BYTES:
            raise BadInputError(f"{record.record} record", "", f"{size} bytes", f"at most {_MAX_RECORD_BYTES} bytes are kept")
        if self._pending_readings + len(readings) > _MAX_PENDING:
            raise TransientError(f"outbox: {self._pending_readings} readings wait for the disk already")
        entry = _Entry(stream, readings, record, asyncio.get_running_loop().create_future())
        self._pending.append(entry)
        self._pending_readings += len(readings)
        self._wake.set()
        await entry.done

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
        batch, self._pending = self._pending, []
        self._pending_readings = 0
        if not batch:
            return
        try:
            frames = list(_pack(batch, self._settings.frame_readings))
            try:
                await self._store(frames)
            except sqlite3.Error as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_FULL:
                    raise
                await self._free_the_disk(error)
                await self._store(frames)
        except (sqlite3.Error, OSError, ValueError) as error:
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

    async def _store(self, frames: Sequence[NewFrame]) -> None:
        now = self._clock.now()
        async with self._db.transaction():
            await self._table.append(frames, to_us(now))
            if now >= self._next_age_check:
                before = now - timedelta(days=self._settings.max_age_days)
                self.counters.evicted_bytes += await self._eviction.acknowledged(0, to_us(before))
                self._next_age_check = now + _AGE_CHECK
                self._reserve.ensure()
            await self._make_room(to_us(now))

    async def _free_the_disk(self, error: sqlite3.Error) -> None:
        """The disk is full: give up the reserve and drop a sixteenth of what is held; the file then has room inside."""
        _log.error("outbox: %s; reserve %s", error, "given up" if self._reserve.release() else "was used up before")
        self.counters.full_disk += 1
        async with self._db.transaction():
            await self._drop(await self._table.used_bytes() // 16, to_us(self._clock.now()))

    async def _make_room(self, now_us: int) -> None:
        used = await self._table.used_bytes()
        if used <= self._settings.max_bytes:
            return
        # A sixteenth at once: the next commits need not do it again.
        await self._drop(used - self._settings.max_bytes * 15 // 16, now_us)

    async def _drop(self, wanted: int, now_us: int) -> None:
        freed = await self._eviction.acknowledged(wanted)
        for stream in _SACRIFICE:
            if freed < wanted:
                more, lost = await self._eviction.unacknowledged(stream, self._in_flight.get(stream, 0), wanted - freed, now_us)
                freed += more
                self.counters.lost_readings += lost
                if lost:
                    _log.error("outbox is full: %d readings of stream %s the hub does not have were dropped", lost, stream)
        self.counters.evicted_bytes += freed

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

    async def relabel(self, epoch: int) -> None:
        """Move all unacknowledged frames into a newly granted epoch, sequence numbers from 1."""
        async with self._changing():
            await self._table.relabel(epoch)
        self._in_flight.clear()

    @asynccontextmanager
    async def _changing(self) -> AsyncIterator[None]:
        try:
            async with self._db.transaction():
                yield
        except sqlite3.Error as error:
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
        """What the hub has not acknowledged."""
        return {
            stream: StreamBacklog(
                frames=row.frames,
                bytes=row.bytes,
                oldest_at=None if row.oldest_us is None else from_us(row.oldest_us),
            )
            for stream, row in (await self._table.waiting()).items()
        }


def _pack(batch: Sequence[_Entry], frame_readings: int) -> Iterator[NewFrame]:
    """Frames of one commit: readings in order of arrival, records by their stream."""
    readings = [reading for entry in batch for reading in entry.readings]
    step = min(frame_readings, _MAX_POINTS)
    for start in range(0, len(readings), step):
        part = readings[start : start + step]
        first = min(to_us(reading.measured_at) for reading in part)
        yield NewFrame(Stream.MEASURE, FrameKind.READINGS, encode_readings(part), len(part), first)
    for stream in (Stream.ALARM, Stream.BULK):
        part_records: list[Event | IssuedForecast] = []
        size = 0
        for record in (entry.record for entry in batch if entry.stream is stream and entry.record is not None):
            part_records.append(record)
            size += len(record.model_dump_json())
            if size > _MAX_RECORDS_BYTES:
                yield _records(stream, part_records)
                part_records, size = [], 0
        if part_records:
            yield _records(stream, part_records)


def _records(stream: Stream, records: Sequence[Event | IssuedForecast]) -> NewFrame:
    first = min(record.at if isinstance(record, Event) else record.issued_at for record in records)
    return NewFrame(stream, FrameKind.RECORDS, encode_records(records), 0, to_us(first))
