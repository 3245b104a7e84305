"""What the API answers. A number always stands with its unit, its time and its quality."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from tieline_cloud.dispatch.models import ModelState
from tieline_cloud.dispatch.plans import PlanCurves, PlanState
from tieline_cloud.dispatch.standing import ArtifactState
from tieline_core.ids import DeviceId, EdgeId, PointId
from tieline_core.messages.command import Action, Command, CommandReport, CommandState
from tieline_core.messages.desired import Desired, Reported, StreamBacklog
from tieline_core.messages.plan import Plan, Verdict
from tieline_core.messages.policy import Policy
from tieline_core.messages.site_config import MAX_CHARS
from tieline_core.messages.telemetry import Stream

QualityWord = Literal["good", "uncertain", "substituted", "stale", "bad"]


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True, allow_inf_nan=False)


class Health(_Answer):
    """How the hub stands."""

    status: Literal["ok", "degraded"]
    version: str
    now: AwareDatetime = Field(description="the hub's clock")
    clock_speed: float
    parts: dict[str, Any] = Field(description="state and counters of each room")


class Me(_Answer):
    """Who is asking, as the hub sees it."""

    user: str
    roles: tuple[str, ...]


class Explanation(_Answer):
    """An edge's own words on why a device does, or did, what it does."""

    edge_id: EdgeId
    device_id: DeviceId
    at: AwareDatetime | None = Field(description="instant asked about; null = now")
    answered_at: AwareDatetime = Field(description="by the edge's clock")
    text: str


class Edge(_Answer):
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


class Device(_Answer):
    """A device as its birth described it."""

    edge_id: EdgeId
    device_id: DeviceId
    online: bool
    offline_since: AwareDatetime | None = Field(description="when it or its edge died, by the hub's clock")
    points: tuple[PointId, ...]
    born_at: AwareDatetime | None


class Value(_Answer):
    """A number with unit, time and quality; null = no usable number."""

    value: float | None
    unit: str
    at: AwareDatetime
    quality: QualityWord


class PointValue(Value):
    """Last value of a point."""

    point: PointId


class Row(_Answer):
    """One value of a series; the unit stands at its head."""

    at: AwareDatetime
    value: float | None
    quality: QualityWord


class ReadingSeries(_Answer):
    """Readings of one point, ascending; an interval is labelled by its start."""

    point: PointId
    unit: str
    step: str = Field(description="ISO 8601 duration of the means, or raw", examples=["PT15M"])
    rows: tuple[Row, ...]
    truncated: bool = Field(description="true when there is more than the limit let through")


class RollupRow(_Answer):
    """One interval; the unit stands at the head, null = there was no number."""

    at: AwareDatetime
    count: int = Field(description="readings with a number")
    good: int = Field(description="those of good quality")
    minimum: float | None
    maximum: float | None
    mean: float | None
    last: float | None
    quality: QualityWord = Field(description="the worst met in the interval")


class RollupSeries(_Answer):
    """Roll-ups of one point, ascending; an interval is labelled by its start."""

    point: PointId
    unit: str
    step: str = Field(description="ISO 8601 duration of the intervals; P1D = local days", examples=["PT1H"])
    time_zone: str = Field(description="whose days P1D are", examples=["Europe/Berlin"])
    rows: tuple[RollupRow, ...]
    truncated: bool = Field(description="true when there is more than the limit let through")


class GroupSeries(_Answer):
    """One group's series."""

    group: str
    points: int = Field(description="points in the group")
    rows: tuple[Row, ...]


class GroupedReadings(_Answer):
    """Series of groups of points; an interval is labelled by its start."""

    function: Literal["sum", "mean", "min", "max"]
    unit: str
    step: str = Field(description="ISO 8601 duration of the intervals; P1D = local days", examples=["PT1H"])
    time_zone: str = Field(description="whose days P1D are", examples=["Europe/Berlin"])
    groups: tuple[GroupSeries, ...]


class QualityFinding(_Answer):
    """One verdict of a rule of data quality."""

    point: PointId
    measured_at: AwareDatetime
    received_at: AwareDatetime
    rule: str
    value: float | None = Field(description="the number as received; null = there was none")
    limit: float | None = Field(description="the figure the rule compared with; durations in seconds")
    unit: str = Field(description="of the value")


class MisdatedReading(_Answer):
    """A reading whose instant is not believed: kept with both of its times, outside every series."""

    point: PointId
    measured_at: AwareDatetime
    received_at: AwareDatetime
    value: float | None
    unit: str
    quality: QualityWord
    rule: str


class ForecastRow(_Answer):
    """One interval of a forecast."""

    at: AwareDatetime
    p10: float
    p50: float
    p90: float
    lo90: float
    hi90: float


class ForecastIssue(_Answer):
    """When a forecast was issued, and by which model."""

    model_id: str
    issued_at: AwareDatetime


class Forecast(ForecastIssue):
    """An issued forecast."""

    rows: tuple[ForecastRow, ...]


class ForecastAnswer(_Answer):
    """The newest forecast that reaches into the span, and all issues that do."""

    point: PointId
    unit: str
    step: str | None
    latest: Forecast | None
    issues: tuple[ForecastIssue, ...]


class PlanSummary(_Answer):
    """A plan in one line."""

    plan_id: str
    edge_id: EdgeId
    state: PlanState
    verdict: Verdict
    issued_at: AwareDatetime
    start: AwareDatetime
    end: AwareDatetime
    published_at: AwareDatetime
    confirmed_at: AwareDatetime | None


class PlanDetail(PlanSummary):
    """A plan with setpoints, certificate and curves."""

    sha256: str
    plan: Plan
    curves: PlanCurves


class CommandRequest(_Answer):
    """An instruction to one device, with an end."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        json_schema_extra={
            "examples": [
                {
                    "edge_id": "harbour",
                    "device_id": "bat1",
                    "action": "setpoint_w",
                    "value_w": -20000.0,
                    "valid_for_s": 600,
                    "reason": "relieve the feeder",
                }
            ]
        },
    )

    command_id: str | None = Field(default=None, min_length=8, max_length=64, description="yours to make a repeat harmless")
    edge_id: EdgeId
    device_id: DeviceId
    action: Action
    value_w: float | None = Field(default=None, description="load convention: positive = drawn from the grid")
    valid_for_s: float = Field(gt=0, le=86_400, description="seconds of the hub's clock until it ends")
    reason: str = Field(min_length=3, max_length=300)


class ConfigRequest(_Answer):
    """A site file for an edge."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        json_schema_extra={"examples": [{"text": "edge_id: harbour\nstate_dir: /var/lib/tieline/harbour\n"}]},
    )

    text: str = Field(min_length=1, max_length=MAX_CHARS, description="YAML, comments included")


class ConfigAnswer(_Answer):
    """A published configuration and what the edge has made of it."""

    edge_id: EdgeId
    config_id: str
    sha256: str = Field(description="content hash of the signed envelope")
    published_at: AwareDatetime
    state: ArtifactState
    reason: str = Field(description="in words; a refusal names key, value and reason")
    text: str


class PolicyRequest(_Answer):
    """Sections of a shedding policy, or a release, or both."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        json_schema_extra={"examples": [{"text": "exchange: {import_w: 400000}\nclasses: {load03: 2}\n"}]},
    )

    text: str | None = Field(
        default=None, min_length=1, max_length=MAX_CHARS, description="YAML; null keeps the sections published last"
    )
    release: bool = Field(default=False, description="an operator releases the stages latched up to now")


class PolicyAnswer(_Answer):
    """A published policy and what the edge has made of it."""

    edge_id: EdgeId
    sha256: str = Field(description="content hash of the signed envelope")
    published_at: AwareDatetime
    state: ArtifactState
    reason: str = Field(description="in words; a refusal names the vital device or the key, value and reason")
    policy: Policy


class CommandAnswer(_Answer):
    """A command and what became of it."""

    command: Command
    state: CommandState
    text: str
    reports: tuple[CommandReport, ...]


class Model(_Answer):
    """A trained model in use or used before."""

    model_id: str
    point: PointId
    state: ModelState
    published_at: AwareDatetime
    confirmed_at: AwareDatetime | None
    sha256: str
    onnx_sha256: str
    manifest: dict[str, Any]


class JobRequest(_Answer):
    """Work to be done by the hub."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        json_schema_extra={"examples": [{"kind": "import", "params": {"files": ["/data/measurements.parquet"]}}]},
    )

    kind: str = Field(min_length=1, max_length=32)
    params: dict[str, Any] = Field(default_factory=dict)


class SpanRequest(_Answer):
    """Hours of an edge, widened to whole ones."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        validate_by_name=True,
        validate_by_alias=True,
        json_schema_extra={"examples": [{"from": "2016-12-07T00:00:00Z", "to": "2016-12-08T00:00:00Z"}]},
    )

    start: AwareDatetime = Field(alias="from")
    end: AwareDatetime = Field(alias="to")
    streams: tuple[Stream, ...] = Field(default=tuple(Stream), min_length=1, max_length=3)


class GridState(_Answer):
    """Newest state estimate, in the order of the topology arrays; null = not known."""

    grid_id: str
    at: AwareDatetime
    topology_hash: str
    loading_pct: tuple[float | None, ...]
    vm_pu: tuple[float | None, ...]
    quality: tuple[int, ...]
