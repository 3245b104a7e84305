"""Data quality on arrival, as a store sees it: what it hands to the rules, what they answer, and what is kept of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tieline_cloud.store.values import LastValue
from tieline_core.ids import PointId


@dataclass(frozen=True, slots=True)
class Arrival:
    """Readings on their way into the ledger, as columns of one length n.

    Attributes:
        numbers: Number of the point of each reading in this store, int32 [n].
        at_us: Measured at, microseconds since 1970 UTC, int64 [n].
        values: float64 [n]; NaN exactly where there is no number.
        quality: :class:`tieline_core.quantities.Quality`, uint8 [n].
        received_us: When the hub received each, int64 [n].
        name: Point of a number, also of one that is new with this arrival.
    """

    numbers: NDArray[np.int32]
    at_us: NDArray[np.int64]
    values: NDArray[np.float64]
    quality: NDArray[np.uint8]
    received_us: NDArray[np.int64]
    name: Callable[[int], PointId]


@dataclass(frozen=True, slots=True)
class Findings:
    """What the rules of data quality say of some rows of an arrival, as columns of one length k.

    Attributes:
        rows: Index into the arrival, int64 [k]; one row may have several findings.
        rules: Name of the rule of each, such as ``future`` or ``spike``.
        limits: The figure the rule compared with, float64 [k]; NaN where there is none.
    """

    rows: NDArray[np.int64]
    rules: tuple[str, ...]
    limits: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True, slots=True)
class Examined:
    """An arrival after examination.

    Attributes:
        values: As stored, float64 [n]: NaN where a rule made the quality bad; the number received stays in the finding.
        quality: As stored, uint8 [n].
        dated: bool [n]; False where the instant cannot be believed: such a row goes to the misdated ones with both of its
            times, never among the readings.
        findings: What was found, in the order of the rows.
        state: For :meth:`Examiner.settle`; opaque to the store.
    """

    values: NDArray[np.float64]
    quality: NDArray[np.uint8]
    dated: NDArray[np.bool_]
    findings: Findings
    state: object = None


class Examiner(Protocol):
    """Validation on arrival (VEE): called by a store inside each commit, in one thread at a time."""

    def restore(self, last: Sequence[LastValue], number: Callable[[PointId], int | None]) -> None:
        """Begin from the last values of a store that has just been opened."""
        ...

    def examine(self, arrival: Arrival) -> Examined:
        """Judge an arrival; nothing changes before :meth:`settle`, so that a commit rolled back leaves no trace."""
        ...

    def settle(self, examined: Examined) -> None:
        """The commit of what was examined is durable: take its state over."""
        ...


@dataclass(frozen=True, slots=True)
class Finding:
    """One verdict of a rule on a stored reading."""

    point: PointId
    measured_at: datetime
    received_at: datetime
    rule: str
    value: float | None
    """The number as received, None where there was none."""
    limit: float | None


@dataclass(frozen=True, slots=True)
class Misdated:
    """A reading whose instant cannot be believed: kept with both of its times, outside the series."""

    point: PointId
    measured_at: datetime
    received_at: datetime
    value: float | None
    quality: int
    rule: str


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value that stands where nothing good was measured; its quality is SUBSTITUTED wherever it is shown."""

    point: PointId
    at: datetime
    value: float
    method: str
    """How it was made, such as ``linear`` or ``like_day``."""
