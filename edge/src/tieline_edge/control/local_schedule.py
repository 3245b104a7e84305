"""Schedules for the time without a plan: batteries flatten the top of the local forecast, or follow known prices.

Both are exact for all batteries together: prices move each by itself (:mod:`tieline_edge.control.battery_oracle`), the top is
theirs in common (:mod:`tieline_edge.control.peak`).
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
from tieline_edge.control.battery import Battery
from tieline_edge.control.battery_oracle import Store, cheapest
from tieline_edge.control.peak import flatten
from tieline_edge.settings import LocalScheduleSettings

#: Branches for all batteries together: a tenth of a second of a desktop core.
NODES = 200


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
    powers = flatten(load, batteries, forecast.step_s)
    values = {one.device: tuple(float(round(w, 1)) for w in power) for one, power in zip(batteries, powers, strict=True)}
    load = load + powers.sum(axis=0)
    top = float(load.max()) if load.size else 0.0
    aim = f"flat top of {top / 1000:.0f} kW by the local forecast"
    return LocalSchedule(forecast.issued_at, start, forecast.step_s, MappingProxyType(values), top, forecast.model_id, aim)
