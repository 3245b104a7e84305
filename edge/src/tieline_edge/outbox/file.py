"""The outbox file through its troubles: opened, checked, opened again, and when it is damaged replaced by a new one into
which everything readable of the old one is taken over.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final

from tieline_core.clock import Clock
from tieline_core.ids import EdgeId
from tieline_core.messages.telemetry import FrameKind, Skip, SkipReason
from tieline_core.timegrid import to_us
from tieline_edge.outbox.database import Database, is_damage
from tieline_edge.outbox.frame_table import FrameTable, NewFrame, skip_frame
from tieline_edge.outbox.salvage import Salvage, SavedFrame

_log = logging.getLogger(__name__)
_BATCH_BYTES: Final = 4 * 1024 * 1024
_UNSALVAGED, _DAMAGED = "unsalvaged", "damaged"
#: Damaged files kept for inspection; the oldest go.
_KEPT: Final = 2


async def _nothing_to_settle() -> None:
    """For whoever has nothing open with the file."""


class OutboxFile:
    """Keeps one database usable.

    Args:
        path: The file.
        edge: Whose it is.
        clock: For the names of files moved aside.
        on_doubt: Called when the file has to be looked at, by :meth:`mend`.

    Attributes:
        generation: Counts the files: whoever remembers sequence numbers of an earlier one has to ask again.
        news: Words for an ALARM event about what was repaired; whoever tells them takes them away.
    """

    def __init__(self, path: Path, edge: EdgeId, clock: Clock, on_doubt: Callable[[], None]) -> None:
        self.path = path
        self.edge = edge
        self.generation = 0
        self.salvaged_frames = 0
        self.news: list[str] = []
        self.db = Database(path, edge, on_doubt)
        self.table = FrameTable(self.db, edge)
        self._clock = clock

    async def open(self) -> None:
        """Open the file for the first time; a disk that refuses is no reason not to start, it is tried again.

        Raises:
            BadInputError: The file belongs to another edge or a newer release.
        """
        try:
            await self.mend()
        except (sqlite3.Error, OSError) as error:
            self._remember(error)
            _log.error("outbox %s cannot be used now, nothing is kept: %s", self.path, error)

    async def mend(self, settle: Callable[[], Awaitable[None]] = _nothing_to_settle) -> None:
        """Close, open and check the file again; a damaged one is moved aside and salvaged.

        Args:
            settle: Called with the file open again, before anybody else may use it.

        Raises:
            sqlite3.Error: The disk refuses; :attr:`Database.doubt` stays.
            OSError: Likewise.
            BadInputError: The file belongs to another edge or a newer release.
        """
        async with self.db.exclusively():
            doubt = self.db.doubt
            await self.db.disconnect()
            try:
                if doubt is not None and is_damage(doubt):
                    raise doubt
                await asyncio.to_thread(self._complete_move)
                await self.db.connect()
            except sqlite3.Error as error:
                if not is_damage(error):
                    raise
                await self._start_anew(error)
            try:
                # Also what an earlier life moved aside and did not get round to.
                for aside in await asyncio.to_thread(self._waiting):
                    await self._try_to_take_over(aside)
                await settle()
            except BaseException:
                # Half mended it must not be written to: the next attempt begins at the beginning.
                await self.db.disconnect()
                raise
            self.db.doubt = None

    async def _start_anew(self, error: sqlite3.Error) -> None:
        aside = await asyncio.to_thread(self._move_aside)
        _log.error("outbox %s is damaged (%s), moved to %s", self.path, error, aside.name)
        self.generation += 1
        await self.db.connect()

    def _remember(self, error: Exception) -> None:
        self.db.doubt = error if isinstance(error, sqlite3.Error) else sqlite3.OperationalError(str(error))

    def _beside(self, what: str) -> list[Path]:
        found = self.path.parent.glob(f"{self.path.name}.{what}-*")
        return sorted(path for path in found if not path.name.endswith(("-wal", "-shm")))

    def _waiting(self) -> list[Path]:
        return self._beside(_UNSALVAGED)

    def _move_aside(self) -> Path:
        stamp = f"{self._clock.now():%Y%m%dT%H%M%S%fZ}"
        aside = self.path.with_name(f"{self.path.name}.{_UNSALVAGED}-{stamp}-{self.generation}")
        self.path.rename(aside)
        self._complete_move()
        self.path.with_name(f"{self.path.name}-shm").unlink(missing_ok=True)
        return aside

    def _complete_move(self) -> None:
        """A log without its file belongs to the one moved aside last: a kill came between the two renames."""
        log = self.path.with_name(f"{self.path.name}-wal")
        waiting = self._waiting()
        if log.exists() and not self.path.exists() and waiting:
            log.rename(waiting[-1].with_name(f"{waiting[-1].name}-wal"))

    async def _try_to_take_over(self, aside: Path) -> None:
        try:
            await self._take_over(aside)
        except (sqlite3.Error, OSError) as error:
            if isinstance(error, sqlite3.Error) and is_damage(error):
                raise
            # A disk too full for both: what is new goes on, the rest is taken over at the next start.
            self.news.append(f"Not everything of the damaged {aside.name} could be saved yet: {error}")
            _log.error("%s", self.news[-1])

    async def _take_over(self, aside: Path) -> None:
        """Put every readable frame of a file moved aside into the present one; then it is kept for inspection only."""
        salvage = await asyncio.to_thread(Salvage, aside, self.edge)
        with salvage:
            if salvage.foreign is None:
                await self._rescue(salvage)
        kept = aside.with_name(aside.name.replace(f".{_UNSALVAGED}-", f".{_DAMAGED}-"))
        await asyncio.to_thread(self._put_away, aside, kept)
        self.salvaged_frames += len(salvage.frames)
        self.news.append(_in_words(salvage, kept.name))
        _log.warning("%s", self.news[-1])

    async def _rescue(self, salvage: Salvage) -> None:
        # A kill may have come in the middle of taking over; and a damaged body has lost its hash, so nothing comes twice.
        have = await self.table.hashes()
        now_us = to_us(self._clock.now())
        batches = salvage.batches(_BATCH_BYTES)
        while batch := await asyncio.to_thread(next, batches, None):
            async with self.db.all_or_nothing():
                await self.table.rescue(_rows(batch, have), now_us)
        declared = [
            skip_frame(stream, Skip(first=1, last=1, reason=SkipReason.DAMAGED, readings=lost.readings))
            for stream, lost in salvage.lost.items()
        ]
        if declared:
            async with self.db.all_or_nothing():
                await self.table.rescue([(frame, now_us, False) for frame in declared], now_us)

    def _put_away(self, aside: Path, kept: Path) -> None:
        for suffix in ("-wal", ""):
            source = aside.with_name(aside.name + suffix)
            if source.exists():
                source.rename(kept.with_name(kept.name + suffix))
        for old in self._beside(_DAMAGED)[:-_KEPT]:
            for suffix in ("-wal", ""):
                old.with_name(old.name + suffix).unlink(missing_ok=True)


def _rows(batch: Sequence[tuple[SavedFrame, NewFrame]], have: set[str]) -> list[tuple[NewFrame, int, bool]]:
    return [(frame, saved.created_us, saved.acked) for saved, frame in batch if saved.sha256 not in have]


def _in_words(salvage: Salvage, name: str) -> str:
    if salvage.foreign is not None:
        return f"The outbox was damaged; it was of edge {salvage.foreign}, nothing was taken from it. It is kept as {name}."
    frames = Counter(one.acked for one in salvage.frames if one.kind is not FrameKind.SKIP)
    readings = sum(one.readings for one in salvage.frames if not one.acked and one.kind is FrameKind.READINGS)
    saved = f"saved: {frames[False]} waiting frames with {readings} readings and {frames[True]} the hub has"
    missing = "; ".join(f"{row.frames} of {stream} with about {row.readings} readings" for stream, row in salvage.lost.items())
    return f"The outbox was damaged; {saved}; lost: {missing or 'nothing'}. It is kept as {name}."
