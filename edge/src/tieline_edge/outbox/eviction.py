"""Making room: what the hub has goes first, oldest first; what it has not leaves a skip frame behind."""

from __future__ import annotations

import sqlite3
from typing import Final

from tieline_core.messages.telemetry import FrameKind, Skip, SkipReason, Stream
from tieline_edge.outbox.database import Database
from tieline_edge.outbox.frame_table import ROW_BYTES, FrameTable, skip_frame, skip_of

_ROWS_AT_ONCE: Final = 4096


class Eviction:
    """Deletes frames inside the caller's transaction."""

    def __init__(self, db: Database, table: FrameTable) -> None:
        self._db = db
        self._table = table

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
