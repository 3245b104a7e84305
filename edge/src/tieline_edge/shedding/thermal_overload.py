"""Thermal overload of the feeding transformer by its measured loading.

Above ``trip_pct`` for ``hold_s`` (or above ``severe_pct`` for ``severe_hold_s``) loads are shed until the predicted
loading is below ``target_pct``; below ``restore_pct``, counted with what is to come back, they return.
"""

from __future__ import annotations

from typing import Any, Final

from tieline_core.ids import DeviceId
from tieline_edge.shedding.burden import Burden
from tieline_edge.shedding.loading import LoadingMemory, Watched, judge, must_have_moved
from tieline_edge.shedding.rule import Look, RuleSite, RuleView, Standing
from tieline_edge.shedding.shares import share_and_delay
from tieline_edge.shedding.signals import Source, read, sense
from tieline_edge.snapshot import Watch

NAME: Final = "thermal-overload"
#: A loading or a power beyond this multiple of the rating is a fault of the measurement.
_POSSIBLE: Final = 20.0


class ThermalOverload:
    """The rule at one transformer.

    Args:
        site: The site.
        transformer: Whose ``loading_pct`` is watched; ``p_w`` and ``q_var`` make the prediction exact.
    """

    def __init__(self, site: RuleSite, transformer: DeviceId) -> None:
        most_w = _POSSIBLE * site.rated_va
        share, delay_s = share_and_delay(site, transformer)
        settings = site.settings
        self._watched = Watched(
            NAME, "thermal", transformer, settings.thermal_overload, settings.switching.min_samples, delay_s, share
        )
        self._effect_s = settings.switching.effect_s
        self._rated_va = site.rated_va
        self._loading = Source(site.edge, transformer, "loading_pct", 0.0, 100.0 * _POSSIBLE)
        self._p = Source(site.edge, transformer, "p_w", -most_w, most_w)
        self._q = Source(site.edge, transformer, "q_var", -most_w, most_w)
        self.key = f"{NAME}/{transformer}"
        self.fresh = LoadingMemory()
        levels = settings.thermal_overload
        self.watches = tuple(Watch(self._loading.point, level) for level in (levels.trip_pct, levels.severe_pct))

    def look(self, memory: Any, view: RuleView, standing: Standing) -> Look:
        """Look once."""
        moved = must_have_moved(self._watched, standing, self._rated_va)
        sensed = sense(view, (self._loading,), memory.steady, self._watched.levels.stuck_s, moved, self._effect_s)
        return judge(self._watched, memory, sensed, self.burden(view), view)

    def burden(self, view: RuleView) -> Burden | None:
        """The transformer's loading now; None when it is not known."""
        loading, p, q = (read(view, source) for source in (self._loading, self._p, self._q))
        if loading is None:
            return None
        return Burden(loading.value, self._rated_va, None if p is None else p.value, None if q is None else q.value)


def build(site: RuleSite) -> tuple[ThermalOverload, ...]:
    """The rule, where a transformer is named."""
    transformer = site.settings.transformer
    return () if transformer is None else (ThermalOverload(site, transformer),)
