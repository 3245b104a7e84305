"""Overload of a line by its current: ampere rating and time, short overloads sooner when they are higher."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any, Final

from tieline_edge.settings import LineSettings
from tieline_edge.shedding.burden import Burden
from tieline_edge.shedding.loading import LoadingMemory, Watched, judge, must_have_moved
from tieline_edge.shedding.rule import Look, RuleSite, RuleView, Standing
from tieline_edge.shedding.shares import share_and_delay
from tieline_edge.shedding.signals import Source, read, sense
from tieline_edge.snapshot import Watch

NAME: Final = "line-overload"
#: A current beyond this multiple of the rating is a fault of the measurement (or one that protection clears).
_POSSIBLE: Final = 20.0


class LineOverload:
    """The rule at one line.

    Args:
        site: The site.
        line: Meter, rating and what is fed by it.
    """

    def __init__(self, site: RuleSite, line: LineSettings) -> None:
        settings = site.settings
        share, delay_s = share_and_delay(site, line.device)
        fed = None if line.loads is None else MappingProxyType(dict.fromkeys(line.loads, 1.0))
        self._watched = Watched(
            NAME, "line", line.device, settings.line_overload, settings.switching.min_samples, delay_s, share, fed
        )
        self._effect_s = settings.switching.effect_s
        self._line = line
        # Three phases; the largest of them is what i_a shows.
        self._rated_va = 3.0 * line.nominal_v * line.rating_a
        most_w = _POSSIBLE * self._rated_va
        self._current = Source(site.edge, line.device, "i_a", 0.0, _POSSIBLE * line.rating_a)
        self._p = Source(site.edge, line.device, "p_w", -most_w, most_w)
        self._q = Source(site.edge, line.device, "q_var", -most_w, most_w)
        self.key = f"{NAME}/{line.device}"
        self.fresh = LoadingMemory()
        levels = (settings.line_overload.trip_pct, settings.line_overload.severe_pct)
        self.watches = tuple(Watch(self._current.point, level / 100.0 * line.rating_a) for level in levels)

    def look(self, memory: Any, view: RuleView, standing: Standing) -> Look:
        """Look once."""
        moved = must_have_moved(self._watched, standing, self._rated_va)
        sensed = sense(view, (self._current,), memory.steady, self._watched.levels.stuck_s, moved, self._effect_s)
        return judge(self._watched, memory, sensed, self._burden(view), view)

    def _burden(self, view: RuleView) -> Burden | None:
        current, p, q = (read(view, source) for source in (self._current, self._p, self._q))
        if current is None:
            return None
        loading_pct = 100.0 * current.value / self._line.rating_a
        return Burden(loading_pct, self._rated_va, None if p is None else p.value, None if q is None else q.value)


def build(site: RuleSite) -> tuple[LineOverload, ...]:
    """The rule at every line that is named."""
    return tuple(LineOverload(site, line) for line in site.settings.lines)
