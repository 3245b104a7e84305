"""Peak shaving from the local forecast, for the time without a plan: batteries flatten the top. Pure functions.

For one battery the lowest flat top is found by bisection; a top is possible when a backward pass over the energy needed
ahead never asks for more than the battery can hold, nor at the start for more than it has. Batteries are taken one after
the other, each against the load that the ones before it leave.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from tieline_core.ids import DeviceId
from tieline_core.messages.telemetry import IssuedForecast
from tieline_edge.control.facts import SiteFacts
from tieline_edge.drivers.capabilities import Capability, DeviceSpec

#: One-way efficiency assumed for a battery whose own is not known: 0.92 for the round trip.
EFFICIENCY = 0.96
_BISECTIONS = 40
_EPS_WH = 1e-6


@dataclass(frozen=True, slots=True)
class Battery:
    """What the schedule needs to know of a battery.

    Attributes:
        device: Which.
        charge_w: Largest charging power [W].
        discharge_w: Largest discharging power, as a positive number [W].
        room_wh: Energy between the ends of its state-of-charge window [Wh].
        stored_wh: Energy above the lower end now [Wh].
    """

    device: DeviceId
    charge_w: float
    discharge_w: float
    room_wh: float
    stored_wh: float

    @classmethod
    def of(cls, spec: DeviceSpec, soc_pct: float) -> Battery | None:
        """From a specification and the present state of charge; None when it is no battery that can be told what to do."""
        if Capability.HOLD_POWER not in spec.capabilities or spec.energy_wh is None or spec.soc_max_pct <= spec.soc_min_pct:
            return None
        room = spec.energy_wh * (spec.soc_max_pct - spec.soc_min_pct) / 100.0
        stored = spec.energy_wh * (soc_pct - spec.soc_min_pct) / 100.0
        return cls(spec.device_id, max(spec.p_max_w, 0.0), max(-spec.p_min_w, 0.0), room, min(max(stored, 0.0), room))


def batteries_of(specs: Mapping[DeviceId, DeviceSpec], facts: SiteFacts) -> tuple[Battery, ...]:
    """Batteries whose state of charge is known now."""
    states = ((spec, facts.of(device).soc_pct) for device, spec in specs.items())
    batteries = (Battery.of(spec, soc) for spec, soc in states if soc is not None)
    return tuple(battery for battery in batteries if battery is not None)


@dataclass(frozen=True, slots=True)
class LocalSchedule:
    """Setpoints from the local forecast.

    Attributes:
        issued_at: When the forecast was issued.
        start: Start of the first step.
        step_s: Length of a step [s].
        values_w: Setpoint by device and step, charging > 0 [W].
        top_w: Highest load that is left [W].
        model_id: What forecast it rests on.
    """

    issued_at: datetime
    start: datetime
    step_s: int
    values_w: Mapping[DeviceId, tuple[float, ...]]
    top_w: float
    model_id: str

    @property
    def end(self) -> datetime:
        """End of the last step."""
        steps = len(next(iter(self.values_w.values()), ()))
        return self.start + timedelta(seconds=self.step_s * steps)

    def covers(self, now: datetime) -> bool:
        """True while it has a step for the instant."""
        return self.start <= now < self.end


def local_schedule(forecast: IssuedForecast, batteries: Sequence[Battery], now: datetime) -> LocalSchedule:
    """Flatten the forecast's median with the batteries, from the step that holds ``now``."""
    skip = max(0, int((now - forecast.start).total_seconds() // forecast.step_s))
    load = np.asarray(forecast.p50[skip:], dtype=np.float64)
    values: dict[DeviceId, tuple[float, ...]] = {}
    for battery in sorted(batteries, key=lambda one: (-one.stored_wh, one.device)):
        power = shave(load, battery, forecast.step_s)
        values[battery.device] = tuple(float(round(one, 1)) for one in power)
        load = load + power
    start = forecast.start + timedelta(seconds=skip * forecast.step_s)
    top = float(load.max()) if load.size else 0.0
    return LocalSchedule(forecast.issued_at, start, forecast.step_s, MappingProxyType(values), top, forecast.model_id)


def shave(load_w: NDArray[np.float64], battery: Battery, step_s: float) -> NDArray[np.float64]:
    """Battery power that leaves the lowest flat top.

    Args:
        load_w: Load by step [W], shape (n,).
        battery: The battery.
        step_s: Length of a step [s].

    Returns:
        Signed power by step, charging > 0 [W], shape (n,). Energy is bought as late as the next peak allows.
    """
    if load_w.size == 0 or battery.room_wh <= 0.0:
        return np.zeros_like(load_w)
    hours = step_s / 3600.0
    high = float(load_w.max())
    low = high - battery.discharge_w
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2.0
        if _needed(load_w, battery, middle, hours) is None:
            low = middle
        else:
            high = middle
    needed = _needed(load_w, battery, high, hours)
    if needed is None:
        return np.zeros_like(load_w)
    return _follow(load_w, battery, high, hours, needed)


def _needed(load_w: NDArray[np.float64], battery: Battery, top_w: float, hours: float) -> NDArray[np.float64] | None:
    """Energy needed at the start of each step to keep the top, shape (n + 1,); None when the top cannot be kept."""
    needed = np.zeros(load_w.size + 1)
    for index in range(load_w.size - 1, -1, -1):
        over = float(load_w[index]) - top_w
        if over > 0:
            if over > battery.discharge_w + 1e-9:
                return None
            needed[index] = needed[index + 1] + over * hours / EFFICIENCY
        else:
            needed[index] = max(0.0, needed[index + 1] - min(battery.charge_w, -over) * hours * EFFICIENCY)
        if needed[index] > battery.room_wh + _EPS_WH:
            return None
    return needed if needed[0] <= battery.stored_wh + _EPS_WH else None


def _follow(
    load_w: NDArray[np.float64], battery: Battery, top_w: float, hours: float, needed: NDArray[np.float64]
) -> NDArray[np.float64]:
    power = np.zeros_like(load_w)
    stored = battery.stored_wh
    for index, load in enumerate(load_w):
        over = float(load) - top_w
        if over > 0:
            power[index] = -min(over, battery.discharge_w, stored * EFFICIENCY / hours)
            stored += power[index] * hours / EFFICIENCY
        elif stored < needed[index + 1]:
            power[index] = min(battery.charge_w, -over, (needed[index + 1] - stored) / (hours * EFFICIENCY))
            stored += power[index] * hours * EFFICIENCY
    return power
