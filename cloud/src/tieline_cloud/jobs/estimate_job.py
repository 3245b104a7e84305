"""``estimate``: values that stand in for missing intervals of the points whose measurement class has an ``estimate`` row."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from itertools import islice
from typing import Any, Final
from zoneinfo import ZoneInfo

import numpy as np
from pydantic import AwareDatetime, ConfigDict, Field

from tieline_cloud.jobs.model import JobFailedError, JobKind, JobParams, JobProgress
from tieline_cloud.quality.estimation import Window, estimate_means, estimate_registers, missing_runs
from tieline_cloud.quality.rule_table import RuleTable
from tieline_cloud.quality.rules import CounterRule, EstimateRule
from tieline_cloud.store.ports import Estimate, Series, Store
from tieline_core.clock import Clock
from tieline_core.ids import PointId
from tieline_core.quantities import Quality
from tieline_core.timegrid import from_us, to_us

#: Late readings get this long to arrive before anything stands in for them.
SETTLED_AFTER: Final = timedelta(hours=2)
LOOKED_AT: Final = timedelta(days=3)
_POINTS_AT_ONCE: Final = 500
_MARGIN: Final = timedelta(hours=2)


class EstimateParams(JobParams):
    """Which points, and where; by default all that have a rule, the last three days up to two hours ago."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", validate_by_name=True, validate_by_alias=True, serialize_by_alias=True
    )

    start: AwareDatetime | None = Field(default=None, alias="from")
    end: AwareDatetime | None = Field(default=None, alias="to")
    points: tuple[str, ...] = Field(default=("*",), max_length=1000, description="shell patterns")


def estimate_kind(store: Store, table: RuleTable, zone: ZoneInfo, clock: Clock) -> JobKind[EstimateParams]:
    """The row of the table."""

    async def run(params: EstimateParams, progress: JobProgress) -> dict[str, Any]:
        now = clock.now()
        end = min(params.end or now - SETTLED_AFTER, now)
        start = params.start or end - LOOKED_AT
        if start >= end:
            raise JobFailedError(f"from {start.isoformat()} must be before to {end.isoformat()}")
        filler = GapFiller(store, table, zone, Window(to_us(start), to_us(end)), now)
        return await asyncio.to_thread(filler.run, params.points, progress)

    return JobKind("estimate", "fill missing intervals: short ones by a line, longer ones from like days", EstimateParams, run)


@dataclass(frozen=True, slots=True)
class GapFiller:
    """Looks for missing intervals and stores what stands in for them; nothing twice, nothing among the readings."""

    store: Store
    table: RuleTable
    zone: ZoneInfo
    window: Window
    now: datetime

    def run(self, patterns: Sequence[str], progress: JobProgress) -> dict[str, Any]:
        """Fill the gaps of all points that fit; the result counts points looked at and new estimates by method."""
        wanted: dict[EstimateRule, list[PointId]] = {}
        for point in self.store.points():
            rule = self.table.row_of(point).estimate
            if rule is not None and any(fnmatchcase(point, pattern) for pattern in patterns):
                wanted.setdefault(rule, []).append(point)
        total, done, made = sum(map(len, wanted.values())), 0, Counter[str]()
        for rule, points in wanted.items():
            remaining = iter(points)
            while (some := list(islice(remaining, _POINTS_AT_ONCE))) and not progress.stopped:
                new = [estimate for point in self._with_gaps(some, rule) for estimate in self._new(point, rule)]
                if new:
                    self.store.record_estimates(new, self.now)
                made.update(estimate.method for estimate in new)
                done += len(some)
                progress.tell(done / total, f"{done} of {total} points, {made.total()} values estimated")
        return {"points": total, "estimated": dict(made)}

    def _with_gaps(self, points: Sequence[PointId], rule: EstimateRule) -> Iterator[PointId]:
        start, end = from_us(self.window.start_us), from_us(self.window.end_us)
        grid = self.window.grid(rule.step_s * 1_000_000)
        for point, means in self.store.means(points, start, end, rule.step_s).items():
            if next(missing_runs(np.isin(grid, means.at_us)), None) is not None:
                yield point

    def _new(self, point: PointId, rule: EstimateRule) -> list[Estimate]:
        start, end = from_us(self.window.start_us), from_us(self.window.end_us)
        counter = self.table.row_of(point).counter
        if counter is not None:
            estimates = self._registers(point, rule, counter)
        else:
            past = start - timedelta(weeks=rule.reach_weeks, days=1)
            means = self.store.means([point], past, self.now, rule.step_s)[point]
            estimates = estimate_means(means, self.window, rule, self.zone)
        held = {row.at: (row.value, row.method) for row in self.store.estimates(point, start, end)}
        return [row for row in estimates if held.get(row.at) != (row.value, row.method)]

    def _registers(self, point: PointId, rule: EstimateRule, counter: CounterRule) -> list[Estimate]:
        start = from_us(self.window.start_us)
        near = self.store.series(point, start, self.now + timedelta(microseconds=1))
        parts = [near]
        good = near.at_us[near.quality == Quality.GOOD]
        long = np.flatnonzero(np.diff(good) > rule.linear_up_to_s * 1_000_000)
        if len(long):
            parts = [*self._like_weeks(point, rule, (int(good[long[0]]), int(good[long[-1] + 1]))), near]
        columns = (np.concatenate([getattr(part, name) for part in parts]) for name in ("at_us", "values", "quality"))
        return estimate_registers(Series(point, *columns), self.window, rule, counter, self.zone)

    def _like_weeks(self, point: PointId, rule: EstimateRule, gap: tuple[int, int]) -> list[Series]:
        """Readings around the same span of the weeks before, oldest first: all of them would be too many."""
        found: list[Series] = []
        until = from_us(self.window.start_us)
        for week in range(1, rule.reach_weeks + 1):
            begin, end = (from_us(us) - timedelta(weeks=week) for us in gap)
            part = self.store.series(point, begin - _MARGIN, min(end + _MARGIN, until))
            if len(part.at_us):
                found.insert(0, part)
                until = begin - _MARGIN
            if len(found) == rule.like_days:
                break
        return found
