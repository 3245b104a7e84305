"""Readings as they come out of a store: a series of one point, and its last value."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from tieline_core.ids import PointId


@dataclass(frozen=True, slots=True)
class Series:
    """A time series of one point: instants [us], values (NaN = none), quality; ascending."""

    point: PointId
    at_us: NDArray[np.int64]
    values: NDArray[np.float64]
    quality: NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class LastValue:
    """Last known value of a point."""

    point: PointId
    value: float | None
    at: datetime
    quality: int


@dataclass(frozen=True, slots=True)
class Stored:
    """Readings as columns of one length, under the numbers of their points."""

    numbers: NDArray[np.int32]
    at_us: NDArray[np.int64]
    values: NDArray[np.float64]
    quality: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.at_us)
