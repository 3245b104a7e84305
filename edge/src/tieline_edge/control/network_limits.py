"""The network's limits as claims: what the hub's table and the edge's own measurements leave each device.

The value of every limiting element is measured where the edge can see it; elsewhere it is what the hub expected, corrected by
what the devices here draw differently. The headroom left is shared among the devices in proportion to what they could do about
it, and divided by their sensitivity it is a limit of power. It needs no hub, and with a plan it rarely binds: the plan keeps
these limits already.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from tieline_core.ids import DeviceId, EdgeId, PointId
from tieline_core.messages.network import NetworkElement, NetworkTable
from tieline_edge.control.claims import NO_LIMIT, Band, Claim, Failsafe, Interval
from tieline_edge.control.effect import rating_w
from tieline_edge.drivers.capabilities import Capability, DeviceSpec
from tieline_edge.shedding.rule import RuleView

#: Kept free for the curvature of the power flow and what the meters are off.
MARGIN: Final[Mapping[str, float]] = {"loading_pct": 1.0, "vm_pu": 0.002}
#: Limits are told in steps of this share of the rating, towards the safe side.
GRID_SHARE: Final = 0.01
#: A table that fell silent goes on as its last limits for so long [s].
FAILSAFE_S: Final = 120.0
#: What rounding may take from a bound that lies on the grid [steps of it].
_HAIR: Final = 1e-6
_SOURCE: Final = "network"
_ABLE: Final = frozenset({Capability.HOLD_POWER, Capability.LIMIT_GENERATION})


@dataclass(frozen=True, slots=True)
class Pull:
    """What one device does to one element: change of its value with a watt more drawn, and how far the device can move [W]."""

    device: DeviceId
    per_w: float
    reach_w: float


def step_of(table: NetworkTable, steps: int, utc: datetime) -> int | None:
    """Position of an instant in the table; beyond its end the same time of its last day, None before it or without one."""
    index = math.floor((utc - table.start).total_seconds() / table.step_s)
    day = max(1, round(86_400 / table.step_s))
    if index >= steps:
        index -= math.ceil((index - steps + 1) / day) * day
    return index if 0 <= index < steps else None


@dataclass(frozen=True, slots=True)
class Look:
    """An element now: its value, and what is left of its limits (negative when they are crossed); None = no such limit."""

    value: float
    up: float | None
    down: float | None


def look(element: NetworkElement, table: NetworkTable, step: int, edge: EdgeId, view: RuleView) -> Look:
    """How an element stands: measured, else expected and corrected by what the devices here draw differently.

    Of what cannot be seen, a crossing that the hub expected anyway, with its plan, is no reason to depart from the plan: only
    making it worse is barred.
    """
    margin, place = MARGIN[element.quantity], element.measured
    if place is not None:
        seen = view.snapshot.value(PointId.of(edge, place.device_id, place.quantity), view.ages.of(place.device_id))
        if seen is not None:
            value = seen * place.scale
            up = None if element.high is None else element.high - margin - value
            return Look(value, up, None if element.low is None else value - element.low - margin)
    expected, moved = element.value[step], 0.0
    for one in element.sensitivities:
        power, planned = view.facts.of(one.device_id).p_w, table.p_w.get(one.device_id)
        if power is not None and planned is not None:
            moved += one.per_mw[step] * (power - planned[step]) / 1e6
    up = None if element.high is None else max(0.0, element.high - margin - expected) - moved
    return Look(expected + moved, up, None if element.low is None else max(0.0, expected - element.low - margin) + moved)


def shares(headroom: float, pulls: Iterable[Pull]) -> dict[DeviceId, float]:
    """By how many watts each device may move the way that raises the element's value: a pure function.

    Args:
        headroom: What is left up to the limit, negative when it is crossed; in the element's unit.
        pulls: What each device does to it.

    Returns:
        Watts more drawn where ``per_w`` > 0, watts less drawn (negative) where it is < 0.
    """
    found = list(pulls)
    weight = sum(abs(one.per_w) * one.reach_w for one in found)
    if weight <= 0.0:
        return {}
    # Both a share and its way back to watts: only the sign of the sensitivity is left of it.
    return {one.device: math.copysign(headroom * one.reach_w / weight, headroom * one.per_w) for one in found if one.per_w}


class NetworkLimits:
    """The speaker of the network.

    Args:
        edge: Whose points it reads.
        table: Gives the newest table; None while there is none.
        specs: Gives the devices as they are known now.
    """

    def __init__(
        self,
        edge: EdgeId,
        table: Callable[[], NetworkTable | None],
        specs: Callable[[], Mapping[DeviceId, DeviceSpec]],
    ) -> None:
        self._edge = edge
        self._table = table
        self._specs = specs

    def claims(self, view: RuleView) -> Iterator[Claim]:
        """One limit for each device that can do something about an element."""
        table = self._table()
        if table is None:
            return
        limits: dict[DeviceId, tuple[Interval, str]] = {}
        for element in table.elements:
            step = step_of(table, len(element.value), view.snapshot.at)
            if step is not None:
                self._narrow(limits, element, table, step, view)
        for device, (limit, reason) in sorted(limits.items()):
            yield Claim(
                device,
                Band.ENVELOPE,
                _SOURCE,
                reason,
                limit=limit,
                expires_at=view.now + timedelta(seconds=view.ages.default_s),
                failsafe=Failsafe(limit, FAILSAFE_S),
            )

    def _narrow(
        self,
        limits: dict[DeviceId, tuple[Interval, str]],
        element: NetworkElement,
        table: NetworkTable,
        step: int,
        view: RuleView,
    ) -> None:
        now, specs = look(element, table, step, self._edge, view), self._specs()
        able = [
            Pull(one.device_id, one.per_mw[step] / 1e6, rating_w(specs[one.device_id]))
            for one in element.sensitivities
            if one.device_id in specs
            and specs[one.device_id].capabilities & {Capability.HOLD_POWER, Capability.LIMIT_GENERATION}
        ]
        if sum(abs(one.per_w) * one.reach_w for one in able) < MARGIN[element.quantity]:
            # With all they can do the devices here would not be felt there.
            return
        sides = [(room, way) for room, way in ((now.up, 1.0), (now.down, -1.0)) if room is not None]
        for headroom, way in sides:
            pulls = [Pull(one.device, way * one.per_w, one.reach_w) for one in able]
            # A plant can only be told to deliver less: it is no help where more drawn is what hurts.
            useful = [one for one in pulls if one.per_w < 0 or Capability.HOLD_POWER in specs[one.device].capabilities]
            moves = shares(headroom, useful)
            reason = f"{element.element} at {now.value:.4g} {element.quantity}"
            for pull in useful:
                power = view.facts.of(pull.device).p_w
                if power is not None and pull.device in moves:
                    _meet(limits, specs[pull.device], power + moves[pull.device], pull.per_w > 0, reason)


def _meet(limits: dict[DeviceId, tuple[Interval, str]], spec: DeviceSpec, bound_w: float, above: bool, reason: str) -> None:
    """Narrow a device's limit by one bound, inside its rating and on the grid; two that exclude each other leave the first."""
    grid = max(1.0, GRID_SHARE * rating_w(spec))
    low, high = min(spec.p_min_w, 0.0), max(spec.p_max_w, 0.0)
    held, why = limits.get(spec.device_id, (NO_LIMIT, "the network leaves room"))
    # First into the rating: an absurd table, or a value far off, may ask for more than any number of grid steps.
    bound_w = min(max(bound_w, low), high)
    if above:
        bound = min(max(math.floor(bound_w / grid + _HAIR) * grid, low), high)
        one = NO_LIMIT if bound >= high else Interval(hi=bound)
    else:
        bound = min(max(math.ceil(bound_w / grid - _HAIR) * grid, low), high)
        one = NO_LIMIT if bound <= low else Interval(lo=bound)
    met = held.meet(one)
    if met is None:
        return
    limits[spec.device_id] = (met, reason if met != held else why)
