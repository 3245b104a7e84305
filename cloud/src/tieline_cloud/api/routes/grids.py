"""``/v1/grids``: the network and its estimated state."""

from __future__ import annotations

import gzip
from functools import lru_cache
from typing import Annotated, Any, Final

from fastapi import APIRouter, Header, Response

from tieline_cloud.api.ports import GridPicture, HubServices
from tieline_cloud.api.problems import not_found, statuses
from tieline_cloud.api.query import Services
from tieline_cloud.api.schemas.hub import GridState

router = APIRouter(tags=["grid"])
_compressed = lru_cache(maxsize=4)(gzip.compress)


def _picture(hub: HubServices, grid_id: str) -> GridPicture:
    picture = hub.grid.picture()
    if picture is None:
        raise not_found("no network was imported yet; post a job of kind 'network'")
    if picture.grid_id != grid_id:
        raise not_found(f"there is no grid {grid_id!r}; the hub's grid is {picture.grid_id!r}")
    return picture


def _topology(picture: GridPicture, body: bytes, form: str, seen: str | None, accepts: str) -> Response:
    tag = f'"{picture.topology_hash[:32]}-{form}"'
    headers = {"ETag": tag, "Cache-Control": "no-cache", "Vary": "Accept-Encoding"}
    if seen is not None and tag in (part.strip().removeprefix("W/") for part in seen.split(",")):
        return Response(status_code=304, headers=headers)
    if "gzip" in accepts:
        headers["Content-Encoding"] = "gzip"
        body = _compressed(body, 6)
    return Response(body, media_type="application/geo+json" if form == "geojson" else "application/json", headers=headers)


Seen = Annotated[str | None, Header(alias="If-None-Match", max_length=500)]
Accepts = Annotated[str, Header(alias="Accept-Encoding", max_length=200)]
_UNCHANGED: Final[dict[int | str, dict[str, Any]]] = {304: {"description": "what you have is current"}}


@router.get(
    "/grids/{grid_id}",
    summary="Topology as compact arrays",
    response_class=Response,
    responses={200: {"content": {"application/json": {}}}, **_UNCHANGED, **statuses(404, 422)},
)
async def read_grid(grid_id: str, hub: Services, seen: Seen = None, accepts: Accepts = "") -> Response:
    """Nodes and branches in the fixed order of the live frames; gzip and ETag."""
    picture = _picture(hub, grid_id)
    return _topology(picture, picture.arrays_json, "arrays", seen, accepts)


@router.get(
    "/grids/{grid_id}/geojson",
    summary="Topology as GeoJSON",
    response_class=Response,
    responses={200: {"content": {"application/geo+json": {}}}, **_UNCHANGED, **statuses(404, 422)},
)
async def read_geojson(grid_id: str, hub: Services, seen: Seen = None, accepts: Accepts = "") -> Response:
    """A FeatureCollection (RFC 7946) of nodes and branches; gzip and ETag."""
    picture = _picture(hub, grid_id)
    return _topology(picture, picture.geojson, "geojson", seen, accepts)


@router.get("/grids/{grid_id}/state", summary="Newest state estimate", responses=statuses(404, 422))
async def read_state(grid_id: str, hub: Services) -> GridState:
    """Loading of each branch and voltage of each node."""
    _picture(hub, grid_id)
    values = hub.grid.values()
    if values is None:
        raise not_found("no state was estimated yet")
    return GridState(
        grid_id=grid_id,
        at=values.at,
        topology_hash=values.topology_hash,
        loading_pct=values.loading_pct,
        vm_pu=values.vm_pu,
        quality=values.quality,
    )
