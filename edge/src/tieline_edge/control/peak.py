"""The lowest flat top of a load that batteries can keep.

For one battery it is found by bisection; a top is possible when a backward pass over the energy needed ahead never asks for
more than the battery can hold, nor at the start for more than it has. For several a flow through time finds it
(:mod:`tieline_edge.control.peak_flow`), from the top on that one battery with the powers and energies of all would leave.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tieline_core.ids import DeviceId
from tieline_edge.control.battery import EFFICIENCY, Battery
from tieline_edge.control.peak_flow import share_top

_BISECTIONS: Final = 40
_EPS_WH: Final = 1e-6


def flatten(load_w: NDArray[np.float64], batteries: Sequence[Battery], step_s: float) -> NDArray[np.float64]:
    """Powers that leave the lowest flat top together; no battery charges another.

    Args:
        load_w: Load by step [W], shape (n,).
        batteries: What can be moved.
        step_s: Length of a step [s].

    Returns:
        Signed power by battery and step, charging > 0 [W], shape (batteries, n).
    """
    powers = np.zeros((len(batteries), load_w.size))
    usable = [index for index, battery in enumerate(batteries) if battery.room_wh > 0.0]
    if load_w.size == 0 or not usable:
        return powers
    if len(usable) == 1:
        powers[usable[0]] = shave(load_w, batteries[usable[0]], step_s)
        return powers
    several = [batteries[index] for index in usable]
    powers[usable] = share_top(load_w, several, step_s, _lowest(load_w, _pooled(several), step_s / 3600.0))
    return powers


def _pooled(batteries: Sequence[Battery]) -> Battery:
    """All of them as one: what it cannot keep, they cannot."""
    sums = (sum(getattr(one, name) for one in batteries) for name in ("charge_w", "discharge_w", "room_wh", "stored_wh"))
    return Battery(DeviceId("pool"), *sums)


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
    top_w = _lowest(load_w, battery, hours)
    needed = _needed(load_w, battery, top_w, hours)
    if needed is None:
        return np.zeros_like(load_w)
    return _follow(load_w, battery, top_w, hours, needed)


def _lowest(load_w: NDArray[np.float64], battery: Battery, hours: float) -> float:
    high = float(load_w.max())
    low = high - battery.discharge_w
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2.0
        if _needed(load_w, battery, middle, hours) is None:
            low = middle
        else:
            high = middle
    return high


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
