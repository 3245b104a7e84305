"""Schedules for the time without a plan: batteries flatten the top of the local forecast, or follow known prices.

For one battery the lowest flat top is found by bisection; a top is possible when a backward pass over the energy needed
ahead never asks for more than the battery can hold, nor at the start for more than it has. Batteries are taken one after
the other, each against the load that the ones before it leave.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from tieline_core.ids import DeviceId
from tieline_core.messages.telemetry import IssuedForecast
from tieline_edge.control.battery_oracle import Store, cheapest
from tieline_edge.control.facts import SiteFacts
from tieline_edge.drivers.capabilities import Capability, DeviceSpec
from tieline_edge.settings import LocalScheduleSettings

#: One-way efficiency assumed for a battery whose own is not known: 0.92 for the round trip.
EFFICIENCY = 0.96
_BISECTIONS = 40
#: Branches for all batteries together: a tenth of a second of a desktop core, for it is the control loop that waits.
NODES = 200
_EPS_WH = 1e-6


@dataclass(frozen=True, slots=True)
class Battery:
    """What the schedule needs to know of a battery.

    Attributes:
        device: Which.
        charge_w: Largest charging power [W].
        discharge_w: Largest discharging power, as a positive number [W].
        room_wh: Energy between the upper end of its state-of-charge window and what is kept for safety [Wh].
        stored_wh: Energy above what is kept for safety now [Wh].
    """

    device: DeviceId
    charge_w: float
    discharge_w: float
    room_wh: float
    stored_wh: float

    @classmethod
    def of(cls, spec: DeviceSpec, soc_pct: float) -> Battery | None:
        """From a specification and the present state of charge; None when it is no battery that can be told what to do."""
        low_pct = spec.soc_min_pct + spec.soc_reserve_pct
        if Capability.HOLD_POWER not in spec.capabilities or spec.energy_wh is None or spec.soc_max_pct <= low_pct:
            return None
        room = spec.energy_wh * (spec.soc_max_pct - low_pct) / 100.0
        stored = spec.energy_wh * (soc_pct - low_pct) / 100.0
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
        aim: What it is for, in words.
    """

    issued_at: datetime
    start: datetime
    step_s: int
    values_w: Mapping[DeviceId, tuple[float, ...]]
    top_w: float
    model_id: str
    aim: str = ""

    @property
    def end(self) -> datetime:
        """End of the last step."""
        steps = len(next(iter(self.values_w.values()), ()))
        return self.start + timedelta(seconds=self.step_s * steps)

    def covers(self, now: datetime) -> bool:
        """True while it has a step for the instant."""
        return self.start <= now < self.end


def plan_locally(
    forecast: IssuedForecast,
    batteries: Sequence[Battery],
    now: datetime,
    settings: LocalScheduleSettings,
    prices: Callable[[datetime, int, int], NDArray[np.float64]],
) -> LocalSchedule | None:
    """The schedule the configuration asks for; without a price for the present step the top is flattened.

    Args:
        forecast: The local one.
        batteries: What can be moved; none gives no schedule.
        now: Present instant, UTC.
        settings: The objective and its terms.
        prices: Known prices from an instant on, for steps of so many seconds, at most so many of them.
    """
    if not batteries:
        return None
    if settings.objective == "price":
        start, steps = _from(forecast, now)
        known = prices(start, forecast.step_s, steps)
        if known.size:
            return priced_schedule(forecast, batteries, now, known, settings)
    return local_schedule(forecast, batteries, now)


def _from(forecast: IssuedForecast, now: datetime) -> tuple[datetime, int]:
    skip = max(0, int((now - forecast.start).total_seconds() // forecast.step_s))
    return forecast.start + timedelta(seconds=skip * forecast.step_s), max(0, len(forecast.p50) - skip)


def priced_schedule(
    forecast: IssuedForecast,
    batteries: Sequence[Battery],
    now: datetime,
    prices_eur_per_mwh: NDArray[np.float64],
    settings: LocalScheduleSettings,
) -> LocalSchedule:
    """The cheapest schedule of each battery by known prices, from the step that holds ``now``; exact for all together.

    Args:
        forecast: Gives the steps and what load is left.
        batteries: What can be moved.
        now: Present instant, UTC.
        prices_eur_per_mwh: Price by step from that one on, shape (n,); the schedule ends with them.
        settings: Efficiencies, wear and the worth of what is left at the end.
    """
    start, left = _from(forecast, now)
    skip = len(forecast.p50) - left
    load = np.asarray(forecast.p50[skip : skip + prices_eur_per_mwh.size], dtype=np.float64)
    end = settings.end_eur_per_mwh
    worth = end if end is not None else max(0.0, float(prices_eur_per_mwh.mean()) * settings.eta_discharge)
    values: dict[DeviceId, tuple[float, ...]] = {}
    cost = 0.0
    for battery in sorted(batteries, key=lambda one: one.device):
        store = Store(
            battery.charge_w,
            battery.discharge_w,
            battery.room_wh,
            battery.stored_wh,
            settings.eta_charge,
            settings.eta_discharge,
            settings.wear_eur_per_mwh,
            worth,
        )
        found = cheapest(prices_eur_per_mwh, store, forecast.step_s, max(1, NODES // len(batteries)))
        cost += found.cost_eur + worth * battery.stored_wh / 1e6
        values[battery.device] = tuple(float(round(one, 1)) + 0.0 for one in found.power_w)
        load = load + found.power_w
    top = float(load.max()) if load.size else 0.0
    aim = f"cheapest by known prices, {cost:+.2f} EUR against resting"
    return LocalSchedule(forecast.issued_at, start, forecast.step_s, MappingProxyType(values), top, forecast.model_id, aim)


def local_schedule(forecast: IssuedForecast, batteries: Sequence[Battery], now: datetime) -> LocalSchedule:
    """Flatten the forecast's median with the batteries, from the step that holds ``now``."""
    start, steps = _from(forecast, now)
    load = np.asarray(forecast.p50[len(forecast.p50) - steps :], dtype=np.float64)
    values: dict[DeviceId, tuple[float, ...]] = {}
    for battery in sorted(batteries, key=lambda one: (-one.stored_wh, one.device)):
        power = shave(load, battery, forecast.step_s)
        values[battery.device] = tuple(float(round(one, 1)) for one in power)
        load = load + power
    top = float(load.max()) if load.size else 0.0
    aim = f"flat top of {top / 1000:.0f} kW by the local forecast"
    return LocalSchedule(forecast.issued_at, start, forecast.step_s, MappingProxyType(values), top, forecast.model_id, aim)


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
