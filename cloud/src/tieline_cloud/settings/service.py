"""The process itself: where it serves, whose clock it follows, which broker it speaks to, how many workers it has."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from tieline_cloud.settings.section import Port, Section, is_loopback


class Listen(Section):
    """Where API, console and metrics are served."""

    host: str = "127.0.0.1"
    port: int = Field(default=8600, ge=0, le=65535, description="0 = any free one, printed at the start")
    insecure: bool = Field(
        default=False, description="serve other machines although there is no TLS and every caller is the operator"
    )

    @model_validator(mode="after")
    def _loopback_unless_insecure(self) -> Listen:
        if not is_loopback(self.host) and not self.insecure:
            raise ValueError(
                f"listen.host {self.host!r} reaches beyond this machine and there are no users and no TLS yet; "
                "use 127.0.0.1, or say insecure: true if you mean it"
            )
        return self


class ClockSettings(Section):
    """``system`` in production; ``file`` follows a published simulation clock."""

    source: Literal["system", "file"] = "system"
    path: Path | None = None

    @model_validator(mode="after")
    def _file_needs_path(self) -> ClockSettings:
        if (self.source == "file") != (self.path is not None):
            raise ValueError("clock.path belongs to clock.source: file, and only to it")
        return self


class MqttSettings(Section):
    """The hub's broker, between edges and hub."""

    host: str
    port: Port = 8883
    username: str | None = None
    password_file: Path | None = None
    ca_file: Path | None = Field(
        default=None, description="PEM certificate of the authority that signed the broker's; without it the system's"
    )
    insecure: bool = Field(default=False, description="plain TCP without TLS; only for loopback and demonstration")
    host_id: str = Field(default="hub", pattern=r"^[A-Za-z0-9_.-]{1,64}$", description="Sparkplug host application id")

    @model_validator(mode="after")
    def _tls_or_loopback(self) -> MqttSettings:
        if self.insecure and not is_loopback(self.host):
            raise ValueError(f"mqtt.insecure is for loopback only, {self.host!r} is another machine")
        if self.insecure and self.ca_file is not None:
            raise ValueError("either insecure: true or a ca_file, not both")
        if self.username is None and self.password_file is not None:
            raise ValueError("password_file needs a username")
        return self


class WorkerSettings(Section):
    """Processes for training and planning; they never see the database."""

    processes: int = Field(default=1, ge=1, le=16)
