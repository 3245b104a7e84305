"""The frames of the outbox: sequence numbers, acknowledgements, epochs.

Methods that change something run inside the caller's transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from tieline_core.frame import Frame
from tieline_core.ids import EdgeId
from tieline_core.messages.telemetry import FrameKind, Skip, SkipReason, Stream, StreamState
from tieline_edge.outbox.database import Database

#: What a row costs beside its body.
ROW_BYTES: Final = 200


@dataclass(frozen=True, slots=True)
class NewFrame:
    """A frame that has no sequence number yet."""

    stream: Stream
    kind: FrameKind
    body: bytes
    readings: int
    first_us: int


@dataclass(frozen=True, slots=True)
class Waiting:
    """Unacknowledged frames of one stream."""

    frames: int
    bytes: int
    oldest_us: int | None


class FrameTable:
    """Frames of one edge in an open database."""

    def __init__(self, db: Database, edge: EdgeId) -> None:
        self._db = db
        self._edge = edge

    async def epoch(self) -> int:
        """Epoch in force; 0 = none granted yet."""
        return await self._db.number("epoch")

    async def used_bytes(self) -> int:
        """Bytes of all frames held."""
        return await self._db.number("bytes")

    async def grow(self, by: int) -> None:
        """Count bytes that came (positive) or went (negative)."""
        await self._db.run("UPDATE meta SET value = value + ? WHERE key = 'bytes'", by)

    async def append(self, frames: Sequence[NewFrame], now_us: int) -> None:
        """Give frames their sequence numbers and keep them; inside the caller's transaction."""
        epoch = await self.epoch()
        for frame in frames:
            ((seq,),) = await self._db.rows(
                "UPDATE streams SET next_seq = next_seq + 1 WHERE stream = ? RETURNING next_seq - 1", frame.stream
            )
            await self.insert(frame, epoch, seq, now_us)

    async def insert(self, frame: NewFrame, epoch: int, seq: int, now_us: int) -> None:
        """Keep one frame under a given epoch and sequence number."""
        sha256 = Frame(self._edge, max(epoch, 1), frame.stream, seq, frame.kind, frame.body).sha256
        await self._db.run(
            "INSERT INTO frames (stream, epoch, seq, kind, body, sha256, readings, first_us, created_us)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            frame.stream,
            epoch,
            seq,
            int(frame.kind),
            frame.body,
            sha256,
            frame.readings,
            frame.first_us,
            now_us,
        )
        await self.grow(len(frame.body) + ROW_BYTES)

    async def frames_after(self, stream: Stream, after_seq: int, limit: int) -> list[Frame]:
        """Committed frames of the present epoch above a sequence number, ascending."""
        async with self._db.reading():
            epoch = await self.epoch()
            rows = await self._db.rows(
                "SELECT seq, kind, body FROM frames WHERE stream = ? AND epoch = ? AND seq > ? ORDER BY seq LIMIT ?",
                stream,
                epoch,
                after_seq,
                limit,
            )
        return [Frame(self._edge, epoch, stream, seq, FrameKind(kind), body) for seq, kind, body in rows]

    async def acknowledge(self, stream: Stream, seq: int) -> int:
        """Mark everything up to a sequence number as committed at the hub; returns how many frames that were.

        Raises:
            ValueError: The number was never given to a frame.
        """
        epoch = await self.epoch()
        ((next_seq, acked),) = await self._db.rows("SELECT next_seq, acked_seq FROM streams WHERE stream = ?", stream)
        if seq >= next_seq:
            raise ValueError(f"{stream} {seq} was never recorded; the last frame is {next_seq - 1}")
        if seq <= acked:
            return 0
        await self._set_acknowledged(stream, epoch, seq)
        await self._trim_skip(stream, epoch, seq)
        return await self._db.run(
            "UPDATE frames SET acked = 1 WHERE stream = ? AND epoch = ? AND seq <= ? AND acked = 0", stream, epoch, seq
        )

    async def _trim_skip(self, stream: Stream, epoch: int, seq: int) -> None:
        """Let a skip that reaches below a committed sequence number begin above it: the hub has more than was feared."""
        rows = await self._db.rows(
            "SELECT id, body FROM frames WHERE stream = ? AND epoch = ? AND seq > ? AND kind = 3 ORDER BY seq LIMIT 1",
            stream,
            epoch,
            seq,
        )
        for row_id, body in rows:
            skip = Skip.from_bytes(body, "outbox")
            if skip.first <= seq:
                await self._rewrite(row_id, body, skip_frame(stream, skip.model_copy(update={"first": seq + 1})))

    async def _rewrite(self, row_id: int, old: bytes, frame: NewFrame) -> None:
        sha256 = Frame(self._edge, 1, frame.stream, 1, frame.kind, frame.body).sha256
        await self._db.run("UPDATE frames SET body = ?, sha256 = ? WHERE id = ?", frame.body, sha256, row_id)
        await self.grow(len(frame.body) - len(old))

    async def rewind(self, stream: Stream, seq: int, now_us: int) -> None:
        """Take acknowledgements above a sequence number back: the hub has been restored from an older state."""
        epoch = await self.epoch()
        await self._db.run("UPDATE frames SET acked = 0 WHERE stream = ? AND epoch = ? AND seq > ?", stream, epoch, seq)
        await self._set_acknowledged(stream, epoch, seq)
        rows = await self._db.rows(
            "SELECT seq, kind, body FROM frames WHERE stream = ? AND epoch = ? AND seq > ? ORDER BY seq LIMIT 1",
            stream,
            epoch,
            seq,
        )
        ((oldest,),) = await self._db.rows("SELECT next_seq FROM streams WHERE stream = ?", stream)
        for row_seq, kind, body in rows:
            oldest = Skip.from_bytes(body, "outbox").first if kind == FrameKind.SKIP else row_seq
        if oldest > seq + 1:
            skip = Skip(first=seq + 1, last=oldest - 1, reason=SkipReason.ACKNOWLEDGED, readings=0)
            await self.insert(skip_frame(stream, skip), epoch, skip.last, now_us)
        await self._trim_skip(stream, epoch, seq)

    async def _set_acknowledged(self, stream: Stream, epoch: int, seq: int) -> None:
        await self._db.run(
            "UPDATE streams SET acked_seq = ?, acked_sha256 ="
            " (SELECT sha256 FROM frames WHERE stream = ? AND epoch = ? AND seq = ?) WHERE stream = ?",
            seq,
            stream,
            epoch,
            seq,
            stream,
        )

    async def relabel(self, epoch: int) -> None:
        """Move every unacknowledged frame into another epoch, sequence numbers from 1, order kept.

        A declared loss keeps its place: in the new epoch it stands for one sequence number.
        """
        old = await self.epoch()
        # Only a hub that lost its memory grants a number again; what it had acknowledged then must not be in the way.
        await self._db.run("UPDATE frames SET epoch = -id WHERE epoch = ? AND acked = 1", epoch)
        for stream in Stream:
            rows = await self._db.rows(
                "SELECT id, kind, body FROM frames WHERE stream = ? AND epoch = ? AND acked = 0 ORDER BY seq", stream, old
            )
            for seq, (row_id, kind, body) in enumerate(rows, 1):
                await self._db.run("UPDATE frames SET epoch = ?, seq = ? WHERE id = ?", epoch, seq, row_id)
                if kind == FrameKind.SKIP:
                    skip = Skip.from_bytes(body, "outbox").model_copy(update={"first": seq, "last": seq})
                    await self._rewrite(row_id, body, skip_frame(stream, skip))
            await self._db.run(
                "UPDATE streams SET next_seq = ?, acked_seq = 0, acked_sha256 = NULL WHERE stream = ?", len(rows) + 1, stream
            )
        await self._db.run("UPDATE meta SET value = ? WHERE key = 'epoch'", epoch)

    async def states(self) -> dict[Stream, StreamState]:
        """Where each stream stands, as a hello says it."""
        async with self._db.reading():
            rows = await self._db.rows(
                "SELECT s.stream, s.next_seq, s.acked_seq, s.acked_sha256, (SELECT min(f.seq) FROM frames f WHERE f.stream ="
                " s.stream AND f.epoch = (SELECT value FROM meta WHERE key = 'epoch')) FROM streams s"
            )
        return {
            Stream(name): StreamState(next_seq=next_seq, oldest_seq=oldest or next_seq, acked_seq=acked, acked_sha256=sha256)
            for name, next_seq, acked, sha256, oldest in rows
        }

    async def waiting(self) -> dict[Stream, Waiting]:
        """What is not acknowledged yet."""
        async with self._db.reading():
            rows = await self._db.rows(
                "SELECT stream, count(*), sum(length(body)), min(first_us) FROM frames WHERE acked = 0 GROUP BY stream"
            )
        found = {Stream(name): Waiting(count, size, first) for name, count, size, first in rows}
        return {stream: found.get(stream, Waiting(0, 0, None)) for stream in Stream}


def skip_frame(stream: Stream, skip: Skip) -> NewFrame:
    """The frame that declares sequence numbers as gone."""
    return NewFrame(stream, FrameKind.SKIP, skip.to_bytes(), skip.readings, 0)
