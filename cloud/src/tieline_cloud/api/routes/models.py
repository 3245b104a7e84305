"""``/v1/models``: the model registry."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from tieline_cloud.api.problems import statuses
from tieline_cloud.api.query import Limit, Services
from tieline_cloud.api.schemas.forecasts import Model

router = APIRouter(tags=["forecasts"])


@router.get("/models", summary="Models, newest first", responses=statuses(422))
async def list_models(
    hub: Services, point: Annotated[str | None, Query(max_length=160)] = None, limit: Limit = 100
) -> list[Model]:
    """With manifest and measured quality, of one point or of all."""
    return [
        Model(
            model_id=record.model_id,
            point=record.point,
            state=record.state,
            published_at=record.published_at,
            confirmed_at=record.confirmed_at,
            sha256=record.sha256,
            onnx_sha256=record.onnx_sha256,
            manifest=record.manifest,
        )
        for record in hub.models.newest(limit)
        if point is None or record.point == point
    ]
