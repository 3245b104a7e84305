"""What the ring still holds, acknowledged or not: counted by hour, and put at the end of its stream again on request."""

from __future__ import annotations

from dataclasses import dataclass

from tieline_core.messages.telemetry import Stream
from tieline_core.reconcile import HourDigest, by_hour
from tieline_edge.outbox.database import Database
from tieline_edge.outbox.frame_table import ROW_BYTES, FrameTable


@dataclass(frozen=True, slots=True)
class Place:
    """How far a backfill of one stream has come: it goes by instant, then by hash."""

    first_us: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Repeated:
    """One step of a backfill.

    Attributes:
        frames: Frames that were put at the end of the stream.
        readings: Readings in them.
        place: Where the next step begins; None when there is nothing left.
    """

    frames: int
    readings: int
    place: Place | None


class Holdings:
    """Reads over all frames of an outbox, whatever their labels."""

    def __init__(self, db: Database, table: FrameTable) -> None:
        self._db = db
        self._table = table

    async def digests(self, stream: Stream, start_us: int, end_us: int) -> list[HourDigest]:
        """What is held of a span, by hour; skips hold nothing."""
        async with self._db.reading():
            rows = await self._db.rows(
                "SELECT first_us, sha256, readings FROM frames WHERE stream = ? AND first_us >= ? AND first_us < ? AND kind <> 3",
                stream,
                start_us,
                end_us,
            )
        return by_hour((int(first), str(sha256), int(readings)) for first, sha256, readings in rows)

    async def oldest_us(self, stream: Stream) -> int | None:
        """Oldest instant of a frame that is held; None when none is."""
        async with self._db.reading():
            ((oldest,),) = await self._db.rows(
                "SELECT min(first_us) FROM frames WHERE stream = ? AND first_us > 0 AND kind <> 3", stream
            )
        return None if oldest is None else int(oldest)

    async def count(self, stream: Stream, start_us: int, end_us: int) -> int:
        """Distinct contents held of a span."""
        async with self._db.reading():
            ((count,),) = await self._db.rows(
                "SELECT count(DISTINCT sha256) FROM frames WHERE stream = ? AND first_us >= ? AND first_us < ? AND kind <> 3",
                stream,
                start_us,
                end_us,
            )
        return int(count)

    async def repeat(
        self, stream: Stream, start_us: int, end_us: int, after: Place | None, limit: int, now_us: int
    ) -> Repeated:
        """Put copies of acknowledged frames of a span at the end of their stream; inside the caller's transaction.

        What is not acknowledged is on its way already. The originals stay where they are, so that a hub that goes back
        within the epoch still finds every number; as the oldest acknowledged frames they are the first to be evicted.
        """
        place = after or Place(start_us, "")
        rows = await self._db.rows(
            "SELECT min(id), first_us, sha256, max(readings), min(acked), min(size) FROM frames"
            " WHERE stream = ? AND first_us >= ? AND first_us < ? AND kind <> 3 AND (first_us, sha256) > (?, ?)"
            " GROUP BY first_us, sha256 ORDER BY first_us, sha256 LIMIT ?",
            stream,
            start_us,
            end_us,
            place.first_us,
            place.sha256,
            limit,
        )
        if not rows:
            return Repeated(0, 0, None)
        wanted = [row for row in rows if row[4] == 1]
        epoch, seq = await self._table.epoch(), (await self._table.next_seqs())[stream]
        await self._db.run_many(
            "INSERT INTO frames (stream, epoch, seq, kind, body, size, sha256, readings, first_us, created_us)"
            " SELECT stream, ?, ?, kind, body, size, sha256, readings, first_us, ? FROM frames WHERE id = ?",
            [(epoch, seq + place, now_us, row[0]) for place, row in enumerate(wanted)],
        )
        await self._db.run("UPDATE streams SET next_seq = ? WHERE stream = ?", seq + len(wanted), stream)
        await self._table.grow(sum(int(row[5]) + ROW_BYTES for row in wanted))
        return Repeated(len(wanted), sum(int(row[3]) for row in wanted), Place(int(rows[-1][1]), str(rows[-1][2])))
