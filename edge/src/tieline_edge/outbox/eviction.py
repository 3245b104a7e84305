"""Making room: what the hub has goes first, oldest first; what it has not leaves a skip frame behind."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Mapping
from typing import Final

from tieline_core.messages.telemetry import FrameKind, Skip, SkipReason, Stream
from tieline_edge.outbox.database import Database
from tieline_edge.outbox.frame_table import ROW_BYTES, FrameTable, skip_frame, skip_of
from tieline_edge.outbox.gauges import OutboxCounters

_log = logging.getLogger(__name__)
_ROWS_AT_ONCE: Final = 4096
#: What is not acknowledged goes in this order when there is no room.
_SACRIFICE: Final = (Stream.BULK, Stream.MEASURE, Stream.ALARM)


class Eviction:
    """Deletes frames inside the caller's transaction.

    Args:
        db: The database.
        table: Its frames.
        max_bytes: Size of the ring.
        in_flight: Highest frame of each stream that may be on its way: nothing up to there is turned into a skip.
        counters: Where it is counted.
    """

    def __init__(
        self, db: Database, table: FrameTable, max_bytes: int, in_flight: Mapping[Stream, int], counters: OutboxCounters
    ) -> None:
        self._db = db
        self._table = table
        self._max_bytes = max_bytes
        self._in_flight = in_flight
        self._counters = counters

    async def make_room(self, now_us: int) -> None:
        """Bring the ring back below its size."""
        used = await self._table.used_bytes()
        if used > self._max_bytes:
            # A sixteenth at once: the next commits need not do it again.
            await self.drop(used - self._max_bytes * 15 // 16, now_us)

    async def drop(self, wanted_bytes: int, now_us: int) -> None:
        """Free so many bytes: what the hub has first, then stream by stream what it has not."""
        freed = await self.acknowledged(wanted_bytes)
        for stream in _SACRIFICE:
            # More rows than one step takes may have to go when the ring was made much smaller.
            while freed < wanted_bytes:
                above = self._in_flight.get(stream, 0)
                more, lost = await self.unacknowledged(stream, above, wanted_bytes - freed, now_us)
                if more == 0:
                    break
                freed += more
                self._counters.lost_readings += lost
                if lost:
                    _log.error("outbox is full: %d readings of stream %s the hub does not have were dropped", lost, stream)
        self._counters.evicted_bytes += freed

    async def acknowledged(self, wanted_bytes: int, before_us: int | None = None) -> int:
        """Delete the oldest acknowledged frames: so many bytes of them, or all that are older. Returns the bytes freed."""
        freed = 0
        while before_us is not None or freed < wanted_bytes:
            rows = await self._db.rows(
                "SELECT id, size FROM frames WHERE acked = 1 AND created_us < ? ORDER BY id LIMIT 64",
                2**62 if before_us is None else before_us,
            )
            if not rows:
                break
            await self._db.run_many("DELETE FROM frames WHERE id = ?", [(row[0],) for row in rows])
            freed += sum(row[1] + ROW_BYTES for row in rows)
        if freed:
            await self._table.grow(-freed)
        return freed

    async def unacknowledged(self, stream: Stream, above_seq: int, wanted_bytes: int, now_us: int) -> tuple[int, int]:
        """Replace the oldest unacknowledged frames above a sequence number by one skip frame.

        Returns:
            Bytes freed and readings lost.
        """
        epoch = await self._table.epoch()
        rows = await self._db.rows(
            "SELECT id, seq, kind, size, readings, CASE kind WHEN 3 THEN body END FROM frames"
            " WHERE stream = ? AND epoch = ? AND acked = 0 AND seq > ? ORDER BY seq LIMIT ?",
            stream,
            epoch,
            above_seq,
            _ROWS_AT_ONCE,
        )
        taken: list[sqlite3.Row] = []
        freed = 0
        for row in rows:
            if freed >= wanted_bytes:
                break
            taken.append(row)
            freed += row[3] + ROW_BYTES
        lost = sum(row[4] for row in taken if row[2] != FrameKind.SKIP)
        if not taken or all(row[2] == FrameKind.SKIP for row in taken):
            return 0, 0
        first = skip_of(taken[0][5]).first if taken[0][2] == FrameKind.SKIP else taken[0][1]
        skip = Skip(first=first, last=taken[-1][1], reason=SkipReason.EVICTED, readings=sum(row[4] for row in taken))
        await self._db.run_many("DELETE FROM frames WHERE id = ?", [(row[0],) for row in taken])
        await self._table.grow(-freed)
        await self._table.insert(skip_frame(stream, skip), epoch, skip.last, now_us)
        return freed, lost
