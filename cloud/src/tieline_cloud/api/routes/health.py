"""``/v1/health`` and ``/v1/me``."""

from __future__ import annotations

from fastapi import APIRouter

from tieline_cloud import __version__
from tieline_cloud.api.problems import statuses
from tieline_cloud.api.query import Services
from tieline_cloud.api.schemas.hub import Health, Me

router = APIRouter(tags=["hub"])


@router.get("/health", summary="How the hub stands", responses=statuses())
async def health(hub: Services) -> Health:
    """``degraded`` when a part that should work does not; the parts say which."""
    parts = dict(hub.health())
    degraded = any(isinstance(part, dict) and part.get("ok") is False for part in parts.values())
    return Health(
        status="degraded" if degraded else "ok",
        version=__version__,
        now=hub.clock.now(),
        clock_speed=hub.clock.speed(),
        parts=parts,
    )


@router.get("/me", summary="Who is asking", responses=statuses())
async def me() -> Me:
    """There are no users yet: whoever reaches the loopback address is the local operator."""
    return Me(user="local", roles=("operator",))
