"""``/v1/edges/{edge_id}/reconcile`` and ``/backfill``: jobs of one edge, started and looked up."""

from __future__ import annotations

from http import HTTPStatus

from fastapi import APIRouter

from tieline_cloud.api.ports import HubServices
from tieline_cloud.api.problems import statuses
from tieline_cloud.api.query import Limit, Services, known_edge
from tieline_cloud.api.schemas.readings import SpanRequest
from tieline_cloud.jobs.model import Job

router = APIRouter(tags=["fleet"])


def _start(hub: HubServices, kind: str, edge_id: str, request: SpanRequest) -> Job:
    edge = known_edge(hub, edge_id).edge_id
    return hub.jobs.submit(kind, {"edge": edge, **request.model_dump(mode="json", by_alias=True)})


def _newest(hub: HubServices, kind: str, edge_id: str, limit: int) -> list[Job]:
    edge = known_edge(hub, edge_id).edge_id
    return [job for job in hub.jobs.newest(10_000) if job.kind == kind and job.params.get("edge") == edge][:limit]


@router.post(
    "/edges/{edge_id}/reconcile",
    status_code=HTTPStatus.ACCEPTED,
    summary="Compare with an edge",
    responses=statuses(400, 404, 422, 503),
)
async def start_reconcile(edge_id: str, request: SpanRequest, hub: Services) -> Job:
    """Frames, readings and digests by stream and hour on both sides. Follow it at ``/v1/jobs/{id}`` or here."""
    return _start(hub, "reconcile", edge_id, request)


@router.get("/edges/{edge_id}/reconcile", summary="Comparisons with an edge", responses=statuses(404, 422))
async def list_reconciles(edge_id: str, hub: Services, limit: Limit = 10) -> list[Job]:
    """Newest first, with their results."""
    return _newest(hub, "reconcile", edge_id, limit)


@router.post(
    "/edges/{edge_id}/backfill",
    status_code=HTTPStatus.ACCEPTED,
    summary="Have an edge send again",
    responses=statuses(400, 404, 422, 503),
)
async def start_backfill(edge_id: str, request: SpanRequest, hub: Services) -> Job:
    """The edge sends what its ring holds of these hours again; contents the ledger holds are recognised, nothing doubles."""
    return _start(hub, "backfill", edge_id, request)


@router.get("/edges/{edge_id}/backfill", summary="Backfills of an edge", responses=statuses(404, 422))
async def list_backfills(edge_id: str, hub: Services, limit: Limit = 10) -> list[Job]:
    """Newest first, with progress and results."""
    return _newest(hub, "backfill", edge_id, limit)
