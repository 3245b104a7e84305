"""``/v1/readings``: series and last values."""

from __future__ import annotations

import asyncio
import math
from datetime import timedelta
from http import HTTPStatus
from typing import Annotated, Final

import numpy as np
from fastapi import APIRouter, Query

from tieline_cloud.api.ports import HubServices
from tieline_cloud.api.problems import ProblemError, not_found, statuses
from tieline_cloud.api.query import EdgeParameter, From, Limit, Services, Span, To, edge_filter, point_id, span
from tieline_cloud.api.schemas.base import QualityWord
from tieline_cloud.api.schemas.readings import PointValue, ReadingSeries, Row
from tieline_cloud.quality.estimation import with_estimates
from tieline_cloud.store.ports import LastValue, Series
from tieline_core.ids import PointId
from tieline_core.quantities import QUANTITIES, Quality
from tieline_core.timegrid import floor_to, format_step, from_us, parse_step

router = APIRouter(tags=["readings"])
WORDS: Final[dict[int, QualityWord]] = {
    Quality.GOOD: "good",
    Quality.UNCERTAIN: "uncertain",
    Quality.SUBSTITUTED: "substituted",
    Quality.STALE: "stale",
    Quality.BAD: "bad",
}
MAX_ROWS: Final = 10_000


def unit_of(point: PointId) -> str:
    """Unit of a point's quantity; empty for one we do not know."""
    quantity = QUANTITIES.get(point.quantity)
    return quantity.unit if quantity else ""


def point_value(last: LastValue) -> PointValue:
    """A last value as the API shows it."""
    return PointValue(point=last.point, value=last.value, unit=unit_of(last.point), at=last.at, quality=WORDS[last.quality])


def rows_of(series: Series, limit: int) -> tuple[Row, ...]:
    """The first rows of a series as the API shows them."""
    return tuple(
        Row(at=from_us(int(at)), value=float(value) if math.isfinite(value) else None, quality=WORDS[int(quality)])
        for at, value, quality in zip(series.at_us[:limit], series.values[:limit], series.quality[:limit], strict=True)
    )


@router.get("/readings", summary="Readings of one point", responses=statuses(404, 422))
async def read_series(
    hub: Services,
    point: Annotated[str, Query(max_length=160, examples=["harbour/tr1/loading_pct"])],
    start: From = None,
    end: To = None,
    step: Annotated[str, Query(max_length=16, description="ISO 8601 duration of means such as PT15M, or raw")] = "PT15M",
    limit: Limit = MAX_ROWS,
    substituted: Annotated[
        bool, Query(description="show estimates, marked substituted, where nothing good was measured")
    ] = False,
) -> ReadingSeries:
    """Raw readings, or time means of good readings per interval. The last 24 hours when no span is given."""
    wanted = point_id(point)
    window = span(start, end, hub.clock.now(), timedelta(hours=24), timedelta(0))
    if step == "raw":
        series = await asyncio.to_thread(hub.query.series, wanted, window.start, window.end, limit + 1)
        label = "raw"
    else:
        label, series = await _means(hub, wanted, window, step)
    if substituted:
        series = await _with_estimates(hub, series, window, label)
    if not len(series.at_us) and wanted not in await asyncio.to_thread(hub.query.points, wanted.edge):
        raise not_found(f"nothing was ever stored for point {point!r}")
    return ReadingSeries(
        point=wanted,
        unit=unit_of(wanted),
        step=label,
        rows=rows_of(series, limit),
        truncated=len(series.at_us) > limit,
    )


async def _means(hub: HubServices, point: PointId, window: Span, step: str) -> tuple[str, Series]:
    try:
        length = parse_step(step)
    except ValueError as error:
        raise ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, "validation", f"step: {error}") from error
    if (window.end - window.start) / length > MAX_ROWS:
        raise ProblemError(
            HTTPStatus.UNPROCESSABLE_ENTITY, "validation", f"more than {MAX_ROWS} intervals; ask for a longer step or less time"
        )
    first, seconds = floor_to(window.start, length), int(length.total_seconds())
    means = await asyncio.to_thread(hub.query.means, [point], first, window.end, seconds)
    return format_step(length), means.get(point, _nothing(point))


async def _with_estimates(hub: HubServices, series: Series, window: Span, label: str) -> Series:
    rule = hub.rules.row_of(series.point).estimate
    if rule is None:
        return series
    step = timedelta(seconds=rule.step_s)
    if label not in ("raw", format_step(step)):
        reason = f"estimates of {series.point} stand for intervals of {format_step(step)}; ask for that step, or raw"
        raise ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, "validation", f"step: {reason}")
    start = floor_to(window.start, step)
    estimates = await asyncio.to_thread(hub.query.estimates, series.point, start, window.end)
    return with_estimates(series, estimates, rule.step_s * 1_000_000)


def _nothing(point: PointId) -> Series:
    return Series(point, np.zeros(0, np.int64), np.zeros(0), np.zeros(0, np.uint8))


@router.get("/readings/last", summary="Last values", responses=statuses(404, 422))
async def read_last(
    hub: Services,
    edge: EdgeParameter = None,
    points: Annotated[str | None, Query(max_length=8000, description="point ids, comma between them")] = None,
) -> list[PointValue]:
    """The last value of the named points, of one edge's points, or of all; of ledger and live lane the newer."""
    wanted = None if points is None else [point_id(text) for text in points.split(",") if text]
    only = edge_filter(hub, edge)
    return [point_value(last) for last in await asyncio.to_thread(hub.last, wanted, only)]
