"""``/v1/edges/{edge_id}/config``: the site file an edge should run, and what it has made of it."""

from __future__ import annotations

from http import HTTPStatus

from fastapi import APIRouter

from tieline_cloud.api.ports import HubServices
from tieline_cloud.api.problems import ProblemError, not_found, statuses
from tieline_cloud.api.query import Services, known_edge
from tieline_cloud.api.schemas.orders import ConfigAnswer, ConfigRequest
from tieline_cloud.dispatch.configs import ConfigRecord, standing
from tieline_cloud.fleet.views import EdgeStatus
from tieline_core.errors import BadInputError

router = APIRouter(tags=["fleet"])


def _answer(record: ConfigRecord, status: EdgeStatus) -> ConfigAnswer:
    found = standing(record, status.reported)
    return ConfigAnswer(
        edge_id=status.edge_id,
        config_id=record.configuration.config_id,
        sha256=record.sha256,
        published_at=record.published_at,
        state=found.state,
        reason=found.text,
        text=record.configuration.text,
    )


def _ours(hub: HubServices, edge_id: str) -> EdgeStatus:
    status = known_edge(hub, edge_id)
    if status.third_party is not None:
        reason = f"{edge_id!r} is the third-party node {status.third_party!r}: Tieline reads it and never configures it"
        raise ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, "third_party", reason)
    return status


@router.post(
    "/edges/{edge_id}/config",
    status_code=HTTPStatus.ACCEPTED,
    summary="Publish a configuration",
    responses=statuses(404, 413, 422, 503),
)
async def publish_config(edge_id: str, request: ConfigRequest, hub: Services) -> ConfigAnswer:
    """Signed and named in the edge's desired state; the edge checks it and takes it without a restart, or says why not."""
    status = _ours(hub, edge_id)
    try:
        record = hub.configs.publish(status.edge_id, request.text, "local", status.reported)
    except BadInputError as error:
        raise ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, "validation", str(error)) from error
    return _answer(record, status)


@router.get("/edges/{edge_id}/config", summary="Configuration published last", responses=statuses(404, 422))
async def read_config(edge_id: str, hub: Services) -> ConfigAnswer:
    """With the edge's word on it: published, confirmed or refused."""
    status = _ours(hub, edge_id)
    record = hub.configs.newest(status.edge_id)
    if record is None:
        raise not_found(f"no configuration was ever published for {edge_id!r}: it runs the file at its site")
    return _answer(record, status)
