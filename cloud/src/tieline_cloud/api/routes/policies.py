"""``/v1/edges/{edge_id}/policy``: the shedding policy an edge should follow, and what it has made of it."""

from __future__ import annotations

from http import HTTPStatus

from fastapi import APIRouter

from tieline_cloud.api.ports import HubServices
from tieline_cloud.api.problems import ProblemError, not_found, statuses
from tieline_cloud.api.query import Services, known_edge
from tieline_cloud.api.schemas.orders import PolicyAnswer, PolicyRequest
from tieline_cloud.dispatch.policies import PolicyRecord, standing
from tieline_cloud.fleet.views import EdgeStatus
from tieline_core.errors import BadInputError

router = APIRouter(tags=["fleet"])


def _answer(record: PolicyRecord, status: EdgeStatus) -> PolicyAnswer:
    found = standing(record, status.reported)
    return PolicyAnswer(
        edge_id=status.edge_id,
        sha256=record.sha256,
        published_at=record.published_at,
        state=found.state,
        reason=found.text,
        policy=record.policy,
    )


def _ours(hub: HubServices, edge_id: str) -> EdgeStatus:
    status = known_edge(hub, edge_id)
    if status.third_party is not None:
        reason = f"{edge_id!r} is the third-party node {status.third_party!r}: Tieline reads it and never sheds there"
        raise ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, "third_party", reason)
    return status


@router.post(
    "/edges/{edge_id}/policy",
    status_code=HTTPStatus.ACCEPTED,
    summary="Publish a shedding policy",
    responses=statuses(404, 413, 422, 503),
)
async def publish_policy(edge_id: str, request: PolicyRequest, hub: Services) -> PolicyAnswer:
    """Signed and named in the edge's desired state; the edge refuses one that could shed a vital load, and says which."""
    status = _ours(hub, edge_id)
    try:
        record = hub.policies.publish(status.edge_id, request.text, release=request.release)
    except BadInputError as error:
        raise ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, "validation", str(error)) from error
    return _answer(record, status)


@router.get("/edges/{edge_id}/policy", summary="Shedding policy published last", responses=statuses(404, 422))
async def read_policy(edge_id: str, hub: Services) -> PolicyAnswer:
    """With the edge's word on it: published, confirmed or refused."""
    status = _ours(hub, edge_id)
    record = hub.policies.newest(status.edge_id)
    if record is None:
        raise not_found(f"no policy was ever published for {edge_id!r}: it follows the file at its site")
    return _answer(record, status)
