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
#: Up to so many loads are weighed against each other exactly.
_EXACT: Final = 14
#: How much is left to that, in loads of middle size.
_FREE: Final = 4.0


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
    """A subset that reaches ``need_w`` with little more than that; None when all are not enough.

    Up to :data:`_EXACT` loads it is the one with the least power, and fewer loads win a tie. Of more loads the largest are
    taken until little is left to find, which keeps the time bounded and wakes few customers; the rest is found exactly
    among loads of all sizes. In every case without any one of its loads the set would not do.
    """
    if sum(powers.values()) < need_w:
        return None
    if len(powers) <= _EXACT:
        return _pruned(powers, _least(powers, need_w) or tuple(sorted(powers)), need_w)
    ranked = sorted(powers, key=lambda device: (-powers[device], device))
    reserve_w = _FREE * powers[ranked[len(ranked) // 2]]
    taken: list[DeviceId] = []
    left_w = need_w
    for device in ranked:
        if left_w - powers[device] >= reserve_w:
            taken.append(device)
            left_w -= powers[device]
    rest = [device for device in ranked if device not in set(taken)]
    some = rest[:: max(1, len(rest) // _EXACT)][:_EXACT]
    last = _least({device: powers[device] for device in some}, left_w) or tuple(rest)
    return _pruned(powers, (*taken, *last), need_w)


def _least(powers: Mapping[DeviceId, float], need_w: float) -> tuple[DeviceId, ...] | None:
    """The subset with the least power that reaches the need; None when there is none, or rounding down hides it."""
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
    return None if best is None else best[2]


def _pruned(powers: Mapping[DeviceId, float], chosen: tuple[DeviceId, ...], need_w: float) -> tuple[DeviceId, ...]:
    """The set without what it does not need, the largest first."""
    kept = dict.fromkeys(chosen)
    over_w = sum(powers[one] for one in kept) - need_w
    for device in sorted(chosen, key=lambda one: (-powers[one], one)):
        # A difference of large sums is only good for a first look.
        if powers[device] <= over_w + _UNIT_W and sum(powers[one] for one in kept if one != device) >= need_w:
            del kept[device]
            over_w = sum(powers[one] for one in kept) - need_w
    return tuple(kept)
