"""Which loads to shed: whole classes from the highest number, and the smallest sufficient set of the last one.

Inside a class the loads that have been off least take their turn first. Pure functions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Final

from tieline_core.ids import DeviceId

#: Finest step in which powers are compared [W]; rounding is downward, so a set is never thought larger than it is.
_UNIT_W: Final = 10.0
#: Most distinct sums that are followed, which bounds time and memory whatever the number of loads.
_MAX_SUMS: Final = 2000


@dataclass(frozen=True, slots=True)
class Candidate:
    """A load that may be shed.

    Attributes:
        priority: Its class, above 0.
        relief_w: What shedding it takes off the element [W], above 0.
        turn: How much it has been off already, in equal steps; a lower number goes first.
    """

    priority: int
    relief_w: float
    turn: int = 0


def choose(candidates: Mapping[DeviceId, Candidate], need_w: float) -> tuple[DeviceId, ...]:
    """Loads to shed until the need is met.

    Args:
        candidates: What may be shed; class 0 must not be among them.
        need_w: Relief that is wanted [W].

    Returns:
        Whole classes from the highest number down, and of the last one needed the smallest sufficient set among those
        whose turn it is; all loads when even that is not enough. Without any one load of the last class the set would
        not do, so at most one block too much is shed.
    """
    chosen: list[DeviceId] = []
    for priority in sorted({one.priority for one in candidates.values()}, reverse=True):
        if need_w <= 0.0:
            break
        of_class = {device: one for device, one in candidates.items() if one.priority == priority and one.relief_w > 0.0}
        subset = _in_turn(of_class, need_w)
        if subset is not None:
            return (*chosen, *subset)
        chosen.extend(sorted(of_class))
        need_w -= sum(one.relief_w for one in of_class.values())
    return tuple(chosen)


def _in_turn(of_class: Mapping[DeviceId, Candidate], need_w: float) -> tuple[DeviceId, ...] | None:
    """The smallest sufficient set among the fewest turns that suffice; None when the class does not."""
    ranked = sorted(of_class, key=lambda device: (of_class[device].turn, device))
    pool: dict[DeviceId, float] = {}
    for _, group in groupby(ranked, key=lambda device: of_class[device].turn):
        pool |= {device: of_class[device].relief_w for device in group}
        subset = smallest_sufficient(pool, need_w)
        if subset is not None:
            return subset
    return None


def smallest_sufficient(powers: Mapping[DeviceId, float], need_w: float) -> tuple[DeviceId, ...] | None:
    """The subset with the least power that reaches ``need_w``; fewer loads win a tie. None when all are not enough."""
    if sum(powers.values()) < need_w:
        return None
    unit = max(_UNIT_W, need_w / _MAX_SUMS)
    need = math.ceil(need_w / unit)
    reached: dict[int, tuple[DeviceId, ...]] = {0: ()}
    best: tuple[float, int, tuple[DeviceId, ...]] | None = None
    for device in sorted(powers):
        units = math.floor(powers[device] / unit)
        for total, subset in list(reached.items()):
            larger = (*subset, device)
            if total + units >= need:
                rank = (sum(powers[one] for one in larger), len(larger), larger)
                best = rank if best is None else min(best, rank)
            elif units and (total + units not in reached or len(larger) < len(reached[total + units])):
                reached[total + units] = larger
    # Rounding down may hide a set that is just sufficient: then all of them, less what is not needed.
    return _pruned(powers, tuple(sorted(powers)) if best is None else best[2], need_w)


def _pruned(powers: Mapping[DeviceId, float], chosen: tuple[DeviceId, ...], need_w: float) -> tuple[DeviceId, ...]:
    kept = list(chosen)
    for device in sorted(chosen, key=lambda one: (-powers[one], one)):
        if sum(powers[one] for one in kept if one != device) >= need_w:
            kept.remove(device)
    return tuple(kept)
