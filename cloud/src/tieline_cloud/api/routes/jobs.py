"""``/v1/jobs``: work the hub does on request."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Query

from tieline_cloud.api.problems import not_found, statuses
from tieline_cloud.api.query import Limit, Services
from tieline_cloud.api.schemas.orders import JobRequest
from tieline_cloud.jobs.model import Job

router = APIRouter(tags=["jobs"])


@router.post("/jobs", status_code=HTTPStatus.ACCEPTED, summary="Start a job", responses=statuses(400, 422, 503))
async def start_job(request: JobRequest, hub: Services) -> Job:
    """Kinds: import, network, prices, train, plan, export, reconcile, backfill. Follow it at ``/v1/jobs/{id}``."""
    return hub.jobs.submit(request.kind, request.params)


@router.get("/jobs", summary="Jobs, newest first", responses=statuses(422))
async def list_jobs(hub: Services, kind: Annotated[str | None, Query(max_length=32)] = None, limit: Limit = 100) -> list[Job]:
    """Of one kind, or of all."""
    return [job for job in hub.jobs.newest(10_000) if kind is None or job.kind == kind][:limit]


@router.get("/jobs/{job_id}", summary="One job", responses=statuses(404, 422))
async def read_job(job_id: str, hub: Services) -> Job:
    """State, progress, result or error."""
    return _found(hub.jobs.get(job_id), job_id)


@router.delete("/jobs/{job_id}", summary="Cancel a job", responses=statuses(404, 422))
async def cancel_job(job_id: str, hub: Services) -> Job:
    """A job that is over stays as it is. Arithmetic already handed to a worker process runs to its end unused."""
    return _found(hub.jobs.cancel(job_id), job_id)


def _found(job: Job | None, job_id: str) -> Job:
    if job is None:
        raise not_found(f"there is no job {job_id!r}")
    return job
