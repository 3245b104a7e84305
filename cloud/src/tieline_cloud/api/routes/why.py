"""``/v1/edges/{edge_id}/why``: the edge's own explanation, asked for when somebody wants it."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Query

from tieline_cloud.api.problems import ProblemError, statuses
from tieline_cloud.api.query import Instant, Services, known_edge
from tieline_cloud.api.schemas.fleet import Explanation
from tieline_core.ids import DeviceId

router = APIRouter(tags=["fleet"])


@router.get("/edges/{edge_id}/why", summary="Why a device does what it does", responses=statuses(404, 422, 503))
async def read_why(
    edge_id: str,
    hub: Services,
    device: Annotated[str, Query(description="id of a device of that edge", examples=["bat1"], min_length=1, max_length=64)],
    at: Annotated[Instant, Query(description="instant, RFC 3339 with offset; left out: now")] = None,
    replay: Annotated[bool, Query(description="have the arbiter asked again with what was kept, and compared")] = False,
) -> Explanation:
    """Asks the edge over its durable lane. With the edge away it says so at once, with the last contact."""
    status = known_edge(hub, edge_id)
    try:
        wanted = DeviceId(device)
    except ValueError as error:
        raise ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, "validation", str(error)) from error
    if not status.online_durable:
        heard = "it was never heard" if status.last_heard is None else f"it was last heard {status.last_heard.isoformat()}"
        detail = f"edge {status.edge_id} is away and only it knows why: {heard}"
        raise ProblemError(HTTPStatus.SERVICE_UNAVAILABLE, "edge-away", detail, {"Retry-After": "30"})
    reply = await hub.explain.ask(status.edge_id, wanted, at, replay=replay)
    return Explanation(edge_id=reply.edge_id, device_id=reply.device_id, at=at, answered_at=reply.at, text=reply.text)
