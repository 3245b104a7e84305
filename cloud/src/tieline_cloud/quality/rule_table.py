"""Measurement classes as columns, so that an arrival is judged by array arithmetic: one number per class and limit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tieline_cloud.quality.rules import MeasurementClass
from tieline_core.timegrid import EARLIEST, to_us

_SECOND: Final = 1_000_000
#: Longer than any span of instants: a limit that never binds.
_NEVER_US: Final = 2**62
#: Nothing that was measured is larger, and a thousand million of them can still be added up.
_LARGEST: Final = 1e100
EARLIEST_US: Final = to_us(EARLIEST)


class RuleTable:
    """Limits by class index; a rule a class does not have gets a limit nothing crosses.

    Args:
        classes: In order of precedence; the last takes what no other fits.
    """

    def __init__(self, classes: Sequence[MeasurementClass]) -> None:
        self.classes: Final = tuple(classes)
        self._by_quantity: dict[str, list[int]] = {}

        def floats(of: Callable[[MeasurementClass], float | None], none: float) -> NDArray[np.float64]:
            return np.array([none if (value := of(row)) is None else value for row in self.classes], np.float64)

        def instants(of: Callable[[MeasurementClass], float | None]) -> NDArray[np.int64]:
            seconds = (of(row) for row in self.classes)
            return np.array([_NEVER_US if value is None else round(value * _SECOND) for value in seconds], np.int64)

        self.future_us: Final = instants(lambda row: row.future_s)
        self.past_us: Final = instants(lambda row: row.past_days * 86_400)
        #: Finite, so that an infinity is beyond it in every class.
        self.maximum: Final = floats(lambda row: row.maximum, _LARGEST)
        minimum = floats(lambda row: row.minimum, -_LARGEST)
        self.not_negative: Final = np.array([not row.negative for row in self.classes])
        self.minimum: Final[NDArray[np.float64]] = np.where(self.not_negative, np.maximum(minimum, 0.0), minimum)
        self.spike_step: Final = floats(lambda row: row.spike.step if row.spike else None, np.inf)
        self.spike_share: Final = floats(lambda row: row.spike.share_pct / 100 if row.spike else None, 0.0)
        self.spike_per_second: Final = floats(lambda row: row.spike.per_second if row.spike else None, 0.0)
        self.stuck_us: Final = instants(lambda row: row.stuck.longer_than_s if row.stuck else None)
        self.zero_may_stay: Final = np.array([row.stuck is not None and row.stuck.zero_may_stay for row in self.classes])
        self.gap_floor_us: Final = instants(lambda row: row.gap.at_least_s if row.gap else None)
        self.gap_periods: Final = floats(lambda row: row.gap.periods if row.gap else None, np.inf)
        self.gap_period_us: Final = instants(lambda row: row.gap.period_s if row.gap else None)
        self.counts: Final = np.array([row.counter is not None for row in self.classes])
        self.modulus: Final = floats(lambda row: row.counter.modulus_wh if row.counter else None, np.nan)
        self.reset_below: Final = floats(lambda row: row.counter.reset_below_wh if row.counter else None, 0.0)
        self.largest_w: Final = floats(lambda row: row.counter.largest_w if row.counter else None, np.inf)
        self.tolerance: Final = floats(lambda row: row.counter.tolerance_wh if row.counter else None, 0.0)

    def class_of(self, point: str) -> int:
        """Index of the class of a point ``edge/device/quantity``."""
        quantity = point.rpartition("/")[2]
        candidates = self._by_quantity.get(quantity)
        if candidates is None:
            candidates = [
                index
                for index, row in enumerate(self.classes)
                if any(fnmatchcase(quantity, pattern) for pattern in row.quantities)
            ]
            self._by_quantity[quantity] = candidates
        for index in candidates:
            points = self.classes[index].points
            if "*" in points or any(fnmatchcase(point, pattern) for pattern in points):
                return index
        return len(self.classes) - 1

    def row_of(self, point: str) -> MeasurementClass:
        """The class of a point."""
        return self.classes[self.class_of(point)]
