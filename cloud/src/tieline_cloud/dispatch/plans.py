"""Plans as they were published, with the curves an operator wants beside them."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from typing import Final

from pydantic import AwareDatetime, Field

from tieline_cloud.dispatch.artifacts import ArtifactStore
from tieline_cloud.dispatch.desired import CLOCK_SLACK, DesiredRecord, DesiredStates
from tieline_cloud.dispatch.documents import DocumentStore
from tieline_cloud.dispatch.keys import Sealer
from tieline_core.clock import Clock
from tieline_core.ids import DeviceId, EdgeId
from tieline_core.messages.base import Message
from tieline_core.messages.plan import Plan
from tieline_core.signing import EnvelopeType

KIND: Final = "plan"


class PlanState(StrEnum):
    """Life of a plan."""

    PUBLISHED = "published"
    CONFIRMED = "confirmed"
    SUPERSEDED = "superseded"


class PlanCurves(Message):
    """What the plan was made of and leads to, one number a step."""

    load_p50_w: tuple[float, ...] = ()
    load_p90_w: tuple[float, ...] = ()
    pv_p50_w: tuple[float, ...] = ()
    price_eur_per_mwh: tuple[float, ...] = ()
    loading_without_pct: tuple[float, ...] = ()
    loading_with_pct: tuple[float, ...] = Field(default=(), description="transformer of the site, at P50")
    loading_without_p90_pct: tuple[float, ...] = ()
    loading_with_p90_pct: tuple[float, ...] = ()
    soc_pct: dict[DeviceId, tuple[float, ...]] = Field(default_factory=dict, description="at the end of each step")
    fleet_cost_eur: float | None = Field(default=None, description="of all sites planned together")
    fleet_cost_without_eur: float | None = None


class PlanRecord(Message):
    """One edge's plan on its way."""

    plan: Plan
    sha256: str = Field(description="content hash of the signed envelope")
    state: PlanState
    published_at: AwareDatetime
    confirmed_at: AwareDatetime | None = None
    curves: PlanCurves = PlanCurves()


class PlanBook:
    """Seals, keeps and publishes plans. Methods are called on the event loop."""

    def __init__(
        self, documents: DocumentStore, artifacts: ArtifactStore, sealer: Sealer, desired: DesiredStates, clock: Clock
    ) -> None:
        self._documents = documents
        self._artifacts = artifacts
        self._sealer = sealer
        self._desired = desired
        self._clock = clock
        desired.on_confirmed(self._confirm)

    def publish(self, plan: Plan, curves: PlanCurves) -> PlanRecord:
        """Sign a plan, keep it and make it the desired one of its edge."""
        now = self._clock.now()
        end = plan.start + timedelta(seconds=plan.step_s * plan.steps)
        envelope, _ = self._sealer.seal(
            EnvelopeType.PLAN, plan.edge_id, plan.to_bytes(), now=now, valid=(now - CLOCK_SLACK, end)
        )
        record = PlanRecord(
            plan=plan, sha256=self._artifacts.put(envelope), state=PlanState.PUBLISHED, published_at=now, curves=curves
        )
        if (before := self.current(plan.edge_id)) is not None:
            self._keep(before.model_copy(update={"state": PlanState.SUPERSEDED}))
        self._keep(record)
        self._documents.put("current-plan", plan.edge_id, plan.plan_id.encode(), now)
        self._desired.set_plan(plan.edge_id, record.sha256)
        return record

    def current(self, edge: EdgeId) -> PlanRecord | None:
        """The plan an edge should follow now."""
        name = self._documents.get("current-plan", edge)
        return None if name is None else self.get(name.decode())

    def get(self, plan_id: str) -> PlanRecord | None:
        """A plan by its id."""
        body = self._documents.get(KIND, plan_id)
        return None if body is None else PlanRecord.from_bytes(body, "hub memory")

    def newest(self, edge: EdgeId | None, limit: int) -> list[PlanRecord]:
        """Plans, newest first."""
        records = (PlanRecord.from_bytes(body, "hub memory") for body in self._documents.newest(KIND, 10_000))
        return [record for record in records if edge is None or record.plan.edge_id == edge][:limit]

    def _keep(self, record: PlanRecord) -> None:
        self._documents.put(KIND, record.plan.plan_id, record.to_bytes(), record.published_at)

    def _confirm(self, desired: DesiredRecord) -> None:
        record = self.current(desired.desired.edge_id)
        if record is not None and record.sha256 == desired.desired.plan and record.confirmed_at is None:
            self._keep(record.model_copy(update={"state": PlanState.CONFIRMED, "confirmed_at": desired.confirmed_at}))
