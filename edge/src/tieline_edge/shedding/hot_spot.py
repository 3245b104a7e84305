"""Hot spot of an oil-immersed transformer by the differential equations of IEC 60076-7 (clause 8.2.3).

Top oil follows the total losses with the oil time constant, the hot spot's rise above it follows the current with the
winding time constant and, for ``k21`` above 1, with an overshoot. Loading is constant between two looks, so each equation is
solved exactly over the step, whatever its length; a measured top-oil temperature replaces the modelled one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final

from tieline_core.ids import DeviceId
from tieline_core.shedding import HotSpotParameters
from tieline_edge.shedding.loading import Watched, must_have_moved
from tieline_edge.shedding.rule import Finding, Look, RuleSite, RuleView, Standing
from tieline_edge.shedding.shares import share_and_delay
from tieline_edge.shedding.signals import Source, Steady, Stretch, read, ripe, sense, stretch
from tieline_edge.shedding.thermal_overload import ThermalOverload
from tieline_edge.snapshot import Watch

NAME: Final = "hot-spot"
#: Temperatures outside of this are a fault of the measurement [degC].
_POSSIBLE_DEGC: Final = (-60.0, 250.0)
_MOST_LOAD: Final = 4.0
_BISECTIONS: Final = 40


@dataclass(frozen=True, slots=True)
class Thermal:
    """State of the model.

    Attributes:
        oil_degc: Top oil.
        rise_k: First part of the hot spot's rise above top oil.
        swing_k: Second part, which is taken off.
    """

    oil_degc: float
    rise_k: float
    swing_k: float

    @property
    def hot_spot_degc(self) -> float:
        """Temperature of the hot spot."""
        return self.oil_degc + self.rise_k - self.swing_k


def steady_state(told: HotSpotParameters, load: float, ambient_degc: float) -> Thermal:
    """Where the model comes to rest at a load (per unit of the rated current)."""
    losses = (1.0 + told.loss_ratio * load**2) / (1.0 + told.loss_ratio)
    rise = told.gradient_k * load**told.winding_exponent
    return Thermal(ambient_degc + told.top_oil_rise_k * losses**told.oil_exponent, told.k21 * rise, (told.k21 - 1.0) * rise)


def advance(told: HotSpotParameters, state: Thermal, load: float, ambient_degc: float, seconds: float) -> Thermal:
    """The state after so many seconds at a constant load."""
    goal = steady_state(told, load, ambient_degc)

    def toward(value: float, end: float, time_s: float) -> float:
        return end + (value - end) * math.exp(-max(0.0, seconds) / time_s)

    return Thermal(
        toward(state.oil_degc, goal.oil_degc, told.k11 * told.oil_time_s),
        toward(state.rise_k, goal.rise_k, told.k22 * told.winding_time_s),
        toward(state.swing_k, goal.swing_k, told.oil_time_s / told.k22),
    )


def load_for(told: HotSpotParameters, hot_spot_degc: float, ambient_degc: float) -> float:
    """Largest constant load at which the hot spot stays at a temperature [per unit]; 0 when the ambient alone is too hot."""
    low, high = 0.0, _MOST_LOAD
    if steady_state(told, low, ambient_degc).hot_spot_degc >= hot_spot_degc:
        return 0.0
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2.0
        if steady_state(told, middle, ambient_degc).hot_spot_degc > hot_spot_degc:
            high = middle
        else:
            low = middle
    return low


@dataclass(frozen=True, slots=True)
class HotSpotMemory:
    """State of the model, times above its two limits, and how the loading has moved."""

    state: Thermal | None = None
    at: datetime | None = None
    above: Stretch | None = None
    severe: Stretch | None = None
    steady: Mapping[str, Steady] = field(default_factory=dict)


class HotSpot:
    """The rule at one transformer.

    Args:
        site: The site.
        transformer: Whose loading, and top-oil temperature where it has one, is taken.
        told: Parameters of the model.
    """

    def __init__(self, site: RuleSite, transformer: DeviceId, told: HotSpotParameters) -> None:
        self._told = told
        self._thermal = ThermalOverload(site, transformer)
        self._loading = Source(site.edge, transformer, "loading_pct", 0.0, 100.0 * _MOST_LOAD)
        self._oil = Source(site.edge, transformer, "oil_temp_degc", *_POSSIBLE_DEGC)
        ambient = site.settings.ambient
        self._ambient = None if ambient is None else Source(site.edge, ambient, "temp_degc", -60.0, 60.0)
        self._stuck_s = site.settings.thermal_overload.stuck_s
        self._switching = site.settings.switching
        share, delay_s = share_and_delay(site, transformer)
        levels = site.settings.thermal_overload
        self._watched = Watched(NAME, "hot_spot", transformer, levels, self._switching.min_samples, delay_s, share)
        self._rated_va = site.rated_va
        self.key = f"{NAME}/{transformer}"
        self.fresh = HotSpotMemory()
        #: Minutes pass before a temperature follows: the regular cycle is soon enough.
        self.watches: tuple[Watch, ...] = ()

    def look(self, memory: Any, view: RuleView, standing: Standing) -> Look:
        """Look once."""
        held: HotSpotMemory = memory
        told, watched, device = self._told, self._watched, self._watched.device
        moved = must_have_moved(watched, standing, self._rated_va)
        sensed = sense(view, (self._loading,), held.steady, self._stuck_s, moved, self._switching.effect_s)
        held = replace(held, steady=sensed.steady)
        base = Finding(
            NAME,
            watched.code,
            device,
            f"the hot spot of {device} is not known ({sensed.why})",
            blind=True,
            share=watched.share,
            restore_hold_s=told.restore_hold_s,
        )
        burden = self._thermal.burden(view)
        if sensed.sample is None or burden is None:
            return Look(base, held)
        ambient = None if self._ambient is None else read(view, self._ambient)
        ambient_degc = told.ambient_degc if ambient is None else ambient.value
        state = self._state(held, view, burden.loading_pct / 100.0, ambient_degc)
        hot, sample, gap_s = state.hot_spot_degc, sensed.sample, view.ages.of(device)
        held = replace(
            held,
            state=state,
            at=view.now,
            above=stretch(held.above, hot > told.trip_degc, sample, gap_s),
            severe=stretch(held.severe, hot > told.severe_degc, sample, gap_s),
        )
        samples, delay_s = watched.min_samples, watched.delay_s
        over = held.above is not None and not burden.exports
        around_degc = self._surroundings(view, burden.loading_pct / 100.0, ambient_degc)
        target_pct = 100.0 * load_for(told, told.target_degc, around_degc)
        restore_pct = 100.0 * load_for(told, told.restore_degc, around_degc)
        finding = replace(
            base,
            text=f"hot spot of {device} at {hot:.0f} °C",
            blind=False,
            excess_w=burden.excess_w(target_pct) if over else 0.0,
            due=sample.good
            and (
                ripe(held.above, told.hold_s + delay_s, samples, view.now)
                or ripe(held.severe, told.severe_hold_s + delay_s, samples, view.now)
            ),
            flow_w=burden.flow_w,
            measured_at=sample.at,
            room_w=burden.room_w(restore_pct) if hot < told.restore_degc else 0.0,
        )
        return Look(finding, held)

    def _surroundings(self, view: RuleView, load: float, ambient_degc: float) -> float:
        """The ambient to predict with: oil that is hotter than the model can explain (fouled coolers) counts as ambient."""
        oil = read(view, self._oil)
        if oil is None:
            return ambient_degc
        return max(ambient_degc, oil.value - (steady_state(self._told, load, 0.0).oil_degc))

    def _state(self, held: HotSpotMemory, view: RuleView, load: float, ambient_degc: float) -> Thermal:
        # What was before the first look is not known: at rest at the load that is seen is the warmest guess while loaded.
        start = held.state or steady_state(self._told, load, ambient_degc)
        seconds = 0.0 if held.at is None else (view.now - held.at).total_seconds()
        state = advance(self._told, start, load, ambient_degc, seconds)
        oil = read(view, self._oil)
        return state if oil is None else replace(state, oil_degc=oil.value)


def build(site: RuleSite) -> tuple[HotSpot, ...]:
    """The rule, where a transformer and the model's parameters are named."""
    told, transformer = site.settings.hot_spot, site.settings.transformer
    return () if told is None or transformer is None else (HotSpot(site, transformer, told),)
