"""``/v1/quality``: what the rules of data quality found, what was set apart, and the rules themselves."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Query

from tieline_cloud.api.problems import statuses
from tieline_cloud.api.query import From, Limit, Services, To, span
from tieline_cloud.api.routes.readings import WORDS, unit_of
from tieline_cloud.api.schemas.readings import MisdatedReading, QualityFinding
from tieline_cloud.quality.rules import MeasurementClass, Rule

router = APIRouter(tags=["quality"], prefix="/quality")
PointPattern = Annotated[
    str | None, Query(max_length=160, description="shell pattern of points", examples=["harbour/*/v_v"], min_length=1)
]


@router.get("/findings", summary="Findings on readings", responses=statuses(422))
async def list_findings(
    hub: Services,
    point: PointPattern = None,
    rule: Annotated[Rule | None, Query(description="this rule only")] = None,
    start: From = None,
    end: To = None,
    limit: Limit = 1000,
) -> list[QualityFinding]:
    """What was found on readings measured in a span, newest first; the number is the one received. 24 hours by default."""
    window = span(start, end, hub.clock.now(), timedelta(hours=24), timedelta(hours=1))
    name = None if rule is None else rule.value
    found = await asyncio.to_thread(hub.query.findings, point, name, window.start, window.end, limit)
    return [
        QualityFinding(
            point=row.point,
            measured_at=row.measured_at,
            received_at=row.received_at,
            rule=row.rule,
            value=row.value,
            limit=row.limit,
            unit=unit_of(row.point),
        )
        for row in found
    ]


@router.get("/misdated", summary="Readings whose instant is not believed", responses=statuses(422))
async def list_misdated(hub: Services, point: PointPattern = None, limit: Limit = 1000) -> list[MisdatedReading]:
    """Kept with both of their times, outside every series; newest arrival first."""
    found = await asyncio.to_thread(hub.query.misdated, point, limit)
    return [
        MisdatedReading(
            point=row.point,
            measured_at=row.measured_at,
            received_at=row.received_at,
            value=row.value,
            unit=unit_of(row.point),
            quality=WORDS[row.quality],
            rule=row.rule,
        )
        for row in found
    ]


@router.get("/rules", summary="The rules in force", responses=statuses())
async def list_rules(hub: Services) -> list[MeasurementClass]:
    """Measurement classes in order of precedence: a point belongs to the first that fits."""
    return list(hub.rules.classes)
