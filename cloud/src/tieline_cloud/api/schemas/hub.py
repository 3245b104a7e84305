"""The hub itself, its operator, and the networks it knows."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import AwareDatetime, Field

from tieline_cloud.api.schemas.base import Answer


class Health(Answer):
    """How the hub stands."""

    status: Literal["ok", "degraded"]
    version: str
    now: AwareDatetime = Field(description="the hub's clock")
    clock_speed: float
    parts: dict[str, Any] = Field(description="state and counters of each room")


class Me(Answer):
    """Who is asking, as the hub sees it."""

    user: str
    roles: tuple[str, ...]


class GridState(Answer):
    """Newest state estimate, in the order of the topology arrays; null = not known."""

    grid_id: str
    at: AwareDatetime
    topology_hash: str
    loading_pct: tuple[float | None, ...]
    vm_pu: tuple[float | None, ...]
    quality: tuple[int, ...]
