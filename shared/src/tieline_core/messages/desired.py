"""Desired and reported state: what the hub wants an edge to run, and what the edge says it runs."""

from __future__ import annotations

from enum import IntEnum
from typing import Annotated, Literal

from pydantic import AwareDatetime, Field

from tieline_core.ids import EdgeId, PointId
from tieline_core.messages.base import Message
from tieline_core.messages.command import CommandReport
from tieline_core.messages.telemetry import Stream

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Desired(Message):
    """By content hash: each hash names a signed envelope the edge pulls and checks for itself."""

    version: Literal[1] = 1
    edge_id: EdgeId
    plan: Sha256 | None = None
    policy: Sha256 | None = None
    config: Sha256 | None = None
    models: dict[PointId, Sha256] = Field(default_factory=dict, description="model manifest envelope by the point it forecasts")


class LadderStep(IntEnum):
    """Fallback ladder of a plan-following edge."""

    CURRENT_PLAN = 0
    LAST_PLAN = 1
    LOCAL_SCHEDULE = 2
    DEVICE_DEFAULT = 3


class StreamBacklog(Message):
    """What waits in one stream of the outbox."""

    frames: int = Field(ge=0)
    bytes: int = Field(ge=0)
    readings: int = Field(default=0, ge=0)
    oldest_at: AwareDatetime | None = None
    committed_seq: int = Field(default=0, ge=0, description="last sequence number the hub has accepted in this epoch")
    next_seq: int = Field(default=1, ge=1, description="sequence number the next frame will get")


class OutboxRoom(Message):
    """How full the outbox is; the newest frames the hub has are part of it, they go first when room is needed."""

    used_bytes: int = Field(ge=0)
    max_bytes: int = Field(ge=0)
    waiting_bytes: int = Field(ge=0, description="bytes of frames the hub does not have")
    room_h: float | None = Field(
        default=None, ge=0, description="hours until unsent readings would be lost without the hub, at the present rate"
    )
    usable: bool = Field(default=True, description="false while the disk refuses, so that nothing is kept")


class Autonomy(Message):
    """How long an edge can go on by itself as it is meant to, by what it knows now; None = no end in sight within a month.

    Attributes:
        hours: The least of the parts.
        limited_by: Its name; empty without an end.
        parts: ``schedule``: until it falls to device defaults; ``network``: until what it knows of the network is too old;
            ``energy``: until a storage is down to what is kept for safety, at the present power; ``outbox``: until unsent
            readings would be lost.
    """

    hours: float | None = Field(default=None, ge=0)
    limited_by: str = Field(default="", max_length=32)
    parts: dict[str, float | None] = Field(default_factory=dict)


class Refusal(Message):
    """Something the edge was offered and did not take."""

    what: str = Field(max_length=64)
    sha256: Sha256 | None = None
    check: str = Field(max_length=32)
    reason: str = Field(max_length=300)
    at: AwareDatetime


class Reported(Message):
    """An edge's own word on how it stands (retained, replaced on every change that matters and once a minute)."""

    version: Literal[1] = 1
    edge_id: EdgeId
    at: AwareDatetime
    software: str
    boot_id: str
    monitor_only: bool = Field(description="true when it has no keys or was told not to act")
    dry_run: bool = Field(default=False, description="true when it decides and traces, and writes to no device")
    tagged: tuple[str, ...] = Field(default=(), description='devices under a tag "do not operate"')
    ladder: LadderStep
    ladder_reason: str = Field(max_length=200)
    plan_id: str | None = None
    plan_sha256: Sha256 | None = None
    policy_sha256: Sha256 | None = None
    config_sha256: Sha256 | None = None
    models: dict[PointId, Sha256] = Field(default_factory=dict)
    desired_counter: int = Field(default=0, ge=0)
    backlog: dict[Stream, StreamBacklog] = Field(default_factory=dict)
    outbox: OutboxRoom | None = None
    autonomy: Autonomy | None = None
    devices_offline: tuple[str, ...] = ()
    shed: tuple[str, ...] = ()
    commands: tuple[CommandReport, ...] = ()
    refusals: tuple[Refusal, ...] = ()
