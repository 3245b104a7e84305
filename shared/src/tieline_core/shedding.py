"""Priority classes and the parameters of local shedding that hub and edge agree on.

Every rule has one frozen model here; its defaults are the default rule set. Levels are in per cent or per unit of the
rating, times in seconds of the clock. What is wrong is refused with the key that is wrong.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

#: Class 0 is vital and never shed; 1 is the most important of the rest; higher numbers go first.
VITAL: Final = 0
PriorityClass = Annotated[int, Field(ge=0, le=9)]
#: Longest wait a rule may be told [s]: 60 000 for 60 is milliseconds, and a load shed by a rule shall return some day.
MAX_WAIT_S: Final = 86_400.0
#: Longest time an effect may take to be measured [s], as for a device's own.
MAX_EFFECT_S: Final = 3_600.0


class _Parameters(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class SwitchingParameters(_Parameters):
    """How loads are opened and closed again, whichever rule wants it.

    Restoring follows the research on rebound: small steps, random pauses, longest open first, and never into the next
    violation even with the cold-load pick-up (delayed-exponential model: diversity is lost while a load is off).
    """

    effect_s: float = Field(
        default=10.0, gt=0, le=MAX_EFFECT_S, description="within it the effect of a switching shows in every measurement"
    )
    effect_share: float = Field(default=0.7, gt=0, le=1, description="share of its power a shed load must have lost by then")
    failed_s: float = Field(
        default=3600.0, ge=0, le=MAX_WAIT_S, description="a load that did not obey is not counted on for so long"
    )
    min_off_s: float = Field(default=300.0, ge=0, le=MAX_WAIT_S)
    restore_step_s: float = Field(default=60.0, ge=0, le=MAX_WAIT_S, description="pause between two restoring steps")
    restore_spread_s: float = Field(default=30.0, ge=0, le=MAX_WAIT_S, description="random addition to each pause")
    restore_step_share: float = Field(default=0.15, gt=0, le=1, description="largest share of the shed power in one step")
    cold_load_factor: float = Field(default=1.75, ge=1, le=3, description="multiple of its power a long-off load returns with")
    cold_load_s: float = Field(
        default=1800.0, gt=0, le=MAX_WAIT_S, description="time constant with which the factor builds up while off"
    )
    relapse_s: float = Field(
        default=900.0, ge=0, le=MAX_WAIT_S, description="a shedding so soon after a restoring doubles the next hold"
    )
    min_samples: int = Field(default=3, ge=1, description="good samples a hold must contain")
    stagger_s: float = Field(
        default=30.0, ge=0, le=MAX_WAIT_S, description="spread of the delays of edges under one shared element"
    )


class StorageParameters(_Parameters):
    """What batteries do before any customer is shed. Their reserve for it is a key of the device, ``soc_reserve_pct``."""

    relieve: bool = Field(default=True, description="batteries discharge into an overload before customers are shed")
    hold_s: float = Field(default=60.0, ge=0, le=MAX_WAIT_S, description="calm this long before a battery's help is taken back")


class _Levels(_Parameters):
    """Two holds on the way in, one target, one hold on the way out."""

    trip_pct: float = Field(default=100.0, gt=0, le=200)
    hold_s: float = Field(default=60.0, gt=0, le=MAX_WAIT_S)
    severe_pct: float = Field(default=120.0, gt=0, le=300)
    severe_hold_s: float = Field(default=5.0, gt=0, le=MAX_WAIT_S)
    target_pct: float = Field(default=95.0, gt=0, le=200)
    restore_pct: float = Field(default=85.0, gt=0, le=200)
    restore_hold_s: float = Field(default=600.0, ge=0, le=MAX_WAIT_S)
    stuck_s: float = Field(
        default=3600.0, gt=0, le=MAX_WAIT_S, description="a value that has not moved for so long is not believed"
    )

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.restore_pct < self.target_pct <= self.trip_pct <= self.severe_pct:
            raise ValueError("levels must be ordered: restore_pct < target_pct <= trip_pct <= severe_pct")
        if self.severe_hold_s > self.hold_s:
            raise ValueError("severe_hold_s must not be longer than hold_s")
        return self


class ThermalOverloadParameters(_Levels):
    """Loading of the transformer in per cent of its rating: above 100 % for 60 s or above 120 % for 5 s sheds until below
    95 %; below 85 % for 10 min restores."""


class LineOverloadParameters(_Levels):
    """Current of a line in per cent of its ampere rating; the same levels and times."""


class HotSpotParameters(_Parameters):
    """Thermal model of an oil-immersed transformer after IEC 60076-7, parameters of a distribution transformer (ONAN).

    Its distribution example: x 0.8, y 1.6, R 5, 180 min, 4 min, k11 1, k21 1, k22 2, top-oil rise 55 K, hot spot 23 K
    above top oil, so 98 degC at rated load and 20 degC. Trip and severe temperature are its limits for normal cyclic and
    long-time emergency loading of distribution transformers.
    """

    trip_degc: float = Field(default=120.0, gt=0, le=180)
    hold_s: float = Field(default=60.0, gt=0, le=MAX_WAIT_S)
    severe_degc: float = Field(default=140.0, gt=0, le=200)
    severe_hold_s: float = Field(default=5.0, gt=0, le=MAX_WAIT_S)
    target_degc: float = Field(default=115.0, gt=0, le=180)
    restore_degc: float = Field(default=105.0, gt=0, le=180)
    restore_hold_s: float = Field(default=600.0, ge=0, le=MAX_WAIT_S)
    ambient_degc: float = Field(default=30.0, ge=-40, le=60, description="where none is measured")
    top_oil_rise_k: float = Field(default=55.0, gt=0, le=90)
    gradient_k: float = Field(default=23.0, gt=0, le=60, description="hot spot above top oil at rated current, H times gr")
    loss_ratio: float = Field(default=5.0, gt=0, le=20, description="R, load losses at rated current to no-load losses")
    oil_exponent: float = Field(default=0.8, gt=0, le=1)
    winding_exponent: float = Field(default=1.6, gt=0, le=2)
    oil_time_s: float = Field(default=10_800.0, ge=1, le=MAX_WAIT_S)
    winding_time_s: float = Field(default=240.0, ge=1, le=MAX_WAIT_S)
    k11: float = Field(default=1.0, gt=0, le=2)
    k21: float = Field(default=1.0, ge=1, le=4)
    k22: float = Field(default=2.0, gt=0, le=4)

    @model_validator(mode="after")
    def _ordered(self) -> HotSpotParameters:
        if not self.ambient_degc < self.restore_degc < self.target_degc <= self.trip_degc <= self.severe_degc:
            raise ValueError("must be ordered: ambient_degc < restore_degc < target_degc <= trip_degc <= severe_degc")
        return self


class VoltageParameters(_Parameters):
    """Under-voltage sheds in blocks, over-voltage charges batteries and limits generation; per unit of the nominal voltage.

    ``hold_s`` must outlast the tap changer, which is there to mend the voltage first. The severe level lies outside its
    range and does not wait for it.
    """

    nominal_v: float = Field(default=230.0, gt=0)
    tap_changer_s: float = Field(
        default=45.0, ge=0, le=MAX_WAIT_S, description="time the tap changer takes to act; 0 = there is none"
    )
    low_pu: float = Field(default=0.92, gt=0.5, lt=1)
    hold_s: float = Field(default=60.0, gt=0, le=MAX_WAIT_S)
    severe_pu: float = Field(default=0.88, gt=0.5, lt=1)
    severe_hold_s: float = Field(default=5.0, gt=0, le=MAX_WAIT_S)
    block_share: float = Field(default=0.25, gt=0, le=1, description="share of the sheddable power that goes in one block")
    restore_pu: float = Field(default=0.95, gt=0.5, lt=1)
    restore_hold_s: float = Field(default=300.0, ge=0, le=MAX_WAIT_S)
    high_pu: float = Field(default=1.10, gt=1, lt=1.5)
    high_hold_s: float = Field(default=60.0, gt=0, le=MAX_WAIT_S)
    high_restore_pu: float = Field(default=1.08, gt=1, lt=1.5)
    stuck_s: float = Field(default=3600.0, gt=0, le=MAX_WAIT_S)

    @model_validator(mode="after")
    def _consistent(self) -> VoltageParameters:
        if not self.severe_pu < self.low_pu < self.restore_pu:
            raise ValueError("levels must be ordered: severe_pu < low_pu < restore_pu")
        if self.high_restore_pu >= self.high_pu:
            raise ValueError("high_restore_pu must be below high_pu")
        for key in ("hold_s", "high_hold_s"):
            if getattr(self, key) <= self.tap_changer_s:
                raise ValueError(
                    f"{key} {getattr(self, key):g} s must be longer than tap_changer_s {self.tap_changer_s:g} s: "
                    "the tap changer mends the voltage first"
                )
        return self


class FrequencyStage(_Parameters):
    """One stage: at or below ``below_hz`` for ``hold_s``, loads of ``share_pct`` of the enrolled power go.

    Attributes:
        share_pct: Share of the enrolled flexible power that is off when this stage stands, earlier stages included [%].
        discharge: Batteries give all they have.
        latched: Restoring waits for an operator, or for ``latch_s`` above ``latch_hz``.
    """

    name: str = Field(pattern=r"^D[0-9]$")
    below_hz: float = Field(gt=40, lt=60)
    hold_s: float = Field(gt=0, le=MAX_WAIT_S)
    share_pct: float = Field(ge=0, le=100)
    restore_hz: float = Field(gt=40, lt=61)
    restore_hold_s: float = Field(ge=0, le=MAX_WAIT_S)
    discharge: bool = False
    latched: bool = False


def _stages(nominal_hz: float, *below_hz: float) -> tuple[FrequencyStage, ...]:
    back_hz = 49.95 if nominal_hz == 50 else 59.95
    latch_hz = 49.98 if nominal_hz == 50 else 59.98
    return (
        FrequencyStage(name="D1", below_hz=below_hz[0], hold_s=5, share_pct=15, restore_hz=back_hz, restore_hold_s=300),
        FrequencyStage(name="D2", below_hz=below_hz[1], hold_s=2, share_pct=40, restore_hz=back_hz, restore_hold_s=600),
        FrequencyStage(name="D3", below_hz=below_hz[2], hold_s=1, share_pct=70, restore_hz=back_hz, restore_hold_s=900),
        FrequencyStage(
            name="D4",
            below_hz=below_hz[3],
            hold_s=0.5,
            share_pct=100,
            restore_hz=latch_hz,
            restore_hold_s=1800,
            discharge=True,
            latched=True,
        ),
    )


#: The stages of the default rule set, by nominal frequency; all of them act before the first mandatory relay stage.
STAGES: Final = {50: _stages(50, 49.8, 49.6, 49.4, 49.2), 60: _stages(60, 59.85, 59.75, 59.65, 59.55)}
_SIXTY: Final = {"stages": STAGES[60], "droop_below_hz": 59.95, "high_hz": 60.20, "high_restore_hz": 60.05}


class FrequencyParameters(_Parameters):
    """Demand response before the under-frequency relay, which it neither replaces nor moves.

    D0 is the batteries' droop alone. What is left out follows the nominal frequency. A dip shorter than a stage's hold
    never counts, so a hold must contain at least three samples of its input: the edge refuses anything else.
    """

    nominal_hz: Literal[50, 60] = 50
    stages: tuple[FrequencyStage, ...] = STAGES[50]
    droop_pct: float = Field(default=4.0, ge=0.1, le=20, description="deviation in per cent of nominal for full power")
    droop_below_hz: float = Field(default=49.90, gt=40, lt=61)
    droop_hold_s: float = Field(default=30.0, gt=0, le=MAX_WAIT_S)
    dead_band_hz: float = Field(default=0.02, ge=0, le=0.5)
    high_hz: float = Field(default=50.20, gt=40, lt=70)
    high_restore_hz: float = Field(default=50.05, gt=40, lt=70)
    high_hold_s: float = Field(default=5.0, gt=0, le=MAX_WAIT_S)
    max_slope_hz_per_s: float = Field(default=5.0, gt=0)
    nominal_v: float = Field(default=230.0, gt=0)
    min_voltage_pu: float = Field(default=0.7, ge=0, lt=1, description="below it a frequency is not believed")
    min_samples: int = Field(default=3, ge=3)
    stuck_s: float = Field(default=300.0, gt=0, le=MAX_WAIT_S)

    @model_validator(mode="before")
    @classmethod
    def _by_nominal(cls, given: object) -> object:
        return {**_SIXTY, **given} if isinstance(given, dict) and given.get("nominal_hz") == 60 else given

    @model_validator(mode="after")
    def _ordered(self) -> FrequencyParameters:
        for upper, lower in pairwise(self.stages):
            if lower.below_hz >= upper.below_hz or lower.share_pct < upper.share_pct:
                raise ValueError(f"stage {lower.name} must lie below stage {upper.name} and shed at least as much")
        for stage in self.stages:
            if not stage.below_hz < stage.restore_hz <= self.nominal_hz:
                raise ValueError(f"stage {stage.name}: restore_hz must lie between below_hz and {self.nominal_hz} Hz")
        if len({stage.name for stage in self.stages}) != len(self.stages):
            raise ValueError("each stage stands once")
        if not self.droop_below_hz < self.nominal_hz < self.high_restore_hz < self.high_hz:
            raise ValueError("must be ordered: droop_below_hz < nominal_hz < high_restore_hz < high_hz")
        return self


class ExchangeParameters(_Parameters):
    """Cap of what the site draws or delivers, from its contract or from the hub's operating envelope; None = no cap."""

    import_w: float | None = Field(default=None, gt=0)
    export_w: float | None = Field(default=None, ge=0)
    hold_s: float = Field(default=30.0, gt=0, le=MAX_WAIT_S)
    restore_share: float = Field(default=0.9, gt=0, lt=1, description="share of the cap below which loads return")
    restore_hold_s: float = Field(default=300.0, ge=0, le=MAX_WAIT_S)
    stuck_s: float = Field(default=3600.0, gt=0, le=MAX_WAIT_S)


class LossOfMainsParameters(_Parameters):
    """A dead or unsynchronised busbar: nothing closes until it is live, in band and stable."""

    enabled: bool = True
    nominal_v: float | None = Field(default=None, gt=0, description="None: any voltage of a live busbar is in band")
    band_pu: float = Field(default=0.10, gt=0, le=0.3)
    nominal_hz: Literal[50, 60] = 50
    band_hz: float = Field(default=1.0, gt=0, le=3)
    stable_s: float = Field(default=60.0, ge=0, le=MAX_WAIT_S)
    batteries: Literal["stand-by", "keep"] = "stand-by"
    plants: Literal["off", "keep"] = "off"
