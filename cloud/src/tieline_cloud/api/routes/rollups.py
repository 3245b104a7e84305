"""``/v1/readings/rollups`` and ``/v1/readings/aggregate``: intervals with count, extremes and quality; sums over groups."""

from __future__ import annotations

import asyncio
import math
from datetime import timedelta
from http import HTTPStatus
from typing import Annotated, Final, Literal
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Query

from tieline_cloud.api.ports import HubServices
from tieline_cloud.api.problems import ProblemError, not_found, statuses
from tieline_cloud.api.query import From, Limit, Services, Span, To, point_id, span
from tieline_cloud.api.routes.readings import MAX_ROWS, WORDS, rows_of, unit_of
from tieline_cloud.api.schemas.readings import GroupedReadings, GroupSeries, RollupRow, RollupSeries
from tieline_cloud.store.ports import GroupFunction, Rollup, RollupLevel
from tieline_cloud.store.rollup import LENGTH_US, level_for
from tieline_core.ids import PointId
from tieline_core.timegrid import from_us

router = APIRouter(tags=["readings"])
Step = Literal["auto", "PT1M", "PT15M", "PT1H", "P1D"]
GroupBy = Literal["all", "edge", "device"]
LEVELS: Final[dict[Step, RollupLevel]] = {
    "PT1M": RollupLevel.MINUTE,
    "PT15M": RollupLevel.QUARTER,
    "PT1H": RollupLevel.HOUR,
    "P1D": RollupLevel.DAY,
}
STEPS: Final[dict[RollupLevel, Step]] = {level: step for step, level in LEVELS.items()}
MAX_POINTS: Final = 200_000
MAX_GROUPS: Final = 1000
#: Intervals of all groups of an answer together.
MAX_CELLS: Final = 100_000
StepQuery = Annotated[
    Step, Query(description="length of the intervals; auto = the finest that shows the span in at most 1500; P1D = local days")
]


def _level(step: Step, window: Span, series: int) -> RollupLevel:
    """The level asked for, or the finest that keeps an answer readable; refuses more cells than an answer may have."""
    length = window.end - window.start
    level = level_for(length, max(1, min(1500, MAX_CELLS // max(1, series)))) if step == "auto" else LEVELS[step]
    interval = timedelta(microseconds=LENGTH_US.get(level, 86_400_000_000))
    if math.ceil(length / interval) * series > MAX_CELLS:
        raise ProblemError(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            "validation",
            f"more than {MAX_CELLS} intervals in one answer; ask for a longer step, less time or fewer groups",
        )
    return level


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _rollup_rows(rollup: Rollup, limit: int) -> tuple[RollupRow, ...]:
    return tuple(
        RollupRow(
            at=from_us(int(rollup.start_us[n])),
            count=int(rollup.count[n]),
            good=int(rollup.good[n]),
            minimum=_number(rollup.minimum[n]),
            maximum=_number(rollup.maximum[n]),
            mean=_number(rollup.mean[n]),
            last=_number(rollup.last[n]),
            quality=WORDS[int(rollup.quality[n])],
        )
        for n in range(min(limit, len(rollup.start_us)))
    )


@router.get("/readings/rollups", summary="Roll-ups of one point", responses=statuses(404, 422))
async def read_rollups(
    hub: Services,
    point: Annotated[str, Query(max_length=160, examples=["harbour/tr1/loading_pct"])],
    start: From = None,
    end: To = None,
    step: StepQuery = "auto",
    limit: Limit = MAX_ROWS,
) -> RollupSeries:
    """Count, extremes, mean, last value and worst quality of every interval that starts in the span.

    All readings with a number count, whatever their quality. The last 24 hours when no span is given.
    """
    wanted = point_id(point)
    window = span(start, end, hub.clock.now(), timedelta(hours=24), timedelta(0))
    level = _level(step, window, 1)
    rollup = (await asyncio.to_thread(hub.query.rollups, [wanted], level, window.start, window.end))[wanted]
    if not len(rollup.start_us) and wanted not in await asyncio.to_thread(hub.query.points, wanted.edge):
        raise not_found(f"nothing was ever stored for point {point!r}")
    return RollupSeries(
        point=wanted,
        unit=unit_of(wanted),
        step=STEPS[level],
        time_zone=_zone(hub),
        rows=_rollup_rows(rollup, limit),
        truncated=len(rollup.start_us) > limit,
    )


def _zone(hub: HubServices) -> str:
    return ZoneInfo(hub.settings.store.timezone or hub.settings.site.time_zone).key


@router.get("/readings/aggregate", summary="Sums, means or extremes over groups of points", responses=statuses(404, 422))
async def aggregate_readings(
    hub: Services,
    like: Annotated[
        str, Query(min_length=1, max_length=160, description="shell pattern of point ids", examples=["harbour/m*/p_w"])
    ],
    start: From = None,
    end: To = None,
    step: StepQuery = "auto",
    function: Annotated[GroupFunction, Query(description="of the points' means; min and max of their extremes")] = "sum",
    group_by: Annotated[GroupBy, Query(description="one series an edge, a device, or of all points")] = "edge",
) -> GroupedReadings:
    """One series a group, of all points that match the pattern.

    Where a point of the group has no number in an interval, quality is ``uncertain`` at best. The last 24 hours when no
    span is given.
    """
    window = span(start, end, hub.clock.now(), timedelta(hours=24), timedelta(0))
    points = await asyncio.to_thread(hub.query.points, None, like)
    groups = _groups(points, like, group_by)
    level = _level(step, window, len(groups))
    series = await asyncio.to_thread(hub.query.aggregate, groups, level, window.start, window.end, function)
    return GroupedReadings(
        function=function,
        unit=unit_of(points[0]),
        step=STEPS[level],
        time_zone=_zone(hub),
        groups=tuple(
            GroupSeries(group=name, points=len(groups[name]), rows=rows_of(found, len(found.at_us)))
            for name, found in sorted(series.items())
        ),
    )


def _groups(points: list[PointId], like: str, group_by: GroupBy) -> dict[str, list[PointId]]:
    """The points by group.

    Raises:
        ProblemError: Nothing matches, more than the limits match, or what matches has no common unit.
    """
    if not points:
        raise not_found(f"no point matches {like!r}")
    units = sorted({unit_of(point) or "none" for point in points})
    if len(points) > MAX_POINTS or len(units) > 1:
        reason = (
            f"{len(points)} points match, at most {MAX_POINTS} are taken together"
            if len(points) > MAX_POINTS
            else f"the points that match {like!r} have different units ({', '.join(units)}); end it like '*/p_w'"
        )
        raise ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, "validation", reason)
    groups: dict[str, list[PointId]] = {}
    for point in points:
        name = {"all": "all", "edge": str(point.edge), "device": point.rpartition("/")[0]}[group_by]
        groups.setdefault(name, []).append(point)
    if len(groups) > MAX_GROUPS:
        raise ProblemError(
            HTTPStatus.UNPROCESSABLE_ENTITY, "validation", f"{len(groups)} groups, an answer has at most {MAX_GROUPS}"
        )
    return groups
