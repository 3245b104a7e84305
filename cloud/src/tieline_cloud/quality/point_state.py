"""What is remembered of each point between arrivals, as columns that grow."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Final

import numpy as np
from numpy.typing import NDArray

#: Instant of what never was: older than everything.
NEVER_US: Final = np.iinfo(np.int64).min // 4
#: Past intervals kept, for the usual period.
LAGS: Final = 3
_FIRST_SIZE: Final = 1024


@dataclass(frozen=True, slots=True)
class PointRows:
    """Columns of one length m, a row per point.

    Attributes:
        klass: Index of the measurement class, int16; -1 = not known yet.
        at_us: Instant of the newest judged number, int64; NEVER_US = none.
        value: That number, float64; NaN = none.
        since_us: Since when the number is the same, int64.
        good_at_us: While the newest number waits for confirmation as a step: instant of the last good one, else NEVER_US.
        good: And its number, else NaN.
        lags_us: The last three intervals between judged numbers, newest first, int64 [m, 3]; 0 = none yet.
    """

    klass: NDArray[np.int16]
    at_us: NDArray[np.int64]
    value: NDArray[np.float64]
    since_us: NDArray[np.int64]
    good_at_us: NDArray[np.int64]
    good: NDArray[np.float64]
    lags_us: NDArray[np.int64]

    @classmethod
    def empty(cls, size: int) -> PointRows:
        """Rows of points nothing is known of."""
        return cls(
            klass=np.full(size, -1, np.int16),
            at_us=np.full(size, NEVER_US, np.int64),
            value=np.full(size, np.nan),
            since_us=np.full(size, NEVER_US, np.int64),
            good_at_us=np.full(size, NEVER_US, np.int64),
            good=np.full(size, np.nan),
            lags_us=np.zeros((size, LAGS), np.int64),
        )

    def take(self, rows: NDArray[np.intp] | NDArray[np.bool_]) -> PointRows:
        """Some rows, copied."""
        return PointRows(*(getattr(self, field.name)[rows] for field in fields(self)))

    def put(self, numbers: NDArray[np.intp], rows: PointRows) -> None:
        """Overwrite rows in place."""
        for field in fields(self):
            getattr(self, field.name)[numbers] = getattr(rows, field.name)


class PointMemory:
    """Rows under the store's dense point numbers."""

    def __init__(self) -> None:
        self._rows = PointRows.empty(_FIRST_SIZE)

    def __len__(self) -> int:
        return len(self._rows.klass)

    @property
    def klass(self) -> NDArray[np.int16]:
        """Class of each number below ``len``; -1 = not known."""
        return self._rows.klass

    def recall(self, numbers: NDArray[np.intp]) -> PointRows:
        """Copies of the rows of these numbers; of a number never seen, empty ones."""
        size = len(self)
        if not len(numbers) or int(numbers.max()) < size:
            return self._rows.take(numbers)
        known = numbers < size
        rows = PointRows.empty(len(numbers))
        rows.put(np.flatnonzero(known), self._rows.take(numbers[known]))
        return rows

    def keep(self, numbers: NDArray[np.intp], rows: PointRows) -> None:
        """Take rows over, growing where a number is new."""
        if not len(numbers):
            return
        needed = int(numbers.max()) + 1
        if needed > len(self):
            grown = PointRows.empty(max(needed, 2 * len(self)))
            grown.put(np.arange(len(self)), self._rows)
            self._rows = grown
        self._rows.put(numbers, rows)
