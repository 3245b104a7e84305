"""The frames of the outbox: sequence numbers, acknowledgements, epochs.

Methods that change something run inside the caller's transaction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from tieline_core.errors import BadInputError
from tieline_core.frame import Frame
from tieline_core.ids import EdgeId
from tieline_core.messages.telemetry import FrameKind, Skip, SkipReason, Stream, StreamState
from tieline_edge.outbox.database import DamagedError, Database

#: What a row costs beside its body.
ROW_BYTES: Final = 200
#: Label of a moment, while rescued frames the hub has are put in.
_ASIDE: Final = -(2**62)
_INSERT: Final = (
    "INSERT INTO frames (stream, epoch, seq, kind, body, size, sha256, readings, first_us, created_us)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)


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
    readings: int
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
            await self.insert(frame, epoch, await self.take_number(frame.stream), now_us)

    async def take_number(self, stream: Stream) -> int:
        """The sequence number of a stream's next frame, now given out."""
        ((seq,),) = await self._db.rows(
            "UPDATE streams SET next_seq = next_seq + 1 WHERE stream = ? RETURNING next_seq - 1", stream
        )
        return int(seq)

    async def insert(self, frame: NewFrame, epoch: int, seq: int, now_us: int) -> None:
        """Keep one frame under a given epoch and sequence number."""
        await self._db.run(_INSERT, *self._row(frame, epoch, seq, now_us))
        await self.grow(len(frame.body) + ROW_BYTES)

    def _row(self, frame: NewFrame, epoch: int, seq: int, now_us: int) -> tuple[object, ...]:
        sha256 = Frame(self._edge, 1, frame.stream, 1, frame.kind, frame.body).sha256
        size = len(frame.body)
        return (frame.stream, epoch, seq, int(frame.kind), frame.body, size, sha256, frame.readings, frame.first_us, now_us)

    async def rescue(self, frames: Sequence[tuple[NewFrame, int, bool]], now_us: int) -> None:
        """Keep frames of a file that was damaged; inside the caller's transaction.

        Args:
            frames: Frame, when it was first kept [us], whether the hub has acknowledged it. Those it has not get new
                numbers at the end of their stream; a declared loss stands for one number there.
            now_us: Present instant.
        """
        epoch = await self.epoch()
        next_seqs = await self.next_seqs()
        kept: list[NewFrame] = []
        rows: list[tuple[object, ...]] = []
        for given, created_us, acked in frames:
            frame, seq = given, next_seqs[given.stream]
            if not acked:
                next_seqs[frame.stream] = seq + 1
                if frame.kind is FrameKind.SKIP:
                    frame = skip_frame(frame.stream, skip_of(frame.body).model_copy(update={"first": seq, "last": seq}))
            kept.append(frame)
            rows.append(self._row(frame, _ASIDE if acked else epoch, len(rows) if acked else seq, created_us or now_us))
        await self._db.run_many(_INSERT, rows)
        await self._db.run("UPDATE frames SET acked = 1, epoch = -id WHERE epoch = ?", _ASIDE)
        await self._db.run_many(
            "UPDATE streams SET next_seq = ? WHERE stream = ?", [(seq, stream) for stream, seq in next_seqs.items()]
        )
        await self.grow(sum(len(frame.body) + ROW_BYTES for frame in kept))

    async def next_seqs(self) -> dict[Stream, int]:
        """The number each stream's next frame will get."""
        return {Stream(name): seq for name, seq in await self._db.rows("SELECT stream, next_seq FROM streams")}

    async def withdraw(self, next_seqs: Mapping[Stream, int]) -> None:
        """Forget the newest frames, down to these next numbers; none of them may have been sent."""
        epoch = await self.epoch()
        for stream, seq in next_seqs.items():
            newest = "frames WHERE stream = ? AND epoch = ? AND seq >= ?"
            ((count, size),) = await self._db.rows(f"SELECT count(*), total(size) FROM {newest}", stream, epoch, seq)  # noqa: S608 (a constant)
            await self._db.run(f"DELETE FROM {newest}", stream, epoch, seq)  # noqa: S608 (likewise)
            await self._db.run("UPDATE streams SET next_seq = ? WHERE stream = ?", seq, stream)
            await self.grow(-int(size) - ROW_BYTES * count)

    async def hashes(self) -> set[str]:
        """Hashes of everything that is held."""
        return {row[0] for row in await self._db.rows("SELECT sha256 FROM frames")}

    async def frames_after(self, stream: Stream, after_seq: int, limit: int) -> list[Frame]:
        """Committed frames of the present epoch above a sequence number, ascending."""
        async with self._db.reading():
            epoch = await self.epoch()
            if epoch == 0:
                return []  # nothing is sent under no epoch
            rows = await self._db.rows(
                "SELECT seq, kind, body, sha256 FROM frames WHERE stream = ? AND epoch = ? AND seq > ? ORDER BY seq LIMIT ?",
                stream,
                epoch,
                after_seq,
                limit,
            )
            return [self._frame(epoch, stream, *row) for row in rows]

    def _frame(self, epoch: int, stream: Stream, seq: int, kind: int, body: bytes, sha256: str) -> Frame:
        """A frame as it was kept; SQLite has no checksums of its own, so the hash tells whether it still is."""
        if kind not in list(FrameKind) or not isinstance(body, bytes):
            raise DamagedError(f"frame {seq} of stream {stream} is garbled")
        frame = Frame(self._edge, epoch, stream, seq, FrameKind(kind), body)
        if frame.sha256 != sha256:
            raise DamagedError(f"frame {seq} of stream {stream} has another content than was kept")
        return frame

    async def acknowledge(self, stream: Stream, seq: int) -> int:
        """Mark everything up to a sequence number as committed at the hub; returns how many frames that were.

        Raises:
            ValueError: The number was never given to a frame.
        """
        epoch = await self.epoch()
        if epoch == 0:
            return 0  # the file was started anew while this was on its way
        ((next_seq, acked),) = await self._db.rows("SELECT next_seq, acked_seq FROM streams WHERE stream = ?", stream)
        if seq >= next_seq:
            raise ValueError(f"{stream} {seq} was never recorded; the last frame is {next_seq - 1}")
        if seq <= acked:
            return 0
        await self._set_acknowledged(stream, epoch, seq)
        await self._trim_skip(stream, epoch, seq)
        # Only what lies between the two marks: frames stay for weeks after they were acknowledged, and may be many that wait.
        return await self._db.run(
            "UPDATE frames SET acked = 1 WHERE stream = ? AND epoch = ? AND seq > ? AND seq <= ?", stream, epoch, acked, seq
        )

    async def _trim_skip(self, stream: Stream, epoch: int, seq: int) -> None:
        """Let a skip that reaches below a committed sequence number begin above it: the hub has more than was feared."""
        # It is the next frame there is, for nothing else lies in what a skip covers; looking on would cost the whole backlog.
        rows = await self._db.rows(
            "SELECT id, kind, body FROM frames WHERE stream = ? AND epoch = ? AND seq > ? ORDER BY seq LIMIT 1",
            stream,
            epoch,
            seq,
        )
        for row_id, kind, body in rows:
            skip = skip_of(body) if kind == FrameKind.SKIP else None
            if skip is not None and skip.first <= seq:
                await self._rewrite(row_id, body, skip_frame(stream, skip.model_copy(update={"first": seq + 1})))

    async def _rewrite(self, row_id: int, old: bytes, frame: NewFrame) -> None:
        sha256 = Frame(self._edge, 1, frame.stream, 1, frame.kind, frame.body).sha256
        await self._db.run(
            "UPDATE frames SET body = ?, size = ?, sha256 = ? WHERE id = ?", frame.body, len(frame.body), sha256, row_id
        )
        await self.grow(len(frame.body) - len(old))

    async def rewind(self, stream: Stream, seq: int, now_us: int) -> None:
        """Take acknowledgements above a sequence number back: the hub has been restored from an older state."""
        epoch = await self.epoch()
        if epoch == 0:
            return
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
            oldest = skip_of(body).first if kind == FrameKind.SKIP else row_seq
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
                    skip = skip_of(body).model_copy(update={"first": seq, "last": seq})
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
            if {row[0] for row in rows} != set(Stream):
                raise DamagedError("the table of streams is garbled")
        return {
            Stream(name): StreamState(next_seq=next_seq, oldest_seq=oldest or next_seq, acked_seq=acked, acked_sha256=sha256)
            for name, next_seq, acked, sha256, oldest in rows
        }

    async def waiting(self) -> dict[Stream, Waiting]:
        """What is not acknowledged yet."""
        async with self._db.reading():
            rows = await self._db.rows(
                "SELECT stream, count(*), sum(size), sum(readings), min(nullif(first_us, 0))"
                " FROM frames WHERE acked = 0 GROUP BY stream"
            )
            found = {name: Waiting(*numbers) for name, *numbers in rows}
            if not found.keys() <= set(Stream):
                raise DamagedError("frames of a stream that does not exist")
        return {stream: found.get(stream, Waiting(0, 0, 0, None)) for stream in Stream}

    async def holds(self, stream: Stream, first_us: int, sha256: str) -> bool:
        """Whether a content is here, under whatever label."""
        return bool(
            await self._db.rows(
                "SELECT 1 FROM frames WHERE stream = ? AND first_us = ? AND sha256 = ? LIMIT 1", stream, first_us, sha256
            )
        )


def skip_of(body: bytes) -> Skip:
    """The skip a body holds.

    Raises:
        DamagedError: It holds none.
    """
    try:
        return Skip.from_bytes(body, "outbox")
    except (BadInputError, TypeError) as error:
        raise DamagedError(str(error)) from error


def skip_frame(stream: Stream, skip: Skip) -> NewFrame:
    """The frame that declares sequence numbers as gone."""
    return NewFrame(stream, FrameKind.SKIP, skip.to_bytes(), skip.readings, 0)
