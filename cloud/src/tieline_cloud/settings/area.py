"""The served area: its calendar, its network, its assets, and what is planned and trained for them."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, field_validator, model_validator

from tieline_cloud.settings.section import Percent, Section, known_zone
from tieline_core.ids import DeviceId, PointId


class SiteSettings(Section):
    """Calendar of the served area."""

    time_zone: str = "UTC"
    country: str = Field(default="DE", pattern=r"^[A-Z]{2}$", description="ISO 3166 code, for public holidays")

    @field_validator("time_zone")
    @classmethod
    def _known_zone(cls, name: str) -> str:
        return known_zone(name)


class BatteryAsset(Section):
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


class PvAsset(Section):
    """A PV plant the planner may curtail."""

    p_rated_w: float = Field(gt=0)
    curtailable: bool = True


class FlexibleLoadAsset(Section):
    """A load whose energy may be moved within a day."""

    p_max_w: float = Field(gt=0)
    energy_wh: float = Field(gt=0, description="energy it needs in the planning window")


class EdgeAssets(Section):
    """What one edge's site brings to the plan."""

    transformer: DeviceId = Field(default=DeviceId("tr1"), description="device id of the transformer that feeds the site")
    rated_va: float = Field(gt=0)
    batteries: dict[DeviceId, BatteryAsset] = Field(default_factory=dict)
    pv: dict[DeviceId, PvAsset] = Field(default_factory=dict)
    flexible_loads: dict[DeviceId, FlexibleLoadAsset] = Field(default_factory=dict)


class GridSettings(Section):
    """The network model."""

    id: str = Field(default="grid", pattern=r"^[a-z0-9][a-z0-9_-]{0,47}$")
    file: Path | None = Field(
        default=None, description="network.json imported at the first start; later ones by the network job"
    )
    estimate_every_s: float = Field(default=2.0, gt=0, description="wall seconds between state estimates")


class PlanningSettings(Section):
    """The day plan."""

    enabled: bool = True
    horizon_hours: float = Field(default=24.0, gt=0, le=48)
    replan_every_s: float = Field(default=3600.0, ge=60, description="seconds of the clock between plans")
    loading_limit_pct: float = Field(default=100.0, gt=0, description="of every branch; crossed only where nothing else helps")
    history_days: int = Field(default=45, ge=40, le=400, description="history the planning inputs are made from")


class TrainingSettings(Section):
    """Load models."""

    history_days: int = Field(default=340, ge=35, le=1200)
    points: tuple[PointId, ...] = Field(default=(), description="forecast points; none = <edge>/site/load_w of every edge")
