"""``train``: load models from history, fitted in a worker, signed, and made the desired ones of their edges."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any, Final

from pydantic import Field

from tieline_cloud.dispatch.models import ModelRegistry
from tieline_cloud.forecasting.training import TrainedModel, TrainingRequest
from tieline_cloud.jobs.history import histories
from tieline_cloud.jobs.model import JobFailedError, JobKind, JobParams, JobProgress
from tieline_cloud.jobs.pool import WorkerPool
from tieline_cloud.settings import HubSettings
from tieline_cloud.store.ports import ReadingQuery
from tieline_core.clock import Clock
from tieline_core.errors import TielineError
from tieline_core.forecast_inputs import LoadHistory
from tieline_core.ids import EdgeId, PointId

LOAD_QUANTITY: Final = "load_w"


class TrainParams(JobParams):
    """Which points; nothing given = every configured point, else the site load of every configured edge."""

    edges: tuple[EdgeId, ...] = ()
    points: tuple[PointId, ...] = Field(default=(), max_length=1000)


def site_load(edge: EdgeId) -> PointId:
    """The point a site's load is recorded under."""
    return PointId.of(edge, "site", LOAD_QUANTITY)


def chosen_points(params: TrainParams, settings: HubSettings) -> list[PointId]:
    """The points to train, in order."""
    if params.points:
        return list(params.points)
    if params.edges:
        return [site_load(edge) for edge in params.edges]
    if settings.training.points:
        return list(settings.training.points)
    return [site_load(edge) for edge in settings.edges]


def fit_one(request: TrainingRequest) -> TrainedModel:
    """Body of a worker; the heavy libraries are loaded there only."""
    from tieline_cloud.forecasting.train import fit

    return fit(request)


def train_kind(
    settings: HubSettings, query: ReadingQuery, pool: WorkerPool, models: ModelRegistry, clock: Clock
) -> JobKind[TrainParams]:
    """The row of the table."""

    async def one(point: PointId) -> dict[str, Any]:
        now = clock.now()
        start = now - timedelta(days=settings.training.history_days)
        history = (await asyncio.to_thread(histories, query, [point], start, now)).get(point)
        if history is None:
            raise JobFailedError(f"nothing is stored for {point}; import its history first")
        trained = await pool.call(fit_one, _request(point, history))
        record = models.publish(trained.manifest.model_id, point, trained.manifest, trained.onnx, trained.seed)
        return {
            "point": point,
            "model_id": record.model_id,
            "sha256": record.sha256,
            "onnx_bytes": len(trained.onnx),
            "fit_s": round(trained.report.fit_s, 2),
            "metrics": trained.manifest.metrics.model_dump(mode="json"),
        }

    def _request(point: PointId, history: LoadHistory) -> TrainingRequest:
        return TrainingRequest(point, history, settings.site.time_zone, settings.site.country, clock.now())

    async def run(params: TrainParams, progress: JobProgress) -> dict[str, Any]:
        points = chosen_points(params, settings)
        if not points:
            raise JobFailedError("there is nothing to train: no edges are configured and no points were named")
        done: list[dict[str, Any]] = []
        failed: dict[str, str] = {}
        for number, point in enumerate(points):
            progress.tell(number / len(points), f"{point}: fitting and backtesting ({number + 1} of {len(points)})")
            try:
                done.append(await one(point))
            except TielineError as error:
                failed[point] = str(error)
        if failed and not done:
            raise JobFailedError("; ".join(f"{point}: {reason}" for point, reason in failed.items()))
        return {"models": done, "failed": failed}

    return JobKind("train", "train load models and send them to their edges", TrainParams, run)
