"""The cheapest schedule of one battery for known prices, exact: inf-convolution of the steps' costs, branching where needed.

A step's cost as a function of the change of stored energy has two pieces: charging costs ``price / eta`` a stored watt-hour,
discharging earns ``(price - wear) * eta``. While the second slope is not above the first the cost is convex, and the cheapest
way to every state of charge is kept as a sorted list of pieces: each step inserts its two, and what would leave the window is
used up from the cheap end (it must be taken) or cut off at the dear end (it cannot be). That is exact in O(T^2).

With negative prices the two slopes can cross. The linear programme would then burn energy by charging and discharging at once,
which no converter does. Such a step is first priced by the chord between full discharge and full charge, a lower bound, and,
where the solution lies between the two, branched into "only charging" and "only discharging" (best bound first).
"""

from __future__ import annotations

import heapq
from bisect import insort
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

_TINY: Final = 1e-9
#: Branches looked at before the best schedule found is taken with the bound that is then known.
MAX_NODES: Final = 400
_CHARGE, _DISCHARGE, _CHORD = 0, 1, 2
_FREE, _ONLY_CHARGE, _ONLY_DISCHARGE = 0, 1, -1


@dataclass(frozen=True, slots=True)
class Store:
    """A battery as the schedule sees it.

    Attributes:
        charge_w: Largest charging power [W].
        discharge_w: Largest discharging power, as a positive number [W].
        room_wh: Energy between the ends of its window [Wh].
        stored_wh: Energy above the lower end now [Wh].
        eta_charge: Stored share of what is drawn.
        eta_discharge: Delivered share of what is taken out.
        wear_eur_per_mwh: Price of wear on what is delivered.
        end_eur_per_mwh: Worth of what is stored at the end.
    """

    charge_w: float
    discharge_w: float
    room_wh: float
    stored_wh: float
    eta_charge: float = 0.96
    eta_discharge: float = 0.96
    wear_eur_per_mwh: float = 0.0
    end_eur_per_mwh: float = 0.0


@dataclass(frozen=True, slots=True)
class Optimum:
    """A schedule and what is known of it.

    Attributes:
        power_w: Signed power by step, charging > 0 [W], shape (T,).
        cost_eur: Energy and wear less the worth of what is stored at the end.
        bound_eur: No schedule is cheaper than this; equal to the cost unless branching was cut short.
        nodes: Branches looked at.
    """

    power_w: NDArray[np.float64]
    cost_eur: float
    bound_eur: float
    nodes: int


class _Steps:
    """Prices and sizes of the steps in EUR and watt-hours of stored energy."""

    def __init__(self, prices: NDArray[np.float64], store: Store, hours: float) -> None:
        self.store, self.hours, self.count = store, hours, prices.size
        self.up: list[float] = (prices / store.eta_charge / 1e6).tolist()
        self.down: list[float] = ((prices - store.wear_eur_per_mwh) * store.eta_discharge / 1e6).tolist()
        self.most_up = store.charge_w * hours * store.eta_charge
        self.most_down = store.discharge_w * hours / store.eta_discharge
        self.worth = store.end_eur_per_mwh / 1e6
        span = self.most_up + self.most_down
        self.chord = [
            (up * self.most_up + down * self.most_down) / span if span > 0 else 0.0
            for up, down in zip(self.up, self.down, strict=True)
        ]

    def cost(self, step: int, change_wh: float) -> float:
        """What a change of stored energy costs in a step [EUR]."""
        return change_wh * (self.up[step] if change_wh > 0 else self.down[step])

    def crossed(self, step: int) -> bool:
        """Charging and discharging at once would pay here."""
        return self.down[step] > self.up[step] + 1e-15

    def pieces(self, step: int, way: int) -> list[tuple[float, int, int, float]]:
        """(slope, step, kind, length) above the lowest change of the step."""
        if way == _FREE and self.crossed(step):
            return [(self.chord[step], step, _CHORD, self.most_up + self.most_down)]
        pieces = []
        if way != _ONLY_CHARGE:
            pieces.append((self.down[step], step, _DISCHARGE, self.most_down))
        if way != _ONLY_DISCHARGE:
            pieces.append((self.up[step], step, _CHARGE, self.most_up))
        return pieces


@dataclass(frozen=True, slots=True)
class _Node:
    """Changes of stored energy with some steps bound to one direction; ``bound`` holds for all that keep to these."""

    ways: tuple[int, ...]
    changes: NDArray[np.float64]
    bound: float
    cost: float


def _solve(steps: _Steps, ways: tuple[int, ...]) -> _Node:
    """The relaxed optimum; resting in every step always keeps the window, so there is one."""
    store = steps.store
    active: list[tuple[float, int, int, float]] = []
    changes = np.zeros(steps.count)
    used_cost, low, high = 0.0, store.stored_wh, store.stored_wh
    for step in range(steps.count):
        way = ways[step]
        if way != _ONLY_CHARGE:
            changes[step] -= steps.most_down
            used_cost -= steps.down[step] * steps.most_down
            low -= steps.most_down
        if way != _ONLY_DISCHARGE:
            high += steps.most_up
        for piece in steps.pieces(step, way):
            insort(active, piece)
        low, spent = _take(active, -low, changes) if low < 0.0 else (low, 0.0)
        used_cost += spent
        while high > store.room_wh + _TINY and active:
            slope, at, kind, length = active.pop()
            keep = length - (high - store.room_wh)
            if keep > 0.0:
                active.append((slope, at, kind, keep))
            high -= length - max(keep, 0.0)
    end = low
    # What is worth as much kept as sold is kept.
    while active and (active[0][0] < steps.worth or (active[0][2] == _DISCHARGE and active[0][0] <= steps.worth + 1e-15)):
        slope, at, _, length = active.pop(0)
        changes[at] += length
        used_cost += slope * length
        end += length
    cost = sum(steps.cost(step, change) for step, change in enumerate(changes)) - steps.worth * end
    return _Node(ways, changes, used_cost - steps.worth * end, cost)


def _take(active: list[tuple[float, int, int, float]], need: float, changes: NDArray[np.float64]) -> tuple[float, float]:
    """Use up the cheapest pieces for an energy that must be there; returns the new lower end (0) and what it costs."""
    spent = 0.0
    while need > _TINY and active:
        slope, at, kind, length = active[0]
        part = min(length, need)
        if part >= length:
            active.pop(0)
        else:
            active[0] = (slope, at, kind, length - part)
        changes[at] += part
        spent += slope * part
        need -= part
    return 0.0, spent


def cheapest(
    prices_eur_per_mwh: Sequence[float] | NDArray[np.float64], store: Store, step_s: float, max_nodes: int = MAX_NODES
) -> Optimum:
    """The cheapest schedule.

    Args:
        prices_eur_per_mwh: Price of energy by step, the same for what is drawn and what is delivered, shape (T,).
        store: The battery.
        step_s: Length of a step [s].
        max_nodes: Branches looked at before the best one is taken; positive prices need one, days on which burning energy
            would pay a few hundred.

    Raises:
        ValueError: When a price is not finite.
    """
    prices = np.asarray(prices_eur_per_mwh, dtype=np.float64)
    if not np.isfinite(prices).all():
        raise ValueError("a price is not a finite number")
    steps = _Steps(prices, store, step_s / 3600.0)
    root = _solve(steps, (_FREE,) * steps.count)
    best, nodes, heap = root, 1, [(root.bound, 0, root)]
    tolerance = 1e-9 * max(1.0, abs(root.cost))
    bound = root.bound
    while heap:
        bound, _, node = heapq.heappop(heap)
        if bound >= best.cost - tolerance or nodes >= max_nodes:
            break
        step = _widest(steps, node)
        for way in (_ONLY_CHARGE, _ONLY_DISCHARGE):
            child = _solve(steps, (*node.ways[:step], way, *node.ways[step + 1 :]))
            nodes += 1
            if child.cost < best.cost:
                best = child
            if child.bound < best.cost - tolerance:
                heapq.heappush(heap, (child.bound, nodes, child))
    else:
        bound = best.cost
    return Optimum(_power(steps, best.changes), best.cost, min(bound, best.cost), nodes)


def _widest(steps: _Steps, node: _Node) -> int:
    """The step whose chord is furthest below its true cost."""

    def gap(step: int) -> float:
        if node.ways[step] != _FREE or not steps.crossed(step):
            return -1.0
        change = float(node.changes[step])
        chord = -steps.down[step] * steps.most_down + steps.chord[step] * (change + steps.most_down)
        return steps.cost(step, change) - chord

    return max(range(steps.count), key=gap)


def _power(steps: _Steps, changes: NDArray[np.float64]) -> NDArray[np.float64]:
    store = steps.store
    factor = np.where(changes > 0.0, 1.0 / store.eta_charge, store.eta_discharge)
    power: NDArray[np.float64] = np.clip(changes * factor / steps.hours, -store.discharge_w, store.charge_w)
    power[np.abs(power) < 1e-6] = 0.0
    return power
