"""How an element is loaded, and what added or shed active power makes of it. Pure functions."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Burden:
    """How a transformer or a line is loaded.

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

    @property
    def flow_w(self) -> float:
        """Active power towards the loads, estimated from the loading where it is not measured [W]."""
        return self.loading_pct / 100.0 * self.rated_va if self.p_w is None else self.p_w

    @property
    def _scales(self) -> bool:
        return self.p_w is not None and self.q_var is not None and math.hypot(self.p_w, self.q_var) >= 1.0

    def after(self, added_w: float) -> float:
        """Predicted loading when this much active power is added (negative = shed) [%].

        With active and reactive power known the loading scales with the apparent power, reactive power unchanged;
        otherwise the added power counts in full against the rating. Both are on the safe side for inductive loads.
        """
        if self.p_w is None or self.q_var is None or not self._scales:
            return max(0.0, self.loading_pct + 100.0 * added_w / self.rated_va)
        return self.loading_pct * math.hypot(self.p_w + added_w, self.q_var) / math.hypot(self.p_w, self.q_var)

    def excess_w(self, target_pct: float) -> float:
        """Active power to take away until the predicted loading is the target; all of it when that is not enough [W]."""
        if self.p_w is None or self.q_var is None or not self._scales:
            return max(0.0, (self.loading_pct - target_pct) / 100.0 * self.rated_va)
        return max(0.0, abs(self.p_w) - self._active_at(target_pct))

    def room_w(self, level_pct: float) -> float:
        """Active power that may be added while the predicted loading stays below the level; 0 when none may [W]."""
        if self.p_w is None or self.q_var is None or not self._scales:
            return max(0.0, (level_pct - self.loading_pct) / 100.0 * self.rated_va)
        return max(0.0, self._active_at(level_pct) - self.p_w)

    def _active_at(self, level_pct: float) -> float:
        """Largest active power at a loading, reactive power unchanged [W]."""
        if self.p_w is None or self.q_var is None or self.loading_pct <= 0.0:
            return level_pct / 100.0 * self.rated_va
        apparent = math.hypot(self.p_w, self.q_var) * level_pct / self.loading_pct
        return math.sqrt(max(apparent**2 - self.q_var**2, 0.0))
