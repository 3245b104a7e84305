"""The field: a transformer, batteries, plants and switched loads with simple physics, and the ways in which devices fail.

Powers are signed watts, positive = drawn from the grid, as everywhere. The field knows nothing of rules, bands or plans; it
does what it is told (or does not), and it shows what it measures (or something else).
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from tests.simulation.timeline import Timeline
from tieline_edge.drivers.capabilities import Action, DeviceSpec, HoldPower, LimitGeneration, Release, Role, SwitchContact

#: A load that comes back draws this much more at first, and half of that so much later.
_COLD_LOAD: Final = 0.5
_COLD_HALF_S: Final = 300.0
_EFFICIENCY: Final = 0.95
_NOMINAL_V: Final = 230.0


@dataclass(slots=True)
class Faults:
    """What is wrong with one device at present; an end in the past means nothing is."""

    dead: bool = False
    """Answers nothing."""
    slow_s: float = 0.0
    """Takes this long to answer."""
    lies: bool = False
    """Accepts and echoes what is written, and does nothing."""
    deaf: bool = False
    """Does what is written, but its answer is lost."""
    refuses: bool = False
    """Answers every write with an exception."""
    stuck: bool = False
    """Shows the same values for ever, with new time stamps."""
    nan: bool = False
    """Shows nothing usable."""

    @property
    def any(self) -> bool:
        """Something is wrong."""
        return self.dead or self.slow_s > 0.0 or self.lies or self.deaf or self.refuses or self.stuck or self.nan


@dataclass(slots=True)
class Unit:
    """One device of the field.

    Attributes:
        closed: Contact of a load.
        order_w: Power a battery was told to hold, or least power a plant was told to keep; None = its own default.
        order_until_s: When that reverts by itself.
        power_w: Power now.
        demand_w: What the load would draw, or (negative) the plant could deliver.
    """

    spec: DeviceSpec
    latency_s: float = 0.02
    faults: Faults = field(default_factory=Faults)
    closed: bool = True
    recloses_s: float = math.inf
    closed_since_s: float = -1e9
    order_w: float | None = None
    order_until_s: float = math.inf
    power_w: float = 0.0
    demand_w: float = 0.0
    soc_pct: float = 50.0
    shown: dict[str, float] = field(default_factory=dict)


class Watcher:
    """Who wants to know what really happens; the oracle."""

    def told(self, unit: Unit, action: Action) -> None:
        """A device was told something, whether or not it obeys."""

    def showed(self, unit: Unit, values: dict[str, float | None]) -> None:
        """A device has answered a poll."""

    def reverted(self, unit: Unit) -> None:
        """A device's own timer has ended its order."""

    def moved(self, unit: Unit) -> None:
        """A contact has moved without having been told so here and now."""


class Field:
    """All devices, and the plant between them.

    Args:
        timeline: Time.
        units: By device id.
        rated_va: Rating of the transformer.
        rng: Noise.
        watcher: Told of what happens.
    """

    def __init__(
        self, timeline: Timeline, units: dict[str, Unit], rated_va: float, rng: random.Random, watcher: Watcher
    ) -> None:
        self.units = units
        self.rated_va = rated_va
        self.base_w = 0.0
        self.factor = 1.0
        self.sun = 1.0
        self.bus_live = True
        self.operation: Callable[[str], None] = lambda _what: None
        self._line = timeline
        self._rng = rng
        self._watcher = watcher
        self._at_s = timeline.now_s

    def advance(self) -> None:
        """Let the physics catch up with time."""
        now_s, elapsed_s = self._line.now_s, self._line.now_s - self._at_s
        if elapsed_s <= 0:
            return
        self._at_s = now_s
        for unit in self.units.values():
            if unit.order_until_s <= now_s:
                unit.order_w, unit.order_until_s = None, math.inf
                self._watcher.reverted(unit)
            if unit.recloses_s <= now_s:
                unit.recloses_s = math.inf
                self._set_contact(unit, closed=True)
                self._watcher.moved(unit)
            self._power(unit, elapsed_s)

    def _power(self, unit: Unit, elapsed_s: float) -> None:
        role = unit.spec.role
        if role is Role.STORAGE:
            wanted = (unit.order_w or 0.0) if self.bus_live else 0.0
            if (wanted > 0 and unit.soc_pct >= 100.0) or (wanted < 0 and unit.soc_pct <= 0.0):
                wanted = 0.0
            step = 0.2 * max(abs(unit.spec.p_min_w), abs(unit.spec.p_max_w)) * elapsed_s
            unit.power_w += max(-step, min(step, wanted - unit.power_w))
            gained_wh = unit.power_w * elapsed_s / 3600.0
            gained_wh *= _EFFICIENCY if gained_wh > 0 else 1.0 / _EFFICIENCY
            unit.soc_pct = max(0.0, min(100.0, unit.soc_pct + 100.0 * gained_wh / (unit.spec.energy_wh or 1.0)))
        elif role is Role.PV:
            unit.power_w = max(unit.demand_w * self.sun, unit.order_w if unit.order_w is not None else -math.inf)
            unit.power_w = unit.power_w if self.bus_live else 0.0
        elif role is Role.LOAD:
            since_s = self._line.now_s - unit.closed_since_s
            extra = _COLD_LOAD * 0.5 ** (since_s / _COLD_HALF_S) if since_s < 10 * _COLD_HALF_S else 0.0
            unit.power_w = unit.demand_w * self.factor * (1.0 + extra) if unit.closed and self.bus_live else 0.0

    @property
    def transformer_w(self) -> float:
        """Power through the transformer."""
        if not self.bus_live:
            return 0.0
        return self.base_w * self.factor + sum(one.power_w for one in self.units.values())

    def loading_pct(self) -> float:
        """Loading of the transformer, a power factor of 0.98 assumed."""
        return 100.0 * abs(self.transformer_w) / 0.98 / self.rated_va

    def show(self, unit: Unit) -> dict[str, float | None]:
        """What a device measures, through its faults."""
        self.advance()
        true = self._measured(unit)
        if unit.faults.stuck and unit.shown:
            true = {name: unit.shown.get(name, value) for name, value in true.items()}
        unit.shown = true
        values: dict[str, float | None] = {**true}
        if unit.faults.nan:
            values = dict.fromkeys(true)
        self._watcher.showed(unit, values)
        return values

    def _measured(self, unit: Unit) -> dict[str, float]:
        role = unit.spec.role
        if role is Role.TRANSFORMER:
            power = self.transformer_w
            return {
                "p_w": power,
                "q_var": 0.2 * abs(power),
                "loading_pct": self.loading_pct(),
                "v_v": _NOMINAL_V if self.bus_live else 0.0,
                "breaker_closed": 1.0 if self.bus_live else 0.0,
                "oil_temp_degc": 60.0,
            }
        # What no rule of such a site asks for is left out: it would cost time and show nothing.
        shown = {"p_w": unit.power_w}
        if role is Role.STORAGE:
            shown["soc_pct"] = unit.soc_pct
        if role is Role.LOAD:
            shown["closed"] = 1.0 if unit.closed else 0.0
        return shown

    def tell(self, unit: Unit, action: Action) -> None:
        """A write has reached a device."""
        self.advance()
        self.operation("device write")
        self._watcher.told(unit, action)
        if not unit.faults.lies:
            self._obey(unit, action)
        self.operation("device written")

    def _obey(self, unit: Unit, action: Action) -> None:
        now_s = self._line.now_s
        if isinstance(action, HoldPower):
            unit.order_w, unit.order_until_s = action.power_w, now_s + action.revert_s
        elif isinstance(action, LimitGeneration):
            unit.order_w = action.min_power_w
            unit.order_until_s = math.inf if action.min_power_w is None else now_s + action.revert_s
        elif isinstance(action, SwitchContact):
            self._set_contact(unit, closed=action.closed)
            timed = unit.spec.off_timer and not action.closed and action.off_timer_s > 0
            unit.recloses_s = now_s + action.off_timer_s if timed else math.inf
        elif isinstance(action, Release):
            unit.order_w, unit.order_until_s = None, math.inf

    def _set_contact(self, unit: Unit, *, closed: bool) -> None:
        if closed and not unit.closed:
            unit.closed_since_s = self._line.now_s
        unit.closed = closed

    def hand(self, unit: Unit) -> None:
        """Somebody on site moves a switch."""
        self.advance()
        self._set_contact(unit, closed=not unit.closed)
        unit.recloses_s = math.inf
        self._watcher.moved(unit)

    def latency_s(self, unit: Unit) -> float:
        """How long half a conversation takes."""
        return unit.faults.slow_s / 2.0 + self._rng.uniform(0.2, 1.0) * unit.latency_s
