"""Nodes that are gone: kept out of the reads, told once, tried again. Pure but for its own memory."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

#: StatusCodes that say "there is no such node" (OPC 10000-6, annex A): BadNodeIdInvalid, BadNodeIdUnknown.
GONE: Final = frozenset({0x80330000, 0x80340000})


class AbsentNodes:
    """Which of a device's nodes are worth asking for.

    Args:
        count: Number of nodes.
        retry_s: A vanished node is tried again after so long [clock seconds].
    """

    def __init__(self, count: int, retry_s: float = 30.0) -> None:
        self._due: list[datetime | None] = [None] * count
        self._retry = timedelta(seconds=retry_s)

    def __len__(self) -> int:
        return sum(due is not None for due in self._due)

    def asked(self, now: datetime) -> list[int]:
        """Positions to read now; all of them when nothing else is left, because a connection is watched by reading."""
        wanted = [number for number, due in enumerate(self._due) if due is None or due <= now]
        return wanted or list(range(len(self._due)))

    def note(self, statuses: Sequence[tuple[int, int]], now: datetime) -> tuple[list[int], list[int]]:
        """Take the StatusCodes of the answers, by position; returns who has vanished and who has come back."""
        lost, back = [], []
        for number, status in statuses:
            gone, known = status in GONE, self._due[number] is not None
            if gone and not known:
                lost.append(number)
            if known and not gone:
                back.append(number)
            self._due[number] = now + self._retry if gone else None
        return lost, back
