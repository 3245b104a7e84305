"""What a forecast is made from: one copy for hub and edge, numpy only.

Irregular readings become interval-start 15-minute means, gaps are closed by one rule, and history plus calendar become
the input arrays of a model. Every number a model sees is known at the instant of issue: lags are positions *inside* the
history window, chosen on the local calendar (a DST day has 92 or 100 quarter hours, and the same quarter hour of
yesterday is then 23 or 25 hours away).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from tieline_core.errors import BadInputError
from tieline_core.timegrid import floor_to, from_us, to_us

STEP_S: Final = 900
STEP: Final = timedelta(seconds=STEP_S)
DAY_STEPS: Final = 96
#: The level of a load at an instant is its mean over the seven days before.
LEVEL_STEPS: Final = 7 * DAY_STEPS
#: Lags reach back 28 days (one more for DST and the youngest lead), and each needs its own level of seven days.
HISTORY_STEPS: Final = 36 * DAY_STEPS
HORIZON_STEPS: Final = 2 * DAY_STEPS
QUANTILES: Final = (0.05, 0.1, 0.5, 0.9, 0.95)
_ALIKE: Final = 12
#: Columns of ``lag_step``: the two latest known days, one to four weeks ago, the twelve latest days of the same type.
LAGS: Final = ("d1", "d2", "w1", "w2", "w3", "w4", *(f"s{number}" for number in range(1, _ALIKE + 1)))
#: The day before an issue is compared with this many earlier days of its type.
RECENT_ALIKE: Final = 8
_WEEKS_INSTEAD: Final = (6, 13, 20, 6, 13, 20, 6, 13)
#: Raised whenever an input changes its meaning; a model built for another version is refused.
FEATURE_VERSION: Final = 2

#: Day types: a holiday counts as a Sunday.
WORKDAY, SATURDAY, SUNDAY = 0, 1, 2

Floats = NDArray[np.float64]
Floats32 = NDArray[np.float32]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]
ModelInputs = dict[str, NDArray[np.float32] | NDArray[np.int64]]

_STEP_US: Final = STEP_S * 1_000_000


class NotEnoughHistoryError(BadInputError):
    """Too little was measured to forecast from; the reason says how much is there and how much is needed."""


@dataclass(frozen=True, slots=True)
class QuarterHours:
    """15-minute means as measured, with holes.

    Attributes:
        start: Start of the first interval, aware UTC, on the quarter hour.
        values: Means [n] in the point's unit; 0.0 where nothing is present.
        present: Which intervals [n] were measured.
    """

    start: datetime
    values: Floats
    present: Flags


@dataclass(frozen=True, slots=True)
class LoadHistory:
    """15-minute means without holes.

    Attributes:
        start: Start of the first interval, aware UTC, on the quarter hour.
        values: Means [n], finite.
        substituted: Which of them [n] the gap rule made.
    """

    start: datetime
    values: Floats
    substituted: Flags

    def __post_init__(self) -> None:
        if self.start.tzinfo is None or to_us(self.start) % _STEP_US:
            raise BadInputError("load history", "start", self.start, "must be an aware instant on the quarter hour")
        if self.values.ndim != 1 or self.values.shape != self.substituted.shape:
            raise BadInputError("load history", "values", self.values.shape, "one value and one flag a quarter hour are needed")
        if not np.isfinite(self.values).all():
            raise BadInputError("load history", "values", "NaN or infinity", "every value must be a finite number")

    @property
    def end(self) -> datetime:
        """End of the last interval."""
        return self.start + STEP * len(self.values)

    @property
    def substituted_share(self) -> float:
        """Share of the intervals the gap rule made."""
        return float(self.substituted.mean()) if len(self.values) else 0.0

    def index(self, instant: datetime) -> int:
        """Position of the interval that starts at the instant; may lie outside."""
        return (to_us(instant) - to_us(self.start)) // _STEP_US

    def between(self, start: datetime, end: datetime) -> LoadHistory:
        """The part from start (inclusive) to end (exclusive), as far as it exists."""
        first, last = max(0, self.index(start)), max(0, self.index(end))
        return LoadHistory(from_us(to_us(self.start) + first * _STEP_US), self.values[first:last], self.substituted[first:last])


def resample(times_us: Ints, values: Floats, start: datetime, steps: int, max_hold_s: int = STEP_S) -> QuarterHours:
    """Time-weighted 15-minute means of irregular readings.

    A reading holds until the next one, at most ``max_hold_s``; where readings cover an interval, mean x covered time is
    exactly their integral, so energy is conserved. An interval that is covered by less than half counts as missing.

    Args:
        times_us: Instants [n] in microseconds since 1970, any order; of equal ones the last counts.
        values: Readings [n], finite.
        start: Start of the first interval, on the quarter hour.
        steps: Number of intervals.
        max_hold_s: Longest time one reading stands for.

    Raises:
        BadInputError: When a value is NaN or infinite, or the arrays differ in length.
    """
    if times_us.shape != values.shape or not np.isfinite(values).all():
        raise BadInputError("readings", "values", f"{values.shape}", "one finite value an instant is needed")
    edges = to_us(start) + np.arange(steps + 1, dtype=np.int64) * _STEP_US
    if not len(times_us):
        return QuarterHours(start, np.zeros(steps), np.zeros(steps, dtype=bool))
    order = np.argsort(times_us, kind="stable")
    times, held = times_us[order], values[order]
    last = np.append(times[1:] != times[:-1], True)
    times, held = times[last], held[last]
    ends = np.minimum(np.append(times[1:], times[-1] + max_hold_s * 1_000_000), times + max_hold_s * 1_000_000)
    knots = np.stack([times, ends], 1).reshape(-1) - edges[0]
    seconds = (ends - times) / 1e6
    covered = _at_edges(edges - edges[0], knots, seconds)
    integral = _at_edges(edges - edges[0], knots, seconds * held)
    present = covered >= STEP_S / 2
    return QuarterHours(start, np.divide(integral, covered, out=np.zeros(steps), where=present), present)


def _at_edges(edges: Ints, knots: Ints, increments: Floats) -> Floats:
    """Increase between edges of the piecewise linear function that grows by increments[i] from knots[2i] to knots[2i+1]."""
    cumulated = np.repeat(np.concatenate([[0.0], np.cumsum(increments)]), 2)[1:-1]
    return np.diff(np.interp(edges, knots, cumulated))


def fill_gaps(series: QuarterHours, max_interpolated: int = 4, max_share: float = 0.2) -> LoadHistory:
    """Close gaps: up to an hour by a straight line, longer ones by the same quarter hour a week (else a day) before.

    Leading intervals that have neither are dropped. Only values from before a long gap fill it, so filling never looks
    ahead by more than ``max_interpolated`` steps.

    Raises:
        NotEnoughHistoryError: When nothing is present, or more than ``max_share`` of the intervals is missing.
    """
    present = series.present
    if not present.any():
        raise NotEnoughHistoryError("load history", "values", 0, "nothing was measured in this span")
    first = int(np.argmax(present))
    values, present = series.values[first:].copy(), present[first:]
    share = 1.0 - float(present.mean())
    if share > max_share:
        raise NotEnoughHistoryError(
            "load history", "values", f"{share:.0%} missing", f"at most {max_share:.0%} of the quarter hours may be substituted"
        )
    known = present.copy()
    for begin, end in _gaps(present):
        if end < len(values) and end - begin <= max_interpolated:
            values[begin:end] = np.interp(np.arange(begin, end), [begin - 1, end], [values[begin - 1], values[end]])
        else:
            for position in range(begin, end):
                back = next((lag for lag in (7 * DAY_STEPS, DAY_STEPS) if position >= lag), 1)
                values[position] = values[position - back]
        known[begin:end] = True
    return LoadHistory(series.start + STEP * first, values, ~present)


def _gaps(present: Flags) -> Iterable[tuple[int, int]]:
    """Half-open runs of missing intervals, ascending."""
    turns = np.flatnonzero(np.diff(np.concatenate([[True], present, [True]]).astype(np.int8)))
    return zip(turns[::2].tolist(), turns[1::2].tolist(), strict=True)


@dataclass(frozen=True, slots=True)
class LocalGrid:
    """The local calendar of consecutive UTC quarter hours, as integers.

    Attributes:
        start: First interval, aware UTC.
        quarter: Local quarter hour of the day [n], 0..95.
        weekday: Local weekday [n], Monday 0.
        year_day: Local day of the year [n], 1..366.
        day: Local day number [n] (proleptic ordinal).
        offset_steps: Offset of local time from UTC [n], in quarter hours.
        day_type: Type [n, 3] of the day before, the day itself and the day after.
    """

    start: datetime
    quarter: Ints
    weekday: Ints
    year_day: Ints
    day: Ints
    offset_steps: Ints
    day_type: Ints


def local_grid(start: datetime, steps: int, zone: ZoneInfo, holidays: Iterable[date]) -> LocalGrid:
    """Calendar integers of ``steps`` quarter hours from ``start`` (aware UTC) on in a time zone."""
    stamps = to_us(start) // _STEP_US + np.arange(steps, dtype=np.int64)
    instants = (from_us(int(stamp) * _STEP_US).astimezone(zone).utcoffset() or timedelta() for stamp in stamps)
    offset = np.fromiter((int(shift.total_seconds()) // STEP_S for shift in instants), dtype=np.int64, count=steps)
    local = stamps + offset
    day = local // DAY_STEPS + date(1970, 1, 1).toordinal()
    days, back = np.unique(day, return_inverse=True)
    off = frozenset(holidays)
    table = np.array([_day_row(int(ordinal), off) for ordinal in days], dtype=np.int64).reshape(-1, 5)[back]
    return LocalGrid(start, local % DAY_STEPS, table[:, 0], table[:, 1], day, offset, table[:, 2:])


def _day_row(ordinal: int, holidays: frozenset[date]) -> list[int]:
    this = date.fromordinal(ordinal)
    around = [day_type(date.fromordinal(ordinal + shift), holidays) for shift in (-1, 0, 1)]
    return [this.weekday(), this.timetuple().tm_yday, *around]


def day_type(day: date, holidays: frozenset[date]) -> int:
    """WORKDAY, SATURDAY or SUNDAY; a holiday counts as a Sunday."""
    if day in holidays or day.weekday() == 6:
        return SUNDAY
    return SATURDAY if day.weekday() == 5 else WORKDAY


def calendar_inputs(grid: LocalGrid, at: int) -> dict[str, Ints]:
    """Calendar integers and lag positions for an issue at position ``at`` of a grid that spans history and horizon.

    Returns:
        ``quarter``, ``weekday``, ``year_day`` [192]; ``day_type`` [192, 3]; ``lag_step`` [192, 18], positions inside the
        history window (columns: :data:`LAGS`; where fewer days of the same type are known, weeks take their place);
        ``lag_day_type`` [192], the type of the latest known day; ``recent_step`` [96, 8], for each of the 96 quarter hours
        before the issue the positions of the same quarter hour of the latest days of its type.

    Raises:
        BadInputError: When the grid does not span the window and the horizon.
    """
    first = at - HISTORY_STEPS
    if first < 0 or at + HORIZON_STEPS > len(grid.quarter):
        raise BadInputError("calendar", "at", at, f"needs {HISTORY_STEPS} steps before and {HORIZON_STEPS} after the issue")
    target = np.arange(at, at + HORIZON_STEPS)
    days_back = np.arange(1, 29)
    plain = target[:, None] - DAY_STEPS * days_back
    same_time = np.clip(plain + grid.offset_steps[target][:, None] - grid.offset_steps[plain], first, None)
    known = same_time < at
    same_type = known & (grid.day_type[plain, 1] == grid.day_type[target, 1][:, None])
    weeks = same_time[:, [6, 13, 20, 27]]
    latest = np.take_along_axis(same_time, np.argsort(~known, axis=1, kind="stable")[:, :2], axis=1)
    rank = np.argsort(~same_type, axis=1, kind="stable")[:, :_ALIKE]
    instead = np.tile(weeks, _ALIKE // weeks.shape[1])
    alike = np.where(np.take_along_axis(same_type, rank, axis=1), np.take_along_axis(same_time, rank, axis=1), instead)
    ahead = slice(at, at + HORIZON_STEPS)
    return {
        "quarter": grid.quarter[ahead],
        "weekday": grid.weekday[ahead],
        "year_day": grid.year_day[ahead],
        "day_type": grid.day_type[ahead],
        "lag_step": np.concatenate([latest, weeks, alike], axis=1) - first,
        "lag_day_type": grid.day_type[latest[:, 0], 1],
        "recent_step": _recent_steps(grid, at) - first,
    }


def _recent_steps(grid: LocalGrid, at: int) -> Ints:
    """Positions [96, 8] in the grid of what the last 96 quarter hours are compared with; all lie before ``at``.

    Days, not weeks, reach one day less far back than the lags do, so that a DST day keeps them inside the window.
    """
    recent = np.arange(at - DAY_STEPS, at)
    plain = recent[:, None] - DAY_STEPS * np.arange(1, 28)
    same_time = np.minimum(plain + grid.offset_steps[recent][:, None] - grid.offset_steps[plain], at - 1)
    other_type = grid.day_type[same_time, 1] != grid.day_type[recent, 1][:, None]
    rank = np.argsort(other_type, axis=1, kind="stable")[:, :RECENT_ALIKE]
    instead = same_time[:, _WEEKS_INSTEAD]
    chosen: Ints = np.where(np.take_along_axis(other_type, rank, axis=1), instead, np.take_along_axis(same_time, rank, axis=1))
    return chosen


def issue_instant(now: datetime) -> datetime:
    """The latest quarter hour not after ``now``: the instant a forecast made now is issued for."""
    return floor_to(now.astimezone(UTC), STEP)


def model_inputs(history: LoadHistory, issue: datetime, zone: ZoneInfo, holidays: Iterable[date]) -> ModelInputs:
    """The inputs of a model for one issue, without gate weights and offsets.

    Only the :data:`HISTORY_STEPS` values before ``issue`` are read.

    Args:
        history: Filled history that reaches to ``issue`` at least.
        issue: Issue instant, aware UTC, on the quarter hour.
        zone: Time zone of the site.
        holidays: Local holidays of the weeks before and the days ahead.

    Raises:
        NotEnoughHistoryError: When the history does not cover the window.
    """
    at = history.index(issue)
    if at > len(history.values) or at < HISTORY_STEPS:
        have = f"{history.start.isoformat()} to {history.end.isoformat()}"
        raise NotEnoughHistoryError(
            "load history", "start", have, f"an issue at {issue.isoformat()} needs the {HISTORY_STEPS} quarter hours before it"
        )
    grid = local_grid(issue - STEP * HISTORY_STEPS, HISTORY_STEPS + HORIZON_STEPS, zone, holidays)
    window = history.values[at - HISTORY_STEPS : at].astype(np.float32)
    return {"history": window, **calendar_inputs(grid, HISTORY_STEPS)}
