"""Unrepeated meter data: a seeded random walk, or the profiles of a parquet file of real meters.

A source gives the readings of one edge's meters for one instant after the other; no two frames of a run are equal.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from tieline_core.frame import ReadingBatch
from tieline_core.ids import EdgeId, PointId

#: A meter reports its power at this resolution [W].
STEP_W = 0.1
SECOND_US = 1_000_000


class Profiles(Protocol):
    """Power of the meters of one edge."""

    def next(self) -> NDArray[np.float64]:
        """Power [W] of every meter at the next instant, float64 [meters]."""
        ...


class RandomWalk:
    """Seeded walks around 1 kW, never below zero."""

    def __init__(self, seed: int, meters: int) -> None:
        self._rng = np.random.default_rng(seed)
        self._level = self._rng.gamma(2.0, 500.0, meters)

    def next(self) -> NDArray[np.float64]:
        """The next step."""
        self._level = np.abs(self._level + self._rng.normal(0.0, 15.0, len(self._level)))
        return np.round(self._level, 1)


class RealMeters:
    """Quarter-hour energies of real meters as mean power, each virtual meter with an offset of its own into one of them."""

    def __init__(self, power_w: NDArray[np.float64], seed: int, meters: int) -> None:
        rng = np.random.default_rng(seed)
        self._power = power_w
        self._row = rng.integers(0, power_w.shape[0], meters)
        self._at = rng.integers(0, power_w.shape[1], meters)

    def next(self) -> NDArray[np.float64]:
        """The next quarter of an hour of each."""
        self._at = (self._at + 1) % self._power.shape[1]
        found: NDArray[np.float64] = np.round(self._power[self._row, self._at], 1)
        return found


def read_meters(path: Path) -> NDArray[np.float64]:
    """Mean power [W] of each meter and quarter of an hour, float64 [meters, steps].

    The file has the columns ``meter_id``, ``kwh`` and, in the order of time within a meter, a row a quarter of an hour.
    """
    table = pq.read_table(path, columns=["meter_id", "kwh"])
    meter, kwh = table["meter_id"].to_numpy(), table["kwh"].to_numpy().astype(np.float64)
    order = np.argsort(meter, kind="stable")
    _, counts = np.unique(meter, return_counts=True)
    shortest = int(counts.min())
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    return np.stack([kwh[order][start : start + shortest] for start in starts]) * 4000.0


@dataclass(slots=True)
class EdgeSource:
    """Frames of one edge: all of its meters at one instant."""

    points: tuple[PointId, ...]
    profiles: Profiles
    offsets_us: NDArray[np.int64]

    @classmethod
    def of(cls, edge: EdgeId, meters: int, seed: int, real: NDArray[np.float64] | None) -> EdgeSource:
        """The source of an edge."""
        points = tuple(PointId(f"{edge}/meter-{number:04d}/p_w") for number in range(meters))
        profiles = RandomWalk(seed, meters) if real is None else RealMeters(real, seed, meters)
        # Meters do not measure in step: each has its own place within the second, to the millisecond.
        offsets = np.random.default_rng(seed).integers(0, 1000, meters) * 1000
        return cls(points, profiles, offsets.astype(np.int64))

    def batch(self, at_us: int) -> ReadingBatch:
        """One reading of each meter within the second that begins at ``at_us``."""
        n = len(self.points)
        return ReadingBatch(
            self.points,
            np.arange(n, dtype=np.int32),
            at_us + self.offsets_us,
            self.profiles.next(),
            np.zeros(n, np.uint8),
        )
