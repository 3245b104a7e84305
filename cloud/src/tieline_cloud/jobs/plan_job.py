"""``plan``: the day plan of all substations, certified, signed, and made the desired one of each edge."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from tieline_cloud.dispatch.artifacts import ArtifactStore
from tieline_cloud.dispatch.documents import DocumentStore
from tieline_cloud.dispatch.events import EventFeed
from tieline_cloud.dispatch.models import ModelRegistry
from tieline_cloud.dispatch.plans import PlanBook
from tieline_cloud.gridmodel.model import GridModel
from tieline_cloud.jobs.grid_desk import Expectation, GridDesk
from tieline_cloud.jobs.history import histories
from tieline_cloud.jobs.model import JobFailedError, JobKind, JobParams, JobProgress
from tieline_cloud.jobs.planning_inputs import PlanningInputs, feeder_points, newest_soc, plan_from
from tieline_cloud.jobs.pool import WorkerPool
from tieline_cloud.jobs.running_assets import running_assets
from tieline_cloud.planning.errors import PlanRefusedError
from tieline_cloud.settings import EdgeAssets, HubSettings
from tieline_cloud.store.ports import ReadingQuery
from tieline_core.clock import Clock
from tieline_core.forecast_inputs import STEP, issue_instant
from tieline_core.ids import EdgeId, PointId
from tieline_core.messages.plan import Verdict
from tieline_core.messages.telemetry import Severity
from tieline_core.model_manifest import ModelManifest


class PlanParams(JobParams):
    """Nothing to choose: every configured edge is planned, from now over the configured horizon."""


@dataclass(frozen=True, slots=True)
class Planner:
    """What planning reads and writes."""

    settings: HubSettings
    clock: Clock
    query: ReadingQuery
    documents: DocumentStore
    artifacts: ArtifactStore
    models: ModelRegistry
    plans: PlanBook
    events: EventFeed
    desk: GridDesk
    pool: WorkerPool
    #: The configuration of the hub's that an edge runs; None = it runs the file at its site. Asked in a thread.
    running: Callable[[EdgeId], str | None] = lambda _edge: None

    def assets(self) -> tuple[dict[EdgeId, EdgeAssets], tuple[str, ...]]:
        """What is there to be planned now, and what had to be assumed or left out; runs in a thread, for files are long."""
        found = dict(self.settings.edges)
        notes: list[str] = []
        for edge, configured in self.settings.edges.items():
            if (text := self.running(edge)) is not None:
                found[edge], told = running_assets(edge, configured, text)
                notes.extend(told)
        return found, tuple(notes)

    def gather(self, grid: GridModel, now: datetime, assets: Mapping[EdgeId, EdgeAssets]) -> PlanningInputs:
        """Read everything a plan needs; runs in a thread."""
        planning = self.settings.planning
        start = issue_instant(now)
        steps = round(timedelta(hours=planning.horizon_hours) / STEP)
        sites = [PointId.of(edge, "site", quantity) for edge in assets for quantity in ("load_w", "pv_w")]
        points = sites + feeder_points(grid)
        since = now - timedelta(days=planning.history_days)
        socs = [PointId.of(edge, device, "soc_pct") for edge in assets for device in assets[edge].batteries]
        return PlanningInputs(
            start=start,
            steps=steps,
            prices=self.documents.prices(start - timedelta(days=1), start + STEP * steps),
            histories=histories(self.query, points, since, now),
            models=self._models(sites),
            soc_pct={last.point: newest_soc(last.at, now, last.value) for last in self.query.last(socs)},
            assets=assets,
            planning=planning,
        )

    def _models(self, points: Sequence[PointId]) -> dict[PointId, tuple[ModelManifest, bytes]]:
        found = {}
        for point in points:
            record = self.models.current(point)
            onnx = None if record is None else self.artifacts.get(record.onnx_sha256)
            if record is not None and onnx is not None:
                found[point] = (ModelManifest.model_validate_json(record.manifest_json()), onnx)
        return found

    async def run(self, _params: PlanParams, progress: JobProgress) -> dict[str, Any]:
        """Plan, publish, and say what came out."""
        grid = self.desk.grid
        if grid is None:
            raise JobFailedError("there is no network; post a job of kind 'network' first")
        if not self.settings.edges:
            raise JobFailedError("no edges are configured: the plan needs their batteries and ratings")
        now = self.clock.now()
        progress.tell(0.1, "reading history, models, prices and states of charge")
        assets, known = await asyncio.to_thread(self.assets)
        inputs = await asyncio.to_thread(self.gather, grid, now, assets)
        progress.tell(0.3, f"planning {inputs.steps} quarter hours of {len(inputs.assets)} sites")
        try:
            work = await self.pool.call(plan_from, inputs, grid, now)
        except PlanRefusedError as error:
            for edge in inputs.assets:
                self.events.raise_event(edge, Severity.ALARM, "plan.refused", f"no plan can be vouched for: {error}")
            raise
        records = [self.plans.publish(plan, work.curves[plan.edge_id]) for plan in work.outcome.plans]
        self.desk.expect(Expectation(inputs.start, STEP, work.feeders_w))
        certificate = work.outcome.certificate
        severity = Severity.INFORMATION if certificate.verdict is Verdict.CLEAN else Severity.ACTION
        for record in records:
            text = f"plan {record.plan.plan_id} ({certificate.verdict.value}) was published"
            self.events.raise_event(record.plan.edge_id, severity, "plan.published", text)
        return {
            "plans": {record.plan.edge_id: record.plan.plan_id for record in records},
            "certificate": certificate.model_dump(mode="json"),
            "cost_eur": work.outcome.cost_eur,
            "cost_without_eur": work.outcome.cost_without_eur,
            "peak_loading_pct": {
                edge: {
                    "with": max(work.curves[edge].loading_with_pct),
                    "without": max(work.curves[edge].loading_without_pct),
                }
                for edge in work.curves
            },
            "notes": [*known, *work.notes],
        }


def plan_kind(planner: Planner) -> JobKind[PlanParams]:
    """The row of the table."""
    return JobKind("plan", "plan the day of all substations and send it to their edges", PlanParams, planner.run)
