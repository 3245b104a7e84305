"""Which loads to shed: prediction of the loading and the smallest sufficient set. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from tieline_core.ids import DeviceId

#: Finest step in which powers are compared [W]; rounding is downward, so a set is never thought larger than it is.
_UNIT_W = 10.0
#: Most distinct sums that are followed, which bounds time and memory whatever the number of loads.
_MAX_SUMS = 2000


@dataclass(frozen=True, slots=True)
class Burden:
    """How a transformer is loaded.

    Attributes:
        loading_pct: Measured loading [%].
        rated_va: Its rating [VA].
        p_w: Measured active power, positive = towards the loads [W]; None = not known.
        q_var: Measured reactive power [var]; None = not known.
    """

    loading_pct: float
    rated_va: float
    p_w: float | None
    q_var: float | None

    @property
    def exports(self) -> bool:
        """True when power flows upstream: then shedding load would make it worse."""
        return self.p_w is not None and self.p_w <= 0.0

    def after(self, added_w: float) -> float:
        """Predicted loading when this much active power is added (negative = shed) [%].

        With active and reactive power known the loading scales with the apparent power, reactive power unchanged;
        otherwise the added power counts in full against the rating. Both are on the safe side for inductive loads.
        """
        if self.p_w is None or self.q_var is None or math.hypot(self.p_w, self.q_var) < 1.0:
            return max(0.0, self.loading_pct + 100.0 * added_w / self.rated_va)
        return self.loading_pct * math.hypot(self.p_w + added_w, self.q_var) / math.hypot(self.p_w, self.q_var)

    def excess_w(self, target_pct: float) -> float:
        """Active power to take away until the predicted loading is the target; all of it when that is not enough [W]."""
        if self.p_w is None or self.q_var is None or math.hypot(self.p_w, self.q_var) < 1.0:
            return max(0.0, (self.loading_pct - target_pct) / 100.0 * self.rated_va)
        apparent = math.hypot(self.p_w, self.q_var) * target_pct / self.loading_pct
        left = math.sqrt(max(apparent**2 - self.q_var**2, 0.0))
        return max(0.0, self.p_w - left)


def choose(burden: Burden, loads: Mapping[DeviceId, tuple[int, float]], target_pct: float) -> tuple[DeviceId, ...]:
    """Loads to shed until the predicted loading is below the target.

    Args:
        burden: The transformer now.
        loads: Priority class and measured power [W] of each load that may be shed; class 0 must not be among them.
        target_pct: Level to come below [%].

    Returns:
        Whole classes from the highest number down, and of the last one needed the smallest sufficient set; all loads
        when even that is not enough.
    """
    chosen: list[DeviceId] = []
    # One more watt than the border, because the target itself is not below the target.
    need_w = burden.excess_w(target_pct) + 1.0
    for priority in sorted({one for one, _ in loads.values()}, reverse=True):
        powers = {device: power for device, (one, power) in loads.items() if one == priority and power > 0.0}
        subset = smallest_sufficient(powers, need_w)
        if subset is not None:
            return (*chosen, *subset)
        chosen.extend(sorted(powers))
        need_w -= sum(powers.values())
    return tuple(chosen)


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
    # Rounding down may hide a set that is just sufficient: then all of them is the answer.
    return tuple(sorted(powers)) if best is None else best[2]
