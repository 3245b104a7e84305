"""The outbox: everything recorded survives kill -9, is sent until the hub has committed it, and is kept beyond that.

Callers' readings are gathered for a moment and committed together; a caller is released when its readings are on the
disk, or told that they are not. Room is made by dropping what the hub has, oldest first; only then what it has not,
and that is declared by a skip frame, never while it is in flight.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path

from tieline_core.clock import Clock
from tieline_core.errors import TransientError
from tieline_core.frame import Frame
from tieline_core.ids import EdgeId, PointId
from tieline_core.messages.desired import OutboxRoom, StreamBacklog
from tieline_core.messages.telemetry import Event, Held, IssuedForecast, Severity, Stream, StreamState
from tieline_core.quantities import Reading
from tieline_core.timegrid import from_us, to_us
from tieline_edge.outbox.eviction import Eviction
from tieline_edge.outbox.file import OutboxFile
from tieline_edge.outbox.forgotten import MOST_WAITING, Forgotten
from tieline_edge.outbox.frame_table import ROW_BYTES
from tieline_edge.outbox.gauges import OutboxCounters, room
from tieline_edge.outbox.group_commit import GroupCommit
from tieline_edge.outbox.holdings import Holdings, Place, Repeated
from tieline_edge.outbox.packing import check
from tieline_edge.outbox.recorded import recorded_instants
from tieline_edge.settings import OutboxSettings


class Outbox:
    """Implements :class:`tieline_edge.outbox.ports.Recorder`; open it with :meth:`open`."""

    def __init__(self, path: Path, edge: EdgeId, settings: OutboxSettings, clock: Clock) -> None:
        self.edge = edge
        self.counters = OutboxCounters()
        wake = asyncio.Event()
        self._file = OutboxFile(path, edge, clock, wake.set)
        self._db = self._file.db
        self._table = self._file.table
        self._forgotten = Forgotten(self._db, self._table)
        self.holdings = Holdings(self._db, self._table)
        self._settings = settings
        self._clock = clock
        self._in_flight: dict[Stream, int] = {}
        self._eviction = Eviction(self._db, self._table, settings.max_bytes, self._in_flight, self.counters)
        self._commits = GroupCommit(self._file, self._eviction, settings, clock, self.counters, wake, self._in_flight.clear)

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
            outbox._commits.tell_news()
            with contextlib.suppress(TransientError):  # what is damaged is repaired with the first commit
                outbox._eviction.respect((await outbox.room()).waiting_bytes)
            async with asyncio.TaskGroup() as group:
                writer = group.create_task(outbox._commits.run(), name=f"outbox[{edge}]")
                try:
                    yield outbox
                finally:
                    writer.cancel()
            await outbox._commits.flush()
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
            await self._commits.enqueue(Stream.MEASURE, readings, None)

    async def record_event(self, event: Event) -> None:
        """Keep an event in the alarm stream; returns after the commit."""
        await self._commits.enqueue(Stream.ALARM, (), event)

    async def record_forecast(self, forecast: IssuedForecast) -> None:
        """Keep an issued forecast in the bulk stream; returns after the commit."""
        await self._commits.enqueue(Stream.BULK, (), forecast)

    async def alarm(self, code: str, text: str, severity: Severity = Severity.ALARM) -> None:
        """Record an event of this edge about itself."""
        await self.record_event(self._commits.own_event(code, text, severity))

    async def wait_for_more(self) -> None:
        """Return when something has been committed since the last return."""
        await self._commits.grown.wait()
        self._commits.grown.clear()

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
        self._commits.grown.set()
        return step

    async def room(self) -> OutboxRoom:
        """How full it is, and how long it lasts without the hub."""
        used = waiting = 0
        if self.usable:
            async with self._db.reading():
                used = await self._table.used_bytes()
            rows = (await self._table.waiting()).values()
            waiting = sum(row.bytes + ROW_BYTES * row.frames for row in rows)
        most, per_s = self._settings.max_bytes, self._commits.rate.per_s(self._clock.now())
        return room(self._file.path, used=used, waiting=waiting, most=most, per_s=per_s, usable=self.usable)
