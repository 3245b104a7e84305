"""Plans as published."""

from __future__ import annotations

from pydantic import AwareDatetime

from tieline_cloud.api.schemas.base import Answer
from tieline_cloud.dispatch.plans import PlanCurves, PlanState
from tieline_core.ids import EdgeId
from tieline_core.messages.plan import Plan, Verdict


class PlanSummary(Answer):
    """A plan in one line."""

    plan_id: str
    edge_id: EdgeId
    state: PlanState
    verdict: Verdict
    issued_at: AwareDatetime
    start: AwareDatetime
    end: AwareDatetime
    published_at: AwareDatetime
    confirmed_at: AwareDatetime | None


class PlanDetail(PlanSummary):
    """A plan with setpoints, certificate and curves."""

    sha256: str
    plan: Plan
    curves: PlanCurves
