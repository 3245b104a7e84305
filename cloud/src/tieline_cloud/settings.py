"""The one frozen configuration tree of the hub. Unknown keys are errors; every key has one meaning.

Reading it from YAML, with file and key in every message, is :mod:`tieline_cloud.config_file`.
"""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import parse_qs, urlsplit
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from tieline_cloud.ingest.third_party import admitted_nodes
from tieline_core.ids import DeviceId, EdgeId, PointId

Port = Annotated[int, Field(ge=1, le=65535)]
Percent = Annotated[float, Field(ge=0, le=100)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def is_loopback(host: str) -> bool:
    """True when nobody outside this machine can reach the address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Listen(_Section):
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


class ClockSettings(_Section):
    """``system`` in production; ``file`` follows a published simulation clock."""

    source: Literal["system", "file"] = "system"
    path: Path | None = None

    @model_validator(mode="after")
    def _file_needs_path(self) -> ClockSettings:
        if (self.source == "file") != (self.path is not None):
            raise ValueError("clock.path belongs to clock.source: file, and only to it")
        return self


class MqttSettings(_Section):
    """The hub's broker, between edges and hub."""

    host: str
    port: Port = 8883
    username: str | None = None
    password_file: Path | None = None
    insecure: bool = Field(default=False, description="plain TCP without TLS; only for loopback and demonstration")
    host_id: str = Field(default="hub", pattern=r"^[A-Za-z0-9_.-]{1,64}$", description="Sparkplug host application id")

    @model_validator(mode="after")
    def _tls_or_loopback(self) -> MqttSettings:
        if self.insecure and not is_loopback(self.host):
            raise ValueError(f"mqtt.insecure is for loopback only, {self.host!r} is another machine")
        return self


def known_zone(name: str) -> str:
    """The name of a time zone, checked.

    Raises:
        ValueError: When there is none of that name.
    """
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        raise ValueError(f"{name!r} is no time zone of the IANA list, e.g. 'Europe/Berlin'") from error
    return name


class SiteSettings(_Section):
    """Calendar of the served area."""

    time_zone: str = "UTC"
    country: str = Field(default="DE", pattern=r"^[A-Z]{2}$", description="ISO 3166 code, for public holidays")

    @field_validator("time_zone")
    @classmethod
    def _known_zone(cls, name: str) -> str:
        return known_zone(name)


class BatteryAsset(_Section):
    """A storage unit as the planner sees it."""

    p_charge_max_w: float = Field(gt=0)
    p_discharge_max_w: float = Field(gt=0)
    energy_wh: float = Field(gt=0)
    eta_charge: float = Field(default=0.96, gt=0, le=1, description="one-way efficiency")
    eta_discharge: float = Field(default=0.96, gt=0, le=1, description="one-way efficiency")
    soc_min_pct: Percent = 10.0
    soc_max_pct: Percent = 95.0
    soc_end_pct: Percent | None = Field(default=None, description="state of charge to end the plan with; none = as it began")
    wear_eur_per_mwh: float = Field(default=15.0, ge=0, description="price of throughput")

    @model_validator(mode="after")
    def _window(self) -> BatteryAsset:
        if self.soc_min_pct >= self.soc_max_pct:
            raise ValueError(f"soc_min_pct {self.soc_min_pct:g} must be below soc_max_pct {self.soc_max_pct:g}")
        return self


class PvAsset(_Section):
    """A PV plant the planner may curtail."""

    p_rated_w: float = Field(gt=0)
    curtailable: bool = True


class FlexibleLoadAsset(_Section):
    """A load whose energy may be moved within a day."""

    p_max_w: float = Field(gt=0)
    energy_wh: float = Field(gt=0, description="energy it needs in the planning window")


class EdgeAssets(_Section):
    """What one edge's site brings to the plan."""

    transformer: DeviceId = Field(default=DeviceId("tr1"), description="device id of the transformer that feeds the site")
    rated_va: float = Field(gt=0)
    batteries: dict[DeviceId, BatteryAsset] = Field(default_factory=dict)
    pv: dict[DeviceId, PvAsset] = Field(default_factory=dict)
    flexible_loads: dict[DeviceId, FlexibleLoadAsset] = Field(default_factory=dict)


class GridSettings(_Section):
    """The network model."""

    id: str = Field(default="grid", pattern=r"^[a-z0-9][a-z0-9_-]{0,47}$")
    file: Path | None = Field(
        default=None, description="network.json imported at the first start; later ones by the network job"
    )
    estimate_every_s: float = Field(default=2.0, gt=0, description="wall seconds between state estimates")


class PlanningSettings(_Section):
    """The day plan."""

    enabled: bool = True
    horizon_hours: float = Field(default=24.0, gt=0, le=48)
    replan_every_s: float = Field(default=3600.0, ge=60, description="seconds of the clock between plans")
    loading_limit_pct: float = Field(default=100.0, gt=0, description="of every branch; crossed only where nothing else helps")
    history_days: int = Field(default=45, ge=40, le=400, description="history the planning inputs are made from")


class TrainingSettings(_Section):
    """Load models."""

    history_days: int = Field(default=340, ge=35, le=1200)
    points: tuple[PointId, ...] = Field(default=(), description="forecast points; none = <edge>/site/load_w of every edge")


class StoreSettings(_Section):
    """The ledger and its roll-ups."""

    url: str | None = Field(
        default=None,
        description="postgresql://user@host:5432/database, duckdb:/path/to/file, or none = DuckDB file hub.duckdb in data_dir",
    )
    timezone: str | None = Field(default=None, description="whose days are rolled up; none = site.time_zone")
    roll_up_every_s: float = Field(default=5.0, ge=0.1, le=3600, description="wall seconds between roll-ups")

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, name: str | None) -> str | None:
        return None if name is None else known_zone(name)

    @field_validator("url")
    @classmethod
    def _without_secret(cls, url: str | None) -> str | None:
        if url is not None:
            parts = urlsplit(url)
            if parts.password is not None or "password" in parse_qs(parts.query):
                raise ValueError(
                    "a password does not belong into a configuration; put it into the file PGPASSFILE names, or into PGPASSWORD"
                )
        return url


Days = Annotated[int, Field(ge=1, le=36_500)]


class RetentionSettings(_Section):
    """Whole days each form of the past is kept; null = for ever. Roll-ups of days always are."""

    raw_days: Days | None = Field(default=400, description="readings as they came")
    minute_days: Days | None = Field(default=90, description="roll-ups of minutes")
    quarter_days: Days | None = Field(default=1100, description="roll-ups of quarter-hours; models are trained on them")
    hour_days: Days | None = Field(default=None, description="roll-ups of hours")
    overrides: dict[Annotated[str, Field(min_length=1, max_length=160)], Days] = Field(
        default={"*/m[0-9]*/*": 60},
        description="days of everything finer than an hour by pattern of point ids: customers' meters tell how people live",
    )

    @model_validator(mode="after")
    def _coarser_lives_longer(self) -> RetentionSettings:
        for finer, coarser in (("minute_days", "quarter_days"), ("quarter_days", "hour_days")):
            less, more = getattr(self, finer), getattr(self, coarser)
            if more is not None and (less is None or less > more):
                raise ValueError(f"{coarser} {more} must not be less than {finer} {'(for ever)' if less is None else less}")
        return self


class WorkerSettings(_Section):
    """Processes for training and planning; they never see the database."""

    processes: int = Field(default=1, ge=1, le=16)


class QualitySettings(_Section):
    """Data quality on arrival, and what stands in where nothing good was measured."""

    rules: Path | None = Field(default=None, description="own measurement classes (YAML), looked at before the delivered ones")
    estimate_every_s: float = Field(default=3600.0, ge=60, description="seconds of the clock between estimation runs")


class HubSettings(_Section):
    """Everything the hub is told at its start."""

    data_dir: Path
    mqtt: MqttSettings
    signing_key: Path = Field(description="raw Ed25519 key file, made by 'tieline-cloud keygen', mode 0600")
    listen: Listen = Listen()
    clock: ClockSettings = ClockSettings()
    site: SiteSettings = SiteSettings()
    grid: GridSettings = GridSettings()
    planning: PlanningSettings = PlanningSettings()
    training: TrainingSettings = TrainingSettings()
    workers: WorkerSettings = WorkerSettings()
    store: StoreSettings = StoreSettings()
    retention: RetentionSettings = RetentionSettings()
    quality: QualitySettings = QualitySettings()
    prices: Path | None = Field(default=None, description="csv imported at every start: start, price_eur_per_mwh")
    edges: dict[EdgeId, EdgeAssets] = Field(default_factory=dict)
    admitted_nodes: tuple[str, ...] = Field(
        default=(), description="third-party Sparkplug nodes as group/node: shown and stored at most once"
    )

    @field_validator("admitted_nodes")
    @classmethod
    def _nodes_apart(cls, nodes: tuple[str, ...], others: ValidationInfo) -> tuple[str, ...]:
        admitted_nodes(nodes, others.data.get("edges", {}))
        return nodes

    @model_validator(mode="after")
    def _training_has_its_past(self) -> HubSettings:
        days, needed = self.retention.quarter_days, max(self.training.history_days, self.planning.history_days)
        if days is not None and days < needed:
            raise ValueError(
                f"retention.quarter_days {days} must not be less than the {needed} days of history models are made of"
            )
        return self
