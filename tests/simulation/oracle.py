"""The oracle: what must hold whatever happens, written from the laws and not from the code that keeps them.

It sees what the devices were really told and what they really showed, what the hub and its impostors have said, and what the
outbox has promised. It knows nothing of claims, bands, memories or files.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tests.simulation.contact_laws import ContactLaws
from tests.simulation.field import Unit, Watcher
from tests.simulation.power_laws import PowerLaws
from tests.simulation.scenario import TRANSFORMER
from tests.simulation.standing import Standing
from tieline_edge.drivers.capabilities import Action, Role, SwitchContact

if TYPE_CHECKING:
    from tests.simulation.world import World

#: What a trip level is here, and a level at which nobody can be in doubt [%].
_TRIP_PCT: Final = 100.0
_SEVERE_PCT: Final = 125.0
_STRAIN_PCT: Final = 85.0
#: So many answers of the transformer may have been what a shedding was decided on.
_LOOKS: Final = 4
_DEAD_V: Final = 50.0
_SLACK_S: Final = 3.5
#: Tasks and timers of an agent at rest do not grow with time.
_MOST_TASKS: Final = 150
_MOST_TIMERS: Final = 3000


@dataclass(frozen=True, slots=True)
class Violation:
    """A law that did not hold."""

    at_s: float
    law: str
    device: str | None
    text: str

    def __str__(self) -> str:
        return f"{self.at_s:.3f} s, {self.law}{', ' + self.device if self.device else ''}: {self.text}"


@dataclass(slots=True)
class Shown:
    """The last value of a point that an answer carried, and since when it has been beyond or below."""

    value: float
    at_s: float
    since_s: float
    before: float | None = None


class Oracle(Watcher):
    """Watches a world."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.violations: list[Violation] = []
        self.cycles = 0
        self.standing = Standing(world)
        self._power = PowerLaws(self)
        self._contacts = ContactLaws(self)
        self._counts: Counter[tuple[str, str]] = Counter()
        self._shown: dict[tuple[str, str], Shown] = {}
        self._broken_s: dict[str, float] = {}
        self._up_since_s = 0.0
        self._thawed_s = -1e9
        self._stepped_s = -1e9
        self._strained_s = -1e9
        self._leaning_s = -1e9
        self._over_since_s: float | None = None
        self._severe_since_s: float | None = None
        self._strained_at_end = False
        self._relieving_at_end = False
        self._dead_since_s: float | None = None
        self._mains_lost_s = -1e9
        self._excesses_w: deque[float] = deque(maxlen=_LOOKS)

    @property
    def now_s(self) -> float:
        """Seconds since the start."""
        return self._world.timeline.now_s

    @property
    def units(self) -> list[Unit]:
        """All devices."""
        return list(self._world.field.units.values())

    @property
    def period_s(self) -> float:
        """Period of the control loop."""
        return self._world.scenario.cycle_s

    @property
    def agent_up_s(self) -> float:
        """How long the agent has been running without a pause."""
        return self.now_s - max(self._up_since_s, self._thawed_s) if self._world.up else 0.0

    @property
    def just_thawed(self) -> bool:
        """What was already on its way when the process was stopped arrives now."""
        return self.now_s - self._thawed_s < 6.0

    def violated(self, law: str, device: str | None, text: str) -> None:
        """A law did not hold."""
        violation = Violation(self.now_s, law, device, text)
        self.violations.append(violation)
        self._world.log("violation", str(violation))

    def count(self, what: str, device: str) -> None:
        """Count something, for those who want to know that anything happened at all."""
        self._counts[what, device] += 1

    def judges(self, law: str, unit: Unit) -> None:
        """A law that seldom has anything to say is put to the test."""
        self._world.log(f"judged: {law}", str(unit.spec.device_id))

    def started(self) -> None:
        """The agent has started."""
        self._up_since_s = self.now_s

    def stopped(self) -> None:
        """The agent is gone."""
        self._relieving_at_end = self.relieving()
        self._strained_at_end = self.strained(60.0) or (self.now_s - self._up_since_s < 15.0 and self._strained_at_end)

    def frozen(self, seconds: float) -> None:
        """The agent will not run for so long."""
        self._thawed_s = self.now_s + seconds

    def clock_stepped(self) -> None:
        """The agent's clock was changed."""
        self._stepped_s = self.now_s

    def told(self, unit: Unit, action: Action) -> None:
        """A device was told something."""
        self._world.log("told", f"{unit.spec.device_id} {action}")
        self.standing.look()
        if isinstance(action, SwitchContact):
            self._contacts.told(unit, action)
        elif unit.spec.role in (Role.STORAGE, Role.PV):
            self._power.told(unit, action)

    def reverted(self, unit: Unit) -> None:
        """A device's own timer has ended its order."""
        self._power.reverted(unit)

    def moved(self, unit: Unit) -> None:
        """A contact has moved."""
        self._world.log("moved", f"{unit.spec.device_id} {'closed' if unit.closed else 'open'}")
        self._contacts.moved(unit)

    def showed(self, unit: Unit, values: dict[str, float | None]) -> None:
        """A device has answered a poll."""
        now_s, device = self.now_s, str(unit.spec.device_id)
        for quantity, value in values.items():
            key = (device, quantity)
            if value is None:
                self._shown.pop(key, None)
                continue
            before = self._shown.get(key)
            if before is None:
                self._shown[key] = Shown(value, now_s, now_s)
                continue
            before.before, before.at_s = before.value, now_s
            if before.value != value:
                before.value, before.since_s = value, now_s
        if "closed" in values:
            self._contacts.showed(unit, values["closed"])
        if device == TRANSFORMER:
            self._transformer(values)

    def _transformer(self, values: dict[str, float | None]) -> None:
        now_s = self.now_s
        loading, volts = values["loading_pct"], values["v_v"]
        self._over_since_s = (self._over_since_s or now_s) if loading is not None and loading > _TRIP_PCT else None
        self._severe_since_s = (self._severe_since_s or now_s) if loading is not None and loading > _SEVERE_PCT else None
        if loading is not None and loading > _STRAIN_PCT:
            self._strained_s = now_s
        self._lean(loading)
        self._excesses_w.append(self._excess_w(values))
        dead = volts is not None and volts < _DEAD_V
        self._dead_since_s = (self._dead_since_s or now_s) if dead else None
        if dead:
            self._mains_lost_s = now_s

    def _lean(self, loading: float | None) -> None:
        """Note that the transformer would be above the level of restoring if batteries that have begun to help let go."""
        given_w = sum(max(0.0, -unit.power_w) for unit in self.units if unit.spec.role is Role.STORAGE)
        if loading is not None and self.relieving() and loading + 100.0 * given_w / self._world.field.rated_va > _STRAIN_PCT:
            self._leaning_s = self.now_s

    def _excess_w(self, values: dict[str, float | None]) -> float:
        """What has to go until the transformer is at its target, reactive power unchanged [W]; nothing below its trip level."""
        loading, p_w, q_var = values["loading_pct"], values["p_w"], values["q_var"]
        if loading is None or p_w is None or q_var is None:
            return math.inf
        if loading <= _TRIP_PCT:
            return 0.0
        target_pct = self._world.settings.shedding.thermal_overload.target_pct
        apparent_va = math.hypot(p_w, q_var) * target_pct / loading
        return abs(p_w) - math.sqrt(max(0.0, apparent_va**2 - q_var**2))

    def most_excess_w(self) -> float:
        """The largest excess of the last answers [W]; infinite when one of them had no numbers."""
        return max(self._excesses_w, default=math.inf)

    def strained(self, within_s: float) -> bool:
        """The transformer was shown above the level of restoring so little ago."""
        return self.now_s - self._strained_s <= within_s

    @property
    def resuming(self) -> bool:
        """The agent has only just started, and had stopped in an overload: what it decided then is carried out."""
        return self._strained_at_end and self.agent_up_s < 15.0

    def relieving(self) -> bool:
        """Batteries may still be helping out of an overload, or go on with it after a start until they see it is over."""
        resumed = self._relieving_at_end and self.agent_up_s < 15.0
        leaning = self.now_s - self._leaning_s <= 300.0
        return self.strained(300.0) or leaning or self._contacts.shedding(300.0) or resumed

    def mains_lost(self, within_s: float) -> bool:
        """The busbar was shown dead so little ago, or could not be seen."""
        seen = self._shown.get((TRANSFORMER, "v_v"))
        return self.now_s - self._mains_lost_s <= within_s or seen is None or self.now_s - seen.at_s > 8.0

    @property
    def overloaded_for_s(self) -> float:
        """How long the transformer has been shown overloaded, up to the last answer."""
        return 0.0 if self._over_since_s is None else self.now_s - self._over_since_s

    @property
    def severe_for_s(self) -> float:
        """... beyond all doubt, and seen by an agent that was there."""
        tr1 = self._world.field.units[TRANSFORMER]
        if self._severe_since_s is None or not self.steady(tr1, 60.0):
            return 0.0
        return self.now_s - self._severe_since_s

    @property
    def bus_shown_dead(self) -> bool:
        """The last answers said that the busbar is dead, long enough ago to be heard."""
        return self._dead_since_s is not None and self.now_s - self._dead_since_s > 2.0 * self.period_s + _SLACK_S

    def shown(self, unit: Unit, quantity: str, at_least_s: float) -> float | None:
        """A value that has been shown, unchanged in its meaning, for so long; None when it is old or unknown."""
        one = self._shown.get((str(unit.spec.device_id), quantity))
        if one is None or self.now_s - one.at_s > 3.0 * self._world.scenario.poll_s + 2.0:
            return None
        if quantity == "soc_pct" and self.now_s - one.since_s < at_least_s and abs(unit.power_w) > 1.0:
            # Still moving: what counts is where it was then, and a battery moves slowly.
            margin = 100.0 * abs(unit.power_w) * at_least_s / 3600.0 / (unit.spec.energy_wh or 1.0) + 0.5
            low, high = unit.spec.soc_min_pct - margin, unit.spec.soc_max_pct + margin
            return (
                one.value
                if not low < one.value < high
                else min(max(one.value, unit.spec.soc_min_pct + 0.1), unit.spec.soc_max_pct - 0.1)
            )
        return one.value

    def last_two(self, unit: Unit, quantity: str) -> tuple[float, ...]:
        """The last two values that were shown, where that is not long ago."""
        one = self._shown.get((str(unit.spec.device_id), quantity))
        if one is None or one.before is None or self.now_s - one.at_s > self._world.scenario.poll_s + _SLACK_S:
            return ()
        return one.before, one.value

    def limited(self, unit: Unit) -> bool:
        """Something may hold a battery back: a limit, the ends of its charge, or what is not known of it."""
        soc = self._shown.get((str(unit.spec.device_id), "soc_pct"))
        if soc is None or self.now_s - soc.at_s > 8.0 or self.mains_lost(120.0):
            return True
        near = soc.value <= unit.spec.soc_min_pct + 2.0 or soc.value >= unit.spec.soc_max_pct - 2.0
        return near or self.strained(180.0) or bool(self.standing.limits(str(unit.spec.device_id)))

    def steady(self, unit: Unit, for_s: float) -> bool:
        """Agent, clock and this device have been well for so long."""
        broken_s = self._broken_s.get(str(unit.spec.device_id), -1e9)
        return self.agent_up_s > for_s and self.now_s - max(broken_s, self._stepped_s) > for_s

    def classes(self, unit: Unit) -> set[int]:
        """Every class this load may have been given."""
        found = {unit.spec.priority_class} if unit.spec.priority_class is not None else set()
        return found | self._world.happenings.orders.classes.get(str(unit.spec.device_id), set())

    def orders_of(self, unit: Unit) -> int:
        """How often somebody has ordered something of it."""
        named = (one.command for one in self._world.hub.orders if one.command is not None)
        return sum(str(command.device_id) == str(unit.spec.device_id) for command in named)

    def cycle(self) -> None:
        """A second has passed."""
        self.cycles += 1
        self.standing.look()
        units = list(self._world.field.units.values())
        for unit in units:
            if unit.faults.any:
                self._broken_s[str(unit.spec.device_id)] = self.now_s
            elif unit.spec.role in (Role.STORAGE, Role.PV):
                self._power.cycle(unit)
        self._contacts.cycle(units)
        if self.cycles % 60 == 0:
            self._bounded()

    def _bounded(self) -> None:
        loop = self._world.hub.net.loop
        if loop is not None and (loop.task_count > _MOST_TASKS or loop.timer_count > _MOST_TIMERS):
            self.violated("I8", None, f"{loop.task_count} tasks and {loop.timer_count} timers")

    def ending(self) -> None:
        """The last second before the agent is asked to stop."""
        hub = self._world.hub
        reported = hub.reported
        if reported is None or reported.devices_offline:
            names = "no report at all" if reported is None else ", ".join(reported.devices_offline)
            self.violated("I10", None, f"at the end still offline: {names}")
        elif reported.plan_id != hub.last_plan_id:
            text = f"the last plan is {hub.last_plan_id}, followed is {reported.plan_id}: {reported.ladder_reason}"
            self.violated("I10", None, text)

    def final(self) -> None:
        """The end: nothing lost, nothing twice, and everything right again."""
        world = self._world
        store = world.hub.store
        missing = [key for key in world.promised if not store.readings[key]]
        if len(missing) > store.skipped:
            self.violated("I1", None, f"{len(missing)} acknowledged readings never arrived, e.g. {missing[:3]}")
        for key, count in store.readings.items():
            # A clock that was set back stamps two readings alike now and then; a kill leaves one of them without its promise.
            if count > max(1, world.acknowledged[key] + world.unanswered[key]):
                self.violated("I1", None, f"{key} arrived {count} times, it was recorded {world.acknowledged[key]} times")
                break
