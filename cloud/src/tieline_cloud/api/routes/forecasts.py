"""``/v1/forecasts``: forecasts as they were issued."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Annotated, Final

from fastapi import APIRouter, Query

from tieline_cloud.api.problems import statuses
from tieline_cloud.api.query import From, Instant, Services, Span, To, point_id, span
from tieline_cloud.api.routes.readings import unit_of
from tieline_cloud.api.schemas.forecasts import Forecast, ForecastAnswer, ForecastIssue, ForecastRow
from tieline_core.messages.telemetry import IssuedForecast
from tieline_core.timegrid import format_step

router = APIRouter(tags=["forecasts"])
#: No forecast reaches further than this.
_REACH: Final = timedelta(days=4)


def _reaches_into(issue: IssuedForecast, window: Span) -> bool:
    end = issue.start + timedelta(seconds=issue.step_s * len(issue.p50))
    return issue.start < window.end and end > window.start


def _answer(issue: IssuedForecast) -> Forecast:
    return Forecast(
        model_id=issue.model_id,
        issued_at=issue.issued_at,
        rows=tuple(
            ForecastRow(
                at=issue.start + timedelta(seconds=issue.step_s * step), p10=p10, p50=p50, p90=p90, lo90=lo90, hi90=hi90
            )
            for step, (p10, p50, p90, lo90, hi90) in enumerate(
                zip(issue.p10, issue.p50, issue.p90, issue.lo90, issue.hi90, strict=True)
            )
        ),
    )


@router.get("/forecasts", summary="Forecasts of one point", responses=statuses(422))
async def read_forecasts(
    hub: Services,
    point: Annotated[str, Query(max_length=160, examples=["harbour/site/load_w"])],
    start: From = None,
    end: To = None,
    issued_at: Annotated[Instant, Query(description="this issue instead of the newest")] = None,
) -> ForecastAnswer:
    """The newest issue that reaches into the span (from now over 48 hours when none is given), whole, and a list of all."""
    wanted = point_id(point)
    window = span(start, end, hub.clock.now(), timedelta(0), timedelta(hours=48))
    issues = [
        issue
        for issue in await asyncio.to_thread(hub.query.forecasts, wanted, window.start - _REACH, window.end)
        if _reaches_into(issue, window)
    ]
    chosen = [issue for issue in issues if issued_at is None or issue.issued_at == issued_at]
    return ForecastAnswer(
        point=wanted,
        unit=unit_of(wanted),
        step=format_step(timedelta(seconds=chosen[-1].step_s)) if chosen else None,
        latest=_answer(chosen[-1]) if chosen else None,
        issues=tuple(ForecastIssue(model_id=issue.model_id, issued_at=issue.issued_at) for issue in issues),
    )
