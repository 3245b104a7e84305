"""What the simulator remembers of a run: peaks, costs, overload episodes, what was shed and what came back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass
class Episode:
    """One overload of one transformer; instants are [simulated, wall] seconds since 1970, None while outstanding."""

    substation: str
    over_at: list[float]
    worst_loading_pct: float
    first_open_at: list[float] | None = None
    relief_at: list[float] | None = None
    all_closed_at: list[float] | None = None


@dataclass
class Shed:
    """A customer that was switched off: class, power at the moment of opening, whether it is back."""

    substation: str
    unit: int
    priority_class: int
    shed_kw: float
    restored: bool = False


@dataclass
class RunRecord:
    """Counters of a run, all of them in the state file.

    ``peak`` holds the largest transformer loading (with, without control) of each substation while the network was sound;
    ``crisis_peak`` the largest while a line out, tie or surge was active.
    """

    peak: dict[str, list[float]] = field(default_factory=dict)
    crisis_peak: dict[str, list[float]] = field(default_factory=dict)
    cost_eur: list[float] = field(default_factory=lambda: [0.0, 0.0])
    energy_wh: list[float] = field(default_factory=lambda: [0.0, 0.0])
    price_seconds: list[float] = field(default_factory=lambda: [0.0, 0.0])
    episodes: list[Episode] = field(default_factory=list)
    shed: list[Shed] = field(default_factory=list)
    disturbed: bool = False

    def note_loading(self, substation: str, loading: tuple[float, float], disturbed: bool) -> None:
        """Keep the larger of what was and what is; a disturbance ends the record of the sound network."""
        self.disturbed = self.disturbed or disturbed
        if self.disturbed and not disturbed:
            return
        table = self.crisis_peak if disturbed else self.peak
        held = table.setdefault(substation, [0.0, 0.0])
        table[substation] = [max(held[0], loading[0]), max(held[1], loading[1])]

    def note_overload(
        self, substation: str, loading_pct: float, at: list[float], event: Callable[[str, Mapping[str, Any]], None]
    ) -> None:
        """Open an episode above 100 %, note its relief below."""
        current = next((row for row in reversed(self.episodes) if row.substation == substation), None)
        if current is None or current.relief_at is not None:
            if loading_pct > 100:
                self.episodes.append(Episode(substation, at, loading_pct))
                event("overload", {"substation": substation, "loading_pct": round(loading_pct, 2)})
            return
        current.worst_loading_pct = max(current.worst_loading_pct, loading_pct)
        if loading_pct < 100:
            current.relief_at = at
            event("relief", {"substation": substation, "loading_pct": round(loading_pct, 2)})

    def note_contactor(self, shed: Shed, closed: bool, why: str, at: list[float], all_closed: bool) -> None:
        """A contactor moved."""
        known = next((row for row in self.shed if (row.substation, row.unit) == (shed.substation, shed.unit)), None)
        if not closed:
            if known is None:
                self.shed.append(shed)
            else:
                known.restored, known.shed_kw = False, max(known.shed_kw, shed.shed_kw)
        elif known is not None:
            known.restored = True
        current = next((row for row in reversed(self.episodes) if row.substation == shed.substation), None)
        if current is None:
            return
        if not closed and why == "write" and current.first_open_at is None:
            current.first_open_at = at
        if closed and all_closed:
            current.all_closed_at = at

    def shed_kw_by_class(self) -> dict[str, float]:
        """Power switched off, by priority class, each customer once."""
        result: dict[str, float] = {}
        for row in self.shed:
            key = str(row.priority_class)
            result[key] = round(result.get(key, 0.0) + row.shed_kw, 3)
        return dict(sorted(result.items()))

    def restored_pct(self) -> float:
        """Share of the shed power that is back; 100 when nothing was shed."""
        total = sum(row.shed_kw for row in self.shed)
        return 100.0 if total == 0 else 100 * sum(row.shed_kw for row in self.shed if row.restored) / total

    def to_state(self) -> dict[str, Any]:
        """For the state file."""
        return asdict(self)

    @classmethod
    def of_state(cls, state: Mapping[str, Any]) -> RunRecord:
        """Take back what :meth:`to_state` gave."""
        rows = dict(state)
        rows["episodes"] = [Episode(**row) for row in rows["episodes"]]
        rows["shed"] = [Shed(**row) for row in rows["shed"]]
        return cls(**rows)
