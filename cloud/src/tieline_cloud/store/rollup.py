"""Roll-ups and retention: levels, intervals on the UTC grid or the local calendar, and the arithmetic over arrays.

Minutes, quarter-hours and hours lie on the UTC grid; a day is a local day of the installation's time zone, 92 to 100
quarter-hours long where clocks change. An interval is labelled by its start.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import Final, Literal
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from tieline_cloud.store.values import Series
from tieline_core.ids import PointId
from tieline_core.quantities import Quality
from tieline_core.timegrid import floor_to, from_us, local_day, to_us

GroupFunction = Literal["sum", "mean", "min", "max"]


class RollupLevel(StrEnum):
    """Lengths of roll-up intervals; a day is a local day of the installation's time zone."""

    MINUTE = "1min"
    QUARTER = "15min"
    HOUR = "1h"
    DAY = "1d"


@dataclass(frozen=True, slots=True)
class Rollup:
    """A rolled-up series of one point, columns of one length, ascending; an interval is labelled by its start.

    Attributes:
        point: The point.
        start_us: Start of each interval, int64.
        count: Readings with a number, int64.
        good: Those of good quality, int64.
        minimum: float64, NaN where ``count`` is 0; likewise ``maximum``, ``mean`` and ``last``.
        maximum: float64.
        mean: float64.
        last: float64.
        quality: Worst quality met in the interval, uint8.
    """

    point: PointId
    start_us: NDArray[np.int64]
    count: NDArray[np.int64]
    good: NDArray[np.int64]
    minimum: NDArray[np.float64]
    maximum: NDArray[np.float64]
    mean: NDArray[np.float64]
    last: NDArray[np.float64]
    quality: NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class RollupProgress:
    """How far roll-ups are behind the ledger.

    Attributes:
        buckets: Intervals written by the call.
        waiting: Readings that still wait; questions count them all the same.
        lag_s: Age of the oldest commit that is not rolled up yet [s]; 0 = none waits.
    """

    buckets: int
    waiting: int
    lag_s: float


@dataclass(frozen=True, slots=True)
class RetentionPolicy:
    """How long what is kept; whole UTC days, None = for ever. Days of roll-ups are kept for ever.

    Attributes:
        raw_days: Readings as they came, findings and misdated readings.
        minute_days: Roll-ups of minutes; likewise ``quarter_days`` and ``hour_days``.
        quarter_days: Roll-ups of quarter-hours.
        hour_days: Roll-ups of hours.
        overrides: Days by shell pattern of point ids for everything finer than an hour, where that is shorter: the load
            of a single household tells how its people live. Of several patterns that match the shortest counts.
    """

    raw_days: int | None = 400
    minute_days: int | None = 90
    quarter_days: int | None = 1100
    hour_days: int | None = None
    overrides: Mapping[str, int] = field(default_factory=dict)

    def days(self, level: RollupLevel | None, point: PointId) -> int | None:
        """Days readings of a point (level None) or its roll-ups of a level are kept; None = for ever."""
        if level is RollupLevel.DAY:
            return None
        if level is RollupLevel.HOUR:
            return self.hour_days
        general = {None: self.raw_days, RollupLevel.MINUTE: self.minute_days, RollupLevel.QUARTER: self.quarter_days}[level]
        special = [days for pattern, days in self.overrides.items() if fnmatchcase(point, pattern)]
        return min([*special, *([] if general is None else [general])], default=None)


def kept_from_us(days: int, now: datetime) -> int:
    """First instant that is kept when so many days are: the start of a UTC day."""
    return to_us(floor_to(now - timedelta(days=days), timedelta(days=1)))


#: Length of the intervals on the UTC grid [us].
LENGTH_US: Final[Mapping[RollupLevel, int]] = MappingProxyType(
    {RollupLevel.MINUTE: 60_000_000, RollupLevel.QUARTER: 900_000_000, RollupLevel.HOUR: 3_600_000_000}
)
#: Days are made of quarter-hours: no time zone in use is off the UTC grid by less.
QUARTER_US: Final = LENGTH_US[RollupLevel.QUARTER]
_INTERVALS: Final = 1500


def level_for(length: timedelta, intervals: int = _INTERVALS) -> RollupLevel:
    """The finest level that shows a span in at most so many intervals; days where none does."""
    for level, length_us in LENGTH_US.items():
        if length / timedelta(microseconds=length_us) <= intervals:
            return level
    return RollupLevel.DAY


def day_starts(first_us: int, end_us: int, zone: ZoneInfo) -> NDArray[np.int64]:
    """Starts of the local days from the one that holds ``first_us`` to the first that starts at or after ``end_us``."""
    day = from_us(first_us).astimezone(zone).date()
    starts = [to_us(local_day(day, zone)[0])]
    while starts[-1] < end_us:
        day += timedelta(days=1)
        starts.append(to_us(local_day(day, zone)[0]))
    return np.array(starts, np.int64)


def bucket_starts(at_us: NDArray[np.int64], level: RollupLevel, zone: ZoneInfo) -> NDArray[np.int64]:
    """Start of the interval each instant lies in."""
    if level is not RollupLevel.DAY:
        return at_us - at_us % LENGTH_US[level]
    if not len(at_us):
        return at_us
    starts = day_starts(int(at_us.min()), int(at_us.max()) + 1, zone)
    return starts[np.searchsorted(starts, at_us, "right") - 1]


@dataclass(frozen=True, slots=True)
class Cover:
    """Whole intervals that start in a span.

    Attributes:
        first_us: Start of the first.
        end_us: End of the last, exclusive; equal to ``first_us`` when there is none.
    """

    first_us: int
    end_us: int


def cover(level: RollupLevel, start: datetime, end: datetime, zone: ZoneInfo) -> Cover:
    """The whole intervals that start in [start, end)."""
    start_us, end_us = to_us(start), max(to_us(start), to_us(end))
    if level is RollupLevel.DAY:
        starts = day_starts(start_us, end_us, zone)
        inside = starts[starts >= start_us]
        return Cover(int(inside[0]), int(inside[-1])) if len(inside) else Cover(start_us, start_us)
    length_us = LENGTH_US[level]
    return Cover(-(-start_us // length_us) * length_us, -(-end_us // length_us) * length_us)


def rolled_up(raw: Series, level: RollupLevel, zone: ZoneInfo) -> Rollup:
    """Roll a series up, ascending in time."""
    starts, first, owner = np.unique(bucket_starts(raw.at_us, level, zone), return_index=True, return_inverse=True)
    n = len(starts)
    number = ~np.isnan(raw.values)
    good = number & (raw.quality == Quality.GOOD)
    count = np.bincount(owner[number], minlength=n)
    minimum, maximum, last = np.full(n, np.inf), np.full(n, -np.inf), np.full(n, np.nan)
    np.minimum.at(minimum, owner[number], raw.values[number])
    np.maximum.at(maximum, owner[number], raw.values[number])
    last[owner[number]] = raw.values[number]  # ascending: the newest assignment stays
    empty = count == 0
    mean = np.bincount(owner[number], raw.values[number], n) / np.where(empty, 1, count)
    for column in (minimum, maximum, mean):
        column[empty] = np.nan
    quality = np.maximum.reduceat(raw.quality, first) if n else np.zeros(0, np.uint8)
    return Rollup(
        raw.point, starts, count, np.bincount(owner[good], minlength=n), minimum, maximum, mean, last, quality.astype(np.uint8)
    )


def grouped(members: Sequence[Rollup], size: int, function: GroupFunction) -> Series:
    """One series of several roll-ups: sum or mean of the means, least of the minima or greatest of the maxima.

    Where a member has no number in an interval the quality is UNCERTAIN at best. The series goes by the first point.
    """
    column = {"min": "minimum", "max": "maximum"}.get(function, "mean")
    at_us = np.concatenate([row.start_us for row in members])
    value = np.concatenate([getattr(row, column) for row in members])
    quality = np.concatenate([row.quality for row in members])
    present = ~np.isnan(value)
    starts, owner = np.unique(at_us[present], return_inverse=True)
    n = len(starts)
    present_count = np.bincount(owner, minlength=n)
    if function in ("sum", "mean"):
        sums = np.bincount(owner, value[present], n).astype(np.float64)
        result = sums / present_count if function == "mean" else sums
    else:
        result = np.full(n, np.inf if function == "min" else -np.inf)
        (np.minimum if function == "min" else np.maximum).at(result, owner, value[present])
    worst = np.where(present_count < size, np.uint8(Quality.UNCERTAIN), np.uint8(Quality.GOOD))
    np.maximum.at(worst, owner, quality[present])
    return Series(members[0].point, starts, result, worst)


def zone_of(name: str) -> ZoneInfo:
    """The time zone of an IANA name.

    Raises:
        ValueError: When there is none.
    """
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        raise ValueError(f"{name!r} is no time zone of the IANA list, e.g. 'Europe/Berlin'") from error
