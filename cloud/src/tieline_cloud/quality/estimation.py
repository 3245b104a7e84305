"""What stands in where nothing good was measured: short gaps by a straight line, longer ones from like days.

A like day has the same local weekday; times of day are compared on the wall clock, so that a change to summer time does
not shift a profile. Registers keep their readings: only the way between two of them is drawn.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from tieline_cloud.quality.counters import interval_energy_wh
from tieline_cloud.quality.rules import CounterRule, EstimateRule
from tieline_cloud.store.ports import Estimate, Series
from tieline_core.ids import PointId
from tieline_core.quantities import QUANTITIES, Quality, round_to
from tieline_core.timegrid import from_us, to_us

LINEAR: Final = "linear"
LIKE_DAY: Final = "like_day"
LIKE_DAY_SHAPE: Final = "like_day_shape"
_US: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Window:
    """Intervals to look at: starts in [start_us, end_us), on the UTC grid of the rule's step."""

    start_us: int
    end_us: int

    def grid(self, step_us: int) -> NDArray[np.int64]:
        """Interval starts."""
        first = -(-self.start_us // step_us) * step_us
        return np.arange(first, self.end_us, step_us, dtype=np.int64)


def like_instants_us(at_us: int, zone: ZoneInfo, weeks: int) -> list[int]:
    """The same local weekday and wall-clock time in the weeks before, newest first; a time a day did not have is left out."""
    local = from_us(at_us).astimezone(zone)
    found = []
    for week in range(1, weeks + 1):
        wall = (local.replace(tzinfo=None) - timedelta(weeks=week)).replace(fold=local.fold)
        instant = wall.replace(tzinfo=zone)
        us = at_us - week * 7 * 86_400 * _US
        # Between two local times of one zone the offsets' difference is all that the wall clock hides.
        offset, then = local.utcoffset(), instant.utcoffset()
        shift = (offset or timedelta()) - (then or timedelta())
        us += round(shift.total_seconds()) * _US
        if from_us(us).astimezone(zone).replace(tzinfo=None) == wall.replace(fold=0):
            found.append(us)
    return found


def missing_runs(held: NDArray[np.bool_]) -> Iterator[tuple[int, int]]:
    """Maximal runs [start, end) of intervals that are not held, after the first that is."""
    if not held.any():
        return
    edges = np.flatnonzero(np.diff(np.concatenate(([True], held, [True])).astype(np.int8)))
    first = int(np.argmax(held))
    for start, end in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
        if start >= first:
            yield start, end


def estimate_means(means: Series, window: Window, rule: EstimateRule, zone: ZoneInfo) -> list[Estimate]:
    """Fill missing interval means of one point.

    Gaps up to ``linear_up_to_s`` that have a mean on both sides get a straight line; all others the mean of up to
    ``like_days`` comparable days, and nothing where there is none.

    Args:
        means: Interval means, of the window and of what lies before it; only good ones count.
        window: Where to fill.
        rule: Step and limits.
        zone: Of the installation.
    """
    step_us = rule.step_s * _US
    good = (means.quality == Quality.GOOD) & ~np.isnan(means.values)
    at = dict(zip(means.at_us[good].tolist(), means.values[good].tolist(), strict=True))
    grid = window.grid(step_us)
    held = np.isin(grid, means.at_us[good])
    estimates = []
    for start, end in missing_runs(held):
        left, right = int(grid[start - 1]), int(grid[end]) if end < len(grid) else None
        if right is not None and (end - start) * rule.step_s <= rule.linear_up_to_s:
            values = np.interp(grid[start:end], [left, right], [at[left], at[right]])
            estimates += _rows(means.point, grid[start:end], values, LINEAR)
            continue
        for us in grid[start:end].tolist():
            like = [at[then] for then in like_instants_us(us, zone, rule.reach_weeks) if then in at][: rule.like_days]
            if like:
                estimates += _rows(means.point, np.array([us]), np.array([float(np.mean(like))]), LIKE_DAY)
    return estimates


def estimate_registers(
    readings: Series, window: Window, rule: EstimateRule, counter: CounterRule, zone: ZoneInfo
) -> list[Estimate]:
    """Fill missing readings of a register at interval starts, between the readings there are.

    The energy between two readings is kept exactly; short gaps spread it evenly, longer ones as the like days' energy was
    spread. Nothing is drawn over an exchange or a reset (nobody knows when it was), nor after the newest reading.

    Args:
        readings: Raw readings, of the window and of what lies before it.
        window: Where to fill.
        rule: Step and limits.
        counter: Of the point's class.
        zone: Of the installation.
    """
    step_us = rule.step_s * _US
    energy = interval_energy_wh(readings, (), counter)
    known = np.flatnonzero(~np.isnan(energy))
    good = np.flatnonzero((readings.quality == Quality.GOOD) & ~np.isnan(readings.values))
    grid = window.grid(step_us)
    held = np.isin(grid, readings.at_us[good] // step_us * step_us)
    profile = _Profile(readings, energy, known, rule, zone)
    estimates = []
    for start, end in missing_runs(held):
        after = int(np.searchsorted(readings.at_us[good], grid[end - 1]))
        if after in (0, len(good)) or np.isnan(energy[good[after]]):
            continue
        one, other = int(good[after - 1]), int(good[after])
        span = (int(readings.at_us[one]), int(readings.at_us[other]))
        at_us = grid[start:end]
        reset = readings.values[other] < readings.values[one] and energy[other] == readings.values[other]
        if reset:
            continue
        share, method = None, LINEAR
        if (end - start) * rule.step_s > rule.linear_up_to_s:
            share, method = profile.shares(at_us, span), LIKE_DAY_SHAPE
        if share is None:
            share, method = (at_us - span[0]) / (span[1] - span[0]), LINEAR
        values = readings.values[one] + energy[other] * share
        if counter.modulus_wh is not None:
            values = np.mod(values, counter.modulus_wh)
        estimates += _rows(readings.point, at_us, values, method)
    return estimates


class _Profile:
    """How the energy of like days was spread over the intervals of a gap."""

    def __init__(
        self,
        readings: Series,
        energy: NDArray[np.float64],
        known: NDArray[np.intp],
        rule: EstimateRule,
        zone: ZoneInfo,
    ) -> None:
        self._rule = rule
        self._zone = zone
        self._step_us = rule.step_s * _US
        self._at_us = readings.at_us[known]
        self._total = np.cumsum(energy[known])
        self._held = set((readings.at_us[known] // self._step_us).tolist())

    def shares(self, at_us: NDArray[np.int64], span: tuple[int, int]) -> NDArray[np.float64] | None:
        """Share of the gap's energy that has flowed by each instant; None when the like days do not say."""
        first, last = span[0] // self._step_us * self._step_us, -(-span[1] // self._step_us) * self._step_us
        edges = np.arange(first, last + 1, self._step_us, dtype=np.int64)
        flows = [self._like_energy(us) for us in edges[:-1].tolist()]
        if any(flow is None for flow in flows):
            return None
        flowed = np.concatenate(([0.0], np.cumsum(np.array(flows, np.float64))))
        begin, end = np.interp(np.array(span), edges, flowed)
        if end - begin <= 0:
            return None
        shares: NDArray[np.float64] = (np.interp(at_us, edges, flowed) - begin) / (end - begin)
        return shares

    def _like_energy(self, us: int) -> float | None:
        found = []
        for then in like_instants_us(us, self._zone, self._rule.reach_weeks):
            number = then // self._step_us
            if number in self._held and number + 1 in self._held:
                begin, end = np.interp([then, then + self._step_us], self._at_us, self._total)
                found.append(float(end - begin))
        return float(np.mean(found[: self._rule.like_days])) if found else None


def _rows(point: PointId, at_us: NDArray[np.int64], values: NDArray[np.float64], method: str) -> list[Estimate]:
    quantity = QUANTITIES.get(point.quantity)
    exponent = quantity.exponent if quantity else -3
    pairs = zip(at_us.tolist(), values.tolist(), strict=True)
    return [Estimate(point, from_us(us), round_to(value, exponent), method) for us, value in pairs]


def with_estimates(series: Series, estimates: Sequence[Estimate], step_us: int) -> Series:
    """A series with estimates where nothing good was measured, marked SUBSTITUTED; a good reading always comes first.

    Args:
        series: Raw readings, or means labelled by the start of their interval.
        estimates: Of the same point.
        step_us: An estimate stands for the interval that holds its instant; a good reading in it takes its place.
    """
    good = series.at_us[(series.quality == Quality.GOOD) & ~np.isnan(series.values)] // step_us
    at_us = np.array([to_us(estimate.at) for estimate in estimates], np.int64)
    shown = ~np.isin(at_us // step_us, good)
    order = np.argsort(np.concatenate((series.at_us, at_us[shown])), kind="stable")
    values = np.array([estimate.value for estimate in estimates], np.float64)[shown]
    return Series(
        series.point,
        np.concatenate((series.at_us, at_us[shown]))[order],
        np.concatenate((series.values, values))[order],
        np.concatenate((series.quality, np.full(len(values), Quality.SUBSTITUTED, np.uint8)))[order],
    )
