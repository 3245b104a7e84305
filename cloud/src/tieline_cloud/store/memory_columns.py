"""Readings of the store in memory, as columns in the order of their arrival."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tieline_cloud.store.rollup import RollupLevel
from tieline_cloud.store.values import Stored

#: Where a reading still shows, finest first: as it came (None), then in each level of roll-ups.
LEVELS: Final[Sequence[RollupLevel | None]] = (None, *RollupLevel)


class Columns:
    """All readings; what retention drops stays for the roll-ups that are kept."""

    def __init__(self) -> None:
        self.numbers: NDArray[np.int32] = np.zeros(0, np.int32)
        self.at_us: NDArray[np.int64] = np.zeros(0, np.int64)
        self.values: NDArray[np.float64] = np.zeros(0)
        self.quality: NDArray[np.uint8] = np.zeros(0, np.uint8)
        self.positions: NDArray[np.int64] = np.zeros(0, np.int64)
        self.gone: NDArray[np.bool_] = np.zeros((len(LEVELS), 0), np.bool_)
        """By level: whether retention has dropped it there."""

    def append(self, rows: Stored, position: int) -> None:
        """Take rows up under a position."""
        self.numbers = np.concatenate([self.numbers, rows.numbers])
        self.at_us = np.concatenate([self.at_us, rows.at_us])
        self.values = np.concatenate([self.values, rows.values])
        self.quality = np.concatenate([self.quality, rows.quality])
        self.positions = np.concatenate([self.positions, np.full(len(rows), position)])
        self.gone = np.concatenate([self.gone, np.zeros((len(LEVELS), len(rows)), np.bool_)], axis=1)

    def select(self, number: int | None, start_us: int, end_us: int, level: RollupLevel | None = None) -> NDArray[np.intp]:
        """Rows of a point in a span that show on a level, ascending in time."""
        inside = (self.numbers == (-1 if number is None else number)) & (self.at_us >= start_us) & (self.at_us < end_us)
        rows = np.flatnonzero(inside & ~self.gone[LEVELS.index(level)])
        return rows[np.argsort(self.at_us[rows], kind="stable")]

    def drop(self, number: int, level: RollupLevel | None, before_us: int) -> int:
        """Let a point's rows before an instant go on a level; returns how many did."""
        gone = self.gone[LEVELS.index(level)]
        meant = (self.numbers == number) & (self.at_us < before_us) & ~gone
        gone |= meant
        return int(meant.sum())
