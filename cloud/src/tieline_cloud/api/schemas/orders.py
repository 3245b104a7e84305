"""What an operator orders: commands, policies, site configurations, jobs."""

from __future__ import annotations

from typing import Any

from pydantic import AwareDatetime, ConfigDict, Field

from tieline_cloud.api.schemas.base import Answer
from tieline_cloud.dispatch.standing import ArtifactState
from tieline_core.ids import DeviceId, EdgeId
from tieline_core.messages.command import Action, Command, CommandReport, CommandState
from tieline_core.messages.policy import Policy
from tieline_core.messages.site_config import MAX_CHARS


class CommandRequest(Answer):
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


class ConfigRequest(Answer):
    """A site file for an edge."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        json_schema_extra={"examples": [{"text": "edge_id: harbour\nstate_dir: /var/lib/tieline/harbour\n"}]},
    )

    text: str = Field(min_length=1, max_length=MAX_CHARS, description="YAML, comments included")


class ConfigAnswer(Answer):
    """A published configuration and what the edge has made of it."""

    edge_id: EdgeId
    config_id: str
    sha256: str = Field(description="content hash of the signed envelope")
    published_at: AwareDatetime
    state: ArtifactState
    reason: str = Field(description="in words; a refusal names key, value and reason")
    text: str


class PolicyRequest(Answer):
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


class PolicyAnswer(Answer):
    """A published policy and what the edge has made of it."""

    edge_id: EdgeId
    sha256: str = Field(description="content hash of the signed envelope")
    published_at: AwareDatetime
    state: ArtifactState
    reason: str = Field(description="in words; a refusal names the vital device or the key, value and reason")
    policy: Policy


class CommandAnswer(Answer):
    """A command and what became of it."""

    command: Command
    state: CommandState
    text: str
    reports: tuple[CommandReport, ...]


class JobRequest(Answer):
    """Work to be done by the hub."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        json_schema_extra={"examples": [{"kind": "import", "params": {"files": ["/data/measurements.parquet"]}}]},
    )

    kind: str = Field(min_length=1, max_length=32)
    params: dict[str, Any] = Field(default_factory=dict)
