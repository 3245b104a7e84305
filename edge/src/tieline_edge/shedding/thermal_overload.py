"""Thermal overload of the feeding transformer: shed by class, restore in steps.

Levels and times follow the overload row of the default rule set: above ``trip_pct`` for ``hold_s`` (or above
``severe_pct`` for ``severe_hold_s``) loads are shed until the predicted loading is below ``target_pct``; below
``restore_pct``, counted with the load that is to come back, they return one by one. :func:`step` is pure;
:class:`ThermalOverload` gives it a memory.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from datetime import timedelta
from types import MappingProxyType

from pydantic import TypeAdapter

from tieline_core.ids import DeviceId, PointId
from tieline_core.messages.telemetry import Severity
from tieline_core.quantities import Quality
from tieline_edge.control.claims import NO_LIMIT, Band, Claim, Failsafe, Interval
from tieline_edge.drivers.capabilities import Capability, Role
from tieline_edge.shedding.restoration import restore
from tieline_edge.shedding.rule import RuleEvent, RuleResult, RuleSite, RuleView, sheddable_loads
from tieline_edge.shedding.selection import Burden, choose
from tieline_edge.shedding.thermal_state import Parameters, Sheddable, ShedLoad, Stretch, ThermalMemory, View
from tieline_edge.snapshot import Watch

#: Off-timer written into a load that recloses by itself [s]: an edge that died must not reclose a feeder bluntly. With
#: its random addition it stays within the two hours that contactor relays with a timer take at most.
OFF_TIMER_S = 5_400.0
#: Random addition to it, so that orphaned loads do not all come back in one second [s].
OFF_TIMER_SPREAD_S = 1_800.0
#: How long storages stay barred from charging when the rule falls silent in the middle of an overload [s].
NO_CHARGE_FAILSAFE_S = 60.0
SOURCE = "thermal-overload"


@dataclass(frozen=True, slots=True)
class Outcome:
    """Claims, the new memory and what there is to tell."""

    claims: tuple[Claim, ...]
    memory: ThermalMemory
    events: tuple[RuleEvent, ...]


def step(parameters: Parameters, memory: ThermalMemory, view: View, rng: random.Random) -> Outcome:
    """One look at the transformer.

    Args:
        parameters: What the rule was told.
        memory: What the previous step returned.
        view: What is seen now.
        rng: Randomness for timers and pauses.
    """
    barred = memory.overloaded
    events: tuple[RuleEvent, ...] = ()
    if view.burden is None:
        if not memory.blind:
            events = (
                RuleEvent(Severity.ALARM, "shed.thermal.blind", "the transformer loading is not known: nothing is shed on it"),
            )
        # A hold survives a short gap; a restoration starts its hold anew.
        memory = replace(memory, blind=True, below_since=None)
    else:
        if memory.blind:
            events = (RuleEvent(Severity.COMPLIANT, "shed.thermal.sighted", "the transformer loading is known again"),)
        memory = _sampled(parameters, replace(memory, blind=False), view, view.burden)
        memory, told = _shed(parameters, memory, view, view.burden, rng)
        if not told and not memory.active:
            memory, told = restore(parameters.levels, memory, view, view.burden, rng)
        events = (*events, *told)
        over = view.burden.loading_pct > parameters.levels.trip_pct
        clear = view.burden.loading_pct < parameters.levels.restore_pct and not memory.shed
        memory = replace(memory, overloaded=over or (memory.overloaded and not clear))
    return Outcome(_claims(parameters, memory, view, barred), memory, events)


def _sampled(parameters: Parameters, memory: ThermalMemory, view: View, burden: Burden) -> ThermalMemory:
    levels = parameters.levels
    above = _stretch(memory.above, burden.loading_pct > levels.trip_pct, view)
    severe = _stretch(memory.severe, burden.loading_pct > levels.severe_pct, view)
    relieved = above is None and view.settled(memory.switched_at, levels.settle_s)
    return replace(
        memory,
        above=above,
        severe=severe,
        active=memory.active and not relieved,
        exhausted=memory.exhausted and not relieved,
    )


def _stretch(held: Stretch | None, over: bool, view: View) -> Stretch | None:
    at = view.measured_at
    if not over or at is None:
        return None
    if held is None or (at - held.last_at).total_seconds() > view.max_age_s:
        return Stretch(at, at, int(view.good))
    return replace(held, last_at=at, samples=held.samples + int(view.good)) if at > held.last_at else held


def _due(parameters: Parameters, memory: ThermalMemory, view: View) -> bool:
    levels = parameters.levels
    if not view.good or memory.above is None:
        return False
    if memory.active:
        return view.settled(memory.switched_at, levels.settle_s)

    def over(stretch: Stretch | None, hold_s: float) -> bool:
        if stretch is None or stretch.samples < levels.min_samples:
            return False
        return (view.now - stretch.since).total_seconds() >= hold_s

    return over(memory.above, levels.hold_s) or over(memory.severe, levels.severe_hold_s)


def _shed(
    parameters: Parameters, memory: ThermalMemory, view: View, burden: Burden, rng: random.Random
) -> tuple[ThermalMemory, tuple[RuleEvent, ...]]:
    if not _due(parameters, memory, view):
        return memory, ()
    held = {one.device for one in memory.shed}
    open_now = {device for device, facts in view.loads.items() if facts.closed is False}
    measured = {
        device: (load.priority, power)
        for device, load in parameters.loads.items()
        if device not in held | open_now and (power := view.loads[device].p_w) is not None and power > 0.0
    }
    chosen = () if burden.exports else choose(burden, measured, parameters.levels.target_pct)
    if not chosen:
        return _nothing_left(memory, burden)
    new = tuple(
        ShedLoad(
            device,
            measured[device][0],
            measured[device][1],
            view.now,
            max(parameters.levels.min_off_s, parameters.loads[device].min_off_s),
            OFF_TIMER_S + rng.uniform(0.0, OFF_TIMER_SPREAD_S),
        )
        for device in chosen
    )
    total_w = sum(one.p_w for one in new)
    event = RuleEvent(
        Severity.ALARM,
        "shed.thermal",
        f"transformer at {burden.loading_pct:.0f} %: {total_w / 1000:.1f} kW shed, {burden.after(-total_w):.0f} % expected: "
        + ", ".join(f"{one.device} (class {one.priority})" for one in new[:12]),
        data={
            "loading_pct": burden.loading_pct,
            "predicted_pct": round(burden.after(-total_w), 2),
            "shed_w": {one.device: one.p_w for one in new},
            "above_since": memory.above.since.isoformat() if memory.above else None,
        },
    )
    memory = replace(
        memory, shed=(*memory.shed, *new), active=True, switched_at=view.now, below_since=None, next_restore_at=None
    )
    return memory, (event,)


def _nothing_left(memory: ThermalMemory, burden: Burden) -> tuple[ThermalMemory, tuple[RuleEvent, ...]]:
    if memory.exhausted:
        return memory, ()
    why = "it exports, shedding would make it worse" if burden.exports else "no measured load is left that may be shed"
    text = f"transformer at {burden.loading_pct:.0f} %: {why}"
    return replace(memory, exhausted=True), (RuleEvent(Severity.ALARM, "shed.thermal.exhausted", text),)


def _claims(parameters: Parameters, memory: ThermalMemory, view: View, barred: bool) -> tuple[Claim, ...]:
    until = view.now + timedelta(seconds=view.max_age_s)
    openings = (
        Claim(
            one.device,
            Band.SAFETY,
            SOURCE,
            f"class {one.priority}, shed at {one.at:%H:%M:%S} with {one.p_w / 1000:.1f} kW",
            closed=False,
            expires_at=until,
            off_timer_s=one.off_timer_s,
        )
        for one in memory.shed
    )
    if not (memory.overloaded or barred):
        return tuple(openings)
    # The cycle that lifts the bar says so: a limit that merely fell silent would go on as its failsafe.
    limit = Interval(hi=0.0) if memory.overloaded else NO_LIMIT
    reason = "transformer overloaded: no charging" if memory.overloaded else "overload is over"
    bars = (
        Claim(
            storage,
            Band.SAFETY,
            SOURCE,
            reason,
            limit=limit,
            expires_at=until,
            failsafe=Failsafe(limit, NO_CHARGE_FAILSAFE_S),
        )
        for storage in parameters.storages
    )
    return (*openings, *bars)


class ThermalOverload:
    """The rule with its memory.

    Args:
        site: The site.
        transformer: Whose ``loading_pct`` is watched.
        rng: Randomness for timers and pauses.
    """

    def __init__(self, site: RuleSite, transformer: DeviceId, rng: random.Random) -> None:
        loads = {
            device: Sheddable(site.specs[device].priority_class or 0, site.specs[device].min_off_s)
            for device in sheddable_loads(site)
        }
        storages = tuple(
            sorted(
                device
                for device, spec in site.specs.items()
                if spec.role is Role.STORAGE and Capability.HOLD_POWER in spec.capabilities
            )
        )
        self.parameters = Parameters(site.settings.thermal_overload, MappingProxyType(loads), storages)
        self.memory = ThermalMemory()
        self._site = site
        self._transformer = transformer
        self._rng = rng

    @property
    def shed(self) -> tuple[DeviceId, ...]:
        """Loads it keeps open now."""
        return tuple(sorted(one.device for one in self.memory.shed))

    @property
    def watches(self) -> tuple[Watch, ...]:
        """The levels at which a hold begins."""
        point = PointId.of(self._site.edge, self._transformer, "loading_pct")
        levels = self.parameters.levels
        return Watch(point, levels.trip_pct), Watch(point, levels.severe_pct)

    def step(self, view: RuleView) -> RuleResult:
        """Look once."""
        outcome = step(self.parameters, self.memory, self._look(view), self._rng)
        self.memory = outcome.memory
        return RuleResult(outcome.claims, outcome.events)

    def dump(self) -> str:
        """Memory as text."""
        return _MEMORY.dump_json(self.memory).decode()

    def load(self, text: str) -> None:
        """Take up a memory; loads that have become vital or unknown since are let go.

        Raises:
            ValueError: When the text is no memory of this rule.
        """
        memory = _MEMORY.validate_json(text)
        self.memory = replace(memory, shed=tuple(one for one in memory.shed if one.device in self.parameters.loads))

    def _look(self, view: RuleView) -> View:
        def value(quantity: str) -> float | None:
            return view.snapshot.value(PointId.of(self._site.edge, self._transformer, quantity), limit_s)

        limit_s = view.ages.of(self._transformer)
        loading = value("loading_pct")
        point = PointId.of(self._site.edge, self._transformer, "loading_pct")
        reading = view.snapshot.readings.get(point)
        known = loading is not None and reading is not None
        burden = Burden(loading, self._site.rated_va, value("p_w"), value("q_var")) if loading is not None else None
        return View(
            view.now,
            burden,
            view.snapshot.measured_at(point) if known else None,
            reading is not None and reading.quality is Quality.GOOD,
            limit_s,
            MappingProxyType({device: view.facts.of(device) for device in self.parameters.loads}),
        )


_MEMORY: TypeAdapter[ThermalMemory] = TypeAdapter(ThermalMemory)
