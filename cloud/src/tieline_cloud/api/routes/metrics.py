"""``/metrics``: Prometheus text."""

from __future__ import annotations

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST

from tieline_cloud.api.query import Services

router = APIRouter()


@router.get("/metrics", include_in_schema=False)
async def read_metrics(hub: Services) -> Response:
    """Counters and gauges of every room."""
    return Response(hub.metrics(), media_type=CONTENT_TYPE_LATEST)
