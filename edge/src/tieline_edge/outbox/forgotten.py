"""What a restored hub has forgotten: frames it once acknowledged, put in line again a few at a time.

A hub that was put back to a state before the epoch an edge sends in cannot go back within that epoch; it says what it
still holds when it grants a new one. What is beyond moves to the end of its stream, under new numbers. The ring may hold
two weeks of it, so this goes in steps between which new data is sent; how far it has come is kept with the frames. It may
take along more than is missing: the hub knows contents by their hash.
"""

from __future__ import annotations

from typing import Final

from pydantic import Field

from tieline_core.errors import BadInputError
from tieline_core.messages.base import Message
from tieline_core.messages.telemetry import FrameKind, Held, SkipReason, Stream
from tieline_edge.outbox.database import DamagedError, Database
from tieline_edge.outbox.frame_table import ROW_BYTES, FrameTable, skip_frame, skip_of

#: Frames that may wait for the hub before more are put behind them.
MOST_WAITING: Final = 256
_KEY: Final = "forgotten"
#: Frames moved in one transaction, and rows looked at for them.
_STEP: Final = 64
_WINDOW: Final = 65_536


class _Task(Message):
    """Which frames, and how far it has come: rows above ``after`` up to ``last``, of epochs below ``below``."""

    held: Held
    below: int = Field(ge=1)
    last: int = Field(ge=0)
    after: int = Field(default=0, ge=0)


class Forgotten:
    """Works on the frames of an open database; what changes something runs inside the caller's transaction."""

    def __init__(self, db: Database, table: FrameTable) -> None:
        self._db = db
        self._table = table
        #: Only what was read from the file is believed: a transaction may have failed after it.
        self._nothing = False

    async def note(self, held: Held, epoch: int) -> None:
        """Remember to send again what is beyond ``held``; ``epoch`` is the one granted just now."""
        before = await self._task()
        if before is not None:
            held = _less(held, before.held)
        ((last,),) = await self._db.rows("SELECT coalesce(max(id), 0) FROM frames")
        await self._keep(_Task(held=held, below=epoch, last=last))
        self._nothing = False

    async def pending(self) -> bool:
        """Whether there may be something to do."""
        if not self._nothing:
            self._nothing = await self._task() is None
        return not self._nothing

    async def step(self, now_us: int) -> int:
        """Put the next few frames in line; returns how many."""
        task = await self._task()
        if task is None:
            return 0
        end = min(task.last, task.after + _WINDOW)
        marks = [task.held.watermarks.get(stream, 0) for stream in Stream]
        # Labels below 0 stand for ones that were lost.
        rows = await self._db.rows(
            "SELECT id, stream, kind FROM frames WHERE acked = 1 AND id > ? AND id <= ? AND epoch < ? AND (epoch < 0"
            " OR epoch > ? OR (epoch = ? AND seq > CASE stream WHEN 'alarm' THEN ? WHEN 'measure' THEN ? ELSE ? END))"
            " ORDER BY id LIMIT ?",
            task.after,
            end,
            task.below,
            task.held.epoch,
            task.held.epoch,
            *marks,
            _STEP,
        )
        moved = sum([await self._move(row_id, Stream(name), kind, now_us) for row_id, name, kind in rows])
        reached = rows[-1][0] if len(rows) == _STEP else end
        if reached >= task.last:
            await self._db.run("DELETE FROM meta WHERE key = ?", _KEY)
        else:
            await self._keep(task.model_copy(update={"after": reached}))
        return moved

    async def _move(self, row_id: int, stream: Stream, kind: int, now_us: int) -> int:
        """Put one frame at the end of its stream, as the newest of the ring; returns how many have got a number."""
        if kind == FrameKind.SKIP:
            return await self._move_skip(row_id, stream, now_us)
        epoch, seq = await self._table.epoch(), await self._table.take_number(stream)
        await self._db.run(
            "INSERT INTO frames (stream, epoch, seq, kind, body, size, sha256, readings, first_us, created_us)"
            " SELECT stream, ?, ?, kind, body, size, sha256, readings, first_us, ? FROM frames WHERE id = ?",
            epoch,
            seq,
            now_us,
            row_id,
        )
        await self._db.run("DELETE FROM frames WHERE id = ?", row_id)
        return 1

    async def _move_skip(self, row_id: int, stream: Stream, now_us: int) -> int:
        """A declared loss stands for one number; that something was acknowledged once says nothing any more."""
        ((epoch, body),) = await self._db.rows("SELECT epoch, body FROM frames WHERE id = ?", row_id)
        skip = skip_of(body)
        await self._db.run("DELETE FROM frames WHERE id = ?", row_id)
        await self._table.grow(-len(body) - ROW_BYTES)
        if skip.reason is SkipReason.ACKNOWLEDGED or epoch < 0:
            return 0
        seq = await self._table.take_number(stream)
        moved = skip_frame(stream, skip.model_copy(update={"first": seq, "last": seq}))
        await self._table.insert(moved, await self._table.epoch(), seq, now_us)
        return 1

    async def _task(self) -> _Task | None:
        rows = await self._db.rows("SELECT value FROM meta WHERE key = ?", _KEY)
        try:
            return _Task.from_bytes(str(rows[0][0]).encode(), "outbox") if rows else None
        except BadInputError as error:
            raise DamagedError(str(error)) from error

    async def _keep(self, task: _Task) -> None:
        await self._db.run("INSERT OR REPLACE INTO meta VALUES (?, ?)", _KEY, task.to_bytes().decode())


def _less(one: Held, other: Held) -> Held:
    """What is certainly held when both were said."""
    if one.epoch != other.epoch:
        return min(one, other, key=lambda held: held.epoch)
    marks = {stream: min(one.watermarks.get(stream, 0), other.watermarks.get(stream, 0)) for stream in Stream}
    return Held(epoch=one.epoch, watermarks=marks)
