"""``/v1/artifacts``: what edges pull by content hash."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, Path, Response

from tieline_cloud.api.problems import not_found, statuses
from tieline_cloud.api.query import Services

router = APIRouter(tags=["artifacts"])


@router.get(
    "/artifacts/{sha256}",
    summary="An artifact by its content hash",
    response_class=Response,
    responses={200: {"content": {"application/octet-stream": {}}}, **statuses(404, 422)},
)
async def read_artifact(sha256: Annotated[str, Path(pattern=r"^[0-9a-f]{64}$")], hub: Services) -> Response:
    """Signed envelopes (plan, policy, model) and raw files (ONNX, seed); the content never changes."""
    content = await asyncio.to_thread(hub.artifacts.get, sha256)
    if content is None:
        raise not_found(f"there is no artifact {sha256}")
    headers = {"Cache-Control": "public, max-age=31536000, immutable", "ETag": f'"{sha256}"'}
    return Response(content, media_type="application/octet-stream", headers=headers)
