"""Edges and their devices, and why a device does what it does."""

from __future__ import annotations

from pydantic import AwareDatetime, Field

from tieline_cloud.api.schemas.base import Answer
from tieline_core.ids import DeviceId, EdgeId, PointId
from tieline_core.messages.desired import Desired, Reported, StreamBacklog
from tieline_core.messages.telemetry import Stream


class Explanation(Answer):
    """An edge's own words on why a device does, or did, what it does."""

    edge_id: EdgeId
    device_id: DeviceId
    at: AwareDatetime | None = Field(description="instant asked about; null = now")
    answered_at: AwareDatetime = Field(description="by the edge's clock")
    text: str


class Edge(Answer):
    """How an edge stands."""

    edge_id: EdgeId
    online_live: bool
    online_durable: bool
    offline_since: AwareDatetime | None = Field(description="when the live lane lost it, by the hub's clock")
    third_party: str | None = Field(
        description="group/node of a Sparkplug node of somebody else, whose data are at most once; null = an edge of ours",
        examples=["plant/press"],
    )
    last_heard: AwareDatetime | None
    epoch: int | None
    ladder: str | None = Field(description="step of the fallback ladder, in words", examples=["current_plan"])
    backlog_frames: int | None
    backlog_bytes: int | None
    backlog_readings: int | None
    backlog_oldest_at: AwareDatetime | None
    outbox_room_h: float | None = Field(
        description="hours until the edge would lose unsent readings without the hub, as it said"
    )
    autonomy_h: float | None = Field(
        description="hours the edge can do without the hub as it is meant to; null = no end in sight, or it has not said"
    )
    autonomy_limited_by: str | None = Field(description="what ends them", examples=["schedule"])
    outbox_usable: bool | None = Field(description="false while the edge's disk refuses to keep anything")
    streams: dict[Stream, StreamBacklog] = Field(description="where each stream stands, as the edge said")
    reported_age_s: float | None = Field(description="age of the edge's own figures by the hub's clock")
    reported_stale: bool = Field(description="true when the edge is away: its figures are those of its last word")
    monitor_only: bool | None
    dry_run: bool | None = Field(description="true when it decides and traces, and writes to no device")
    tagged: tuple[str, ...] = Field(description='devices under a tag "do not operate"')
    config_sha256: str | None = Field(description="hash of the hub's configuration it runs; null = the file at its site")
    software: str | None
    plan_id: str | None
    devices_offline: tuple[str, ...]
    shed: tuple[str, ...]
    desired_confirmed: bool | None = Field(
        description="true when the edge says it runs what the hub wants; null = nothing wanted"
    )


class EdgeDetail(Edge):
    """An edge with its own words and what the hub wants of it."""

    reported: Reported | None
    desired: Desired | None
    desired_published_at: AwareDatetime | None
    desired_confirmed_at: AwareDatetime | None


class Device(Answer):
    """A device as its birth described it."""

    edge_id: EdgeId
    device_id: DeviceId
    online: bool
    offline_since: AwareDatetime | None = Field(description="when it or its edge died, by the hub's clock")
    points: tuple[PointId, ...]
    born_at: AwareDatetime | None
