"""Priority classes and the parameters of local shedding that hub and edge agree on."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, model_validator

#: Class 0 is vital and never shed; 1 is the most important of the rest; higher numbers go first.
VITAL: Final = 0
PriorityClass = Annotated[int, Field(ge=0, le=9)]


class ThermalOverloadParameters(BaseModel):
    """When a thermal overload sheds and when it restores; times in seconds of the clock, levels in per cent of the rating.

    Defaults follow the overload row of the default rule set: above 100 % for 60 s or above 120 % for 5 s sheds until
    below 95 %; below 85 % for 10 min restores stepwise.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    trip_pct: float = Field(default=100.0, gt=0, le=200)
    hold_s: float = Field(default=60.0, gt=0)
    severe_pct: float = Field(default=120.0, gt=0, le=300)
    severe_hold_s: float = Field(default=5.0, gt=0)
    target_pct: float = Field(default=95.0, gt=0, le=200)
    restore_pct: float = Field(default=85.0, gt=0, le=200)
    restore_hold_s: float = Field(default=600.0, ge=0)
    restore_step_s: float = Field(default=60.0, ge=0, description="pause between two restored loads")
    restore_spread_s: float = Field(default=30.0, ge=0, description="random addition to each pause")
    min_off_s: float = Field(default=300.0, ge=0)
    min_samples: int = Field(default=3, ge=1, description="good samples above the level that a hold must contain")
    settle_s: float = Field(default=2.0, ge=0, description="a loading measured sooner after a switching does not count")
    cold_load_factor: float = Field(default=1.3, ge=1, le=3, description="multiple of its shed power a load returns with")

    @model_validator(mode="after")
    def _ordered(self) -> ThermalOverloadParameters:
        if not self.restore_pct < self.target_pct <= self.trip_pct <= self.severe_pct:
            raise ValueError("levels must be ordered: restore_pct < target_pct <= trip_pct <= severe_pct")
        if self.severe_hold_s > self.hold_s:
            raise ValueError("severe_hold_s must not be longer than hold_s")
        return self
