"""``/v1/plans``: day plans with their certificates."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Query

from tieline_cloud.api.problems import not_found, statuses
from tieline_cloud.api.query import EdgeParameter, Limit, Services, edge_filter, known_edge
from tieline_cloud.api.schemas.plans import PlanDetail, PlanSummary
from tieline_cloud.dispatch.plans import PlanRecord

router = APIRouter(tags=["plans"])


def _summary(record: PlanRecord) -> PlanSummary:
    plan = record.plan
    return PlanSummary(
        plan_id=plan.plan_id,
        edge_id=plan.edge_id,
        state=record.state,
        verdict=plan.certificate.verdict,
        issued_at=plan.issued_at,
        start=plan.start,
        end=plan.start + timedelta(seconds=plan.step_s * plan.steps),
        published_at=record.published_at,
        confirmed_at=record.confirmed_at,
    )


def _detail(record: PlanRecord) -> PlanDetail:
    return PlanDetail(**dict(_summary(record)), sha256=record.sha256, plan=record.plan, curves=record.curves)


@router.get("/plans", summary="Plans, newest first", responses=statuses(404, 422))
async def list_plans(hub: Services, edge: EdgeParameter = None, limit: Limit = 100) -> list[PlanSummary]:
    """Of one edge, or of all."""
    return [_summary(record) for record in hub.plans.newest(edge_filter(hub, edge), limit)]


@router.get("/plans/current", summary="The plan an edge should follow", responses=statuses(404, 422))
async def read_current_plan(
    hub: Services, edge: Annotated[str, Query(max_length=64, description="id of an edge", examples=["harbour"])]
) -> PlanDetail:
    """404 while none was published."""
    record = hub.plans.current(known_edge(hub, edge).edge_id)
    if record is None:
        raise not_found(f"no plan was published for edge {edge!r} yet")
    return _detail(record)


@router.get("/plans/{plan_id}", summary="One plan", responses=statuses(404, 422))
async def read_plan(plan_id: str, hub: Services) -> PlanDetail:
    """With setpoints, certificate and curves."""
    record = hub.plans.get(plan_id)
    if record is None:
        raise not_found(f"there is no plan {plan_id!r}")
    return _detail(record)
