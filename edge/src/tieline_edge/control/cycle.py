"""One cycle: freeze the process image, hear rules, commands and plan, let the arbiter decide, carry it out, keep why."""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final, Protocol
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from tieline_core.clock import Clock
from tieline_core.ids import DeviceId
from tieline_core.messages.command import Command, CommandReport, CommandState
from tieline_core.messages.desired import LadderStep
from tieline_core.messages.plan import Plan
from tieline_core.messages.policy import Policy
from tieline_core.messages.telemetry import IssuedForecast, Severity
from tieline_core.quantities import Reading
from tieline_edge.control.arbiter import Decision, decide
from tieline_edge.control.battery import batteries_of
from tieline_edge.control.claims import Claim
from tieline_edge.control.commands import CommandBook
from tieline_edge.control.deviation import DeviationWatch
from tieline_edge.control.escalation import Escalation
from tieline_edge.control.executor import Outcome
from tieline_edge.control.facts import AgeLimits, SiteFacts, gather
from tieline_edge.control.local_schedule import LocalSchedule, plan_locally
from tieline_edge.control.memory import ArbiterMemory, after_restart
from tieline_edge.control.memory_store import MemoryStore
from tieline_edge.control.outlet import Outlet
from tieline_edge.control.pace import PaceStats
from tieline_edge.control.plan_book import PlanBook, Standing, default_claims
from tieline_edge.control.prices import of_tariff, of_vector
from tieline_edge.control.rehearsal import DRY_RUN
from tieline_edge.control.replay import Asked
from tieline_edge.control.rulebook import RuleBook
from tieline_edge.control.site_points import site_power, site_readings
from tieline_edge.control.speaker import Speaker
from tieline_edge.control.state_file import StateFile
from tieline_edge.control.state_writer import Offload
from tieline_edge.control.time_watch import Dated, Dating, TimeWatch
from tieline_edge.control.trace import Trace
from tieline_edge.control.unheard import Unheard, as_held, as_switched
from tieline_edge.drivers.capabilities import DeviceSpec, Role, SwitchContact
from tieline_edge.settings import EdgeSettings
from tieline_edge.shedding.rule import RuleEvent, RuleSite, RuleView
from tieline_edge.snapshot import ProcessImage
from tieline_edge.steady import SteadyTime

#: Under a fast clock inputs may be this much wall time old: three polls on a busy machine.
_AGE_WALL_S: Final = 1.5
_PROBLEMS: Final = frozenset({CommandState.FAILED, CommandState.UNCONFIRMED})


@dataclass(slots=True)
class CycleStats:
    """How the loop runs; durations in wall milliseconds."""

    count: int = 0
    pace: PaceStats = field(default_factory=PaceStats)
    last_ms: deque[float] = field(default_factory=lambda: deque(maxlen=2000))

    @property
    def p99_ms(self) -> float:
        """99th percentile of the last durations."""
        ranked = sorted(self.last_ms)
        return ranked[min(len(ranked) - 1, int(0.99 * len(ranked)))] if ranked else 0.0


@dataclass(frozen=True, slots=True)
class Parts:
    """What a cycle works with; made in :mod:`tieline_edge.bootstrap`.

    Attributes:
        rule_site: The site as the rules know it, before any policy.
        poll_s: Poll period by device [s].
        speakers: Further sources of claims, asked in every cycle.
        tagged: Devices under a tag "do not operate", asked in every cycle.
        offload: Runs blocking writes beside the loop.
        steady: The line timers live on; None makes one from the clock.
        dating: Whether the time of day can be believed: without it no plan and no command is valid.
    """

    settings: EdgeSettings
    clock: Clock
    image: ProcessImage
    rule_site: RuleSite
    plans: PlanBook
    commands: CommandBook
    trace: Trace
    outlet: Outlet
    state: StateFile
    poll_s: Mapping[DeviceId, float]
    monitor_only: bool
    rng: random.Random
    speakers: tuple[Speaker, ...] = ()
    offload: Offload = asyncio.to_thread
    steady: SteadyTime | None = None
    dating: Dating = field(default_factory=Dated)
    tagged: Callable[[], frozenset[DeviceId]] = frozenset


class Hands(Protocol):
    """Who carries out decisions: the executor, or somebody who only pretends to."""

    def unheard(self) -> Mapping[DeviceId, Unheard]:
        """Devices that do not do what was decided last."""
        ...

    async def carry_out(self, decisions: Mapping[DeviceId, Decision], facts: SiteFacts) -> Collection[DeviceId]:
        """Start what is due, without waiting for devices; returns the devices a write was begun to."""
        ...


class ControlCycle:
    """The loop's body and everything it remembers.

    Args:
        parts: What it works with.

    Raises:
        tieline_edge.shedding.rule.VitalLoadError: When the configured rules could shed a vital load.
    """

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._rules = RuleBook(parts.rule_site, parts.rng)
        self._poll_s = parts.poll_s
        self._steady = parts.steady or SteadyTime(parts.clock)
        self._watch()
        self._memory = ArbiterMemory()
        self._deviations = DeviationWatch()
        self._time = TimeWatch(parts.dating)
        self._escalation = Escalation()
        self._store = MemoryStore(parts.state, parts.offload)
        # What was measured while the clock still ran fast is as old as it must be: ages follow a slowing clock two cycles late.
        self._speeds: deque[float] = deque(maxlen=3)
        self.stats = CycleStats()
        self.standing = Standing(LadderStep.DEVICE_DEFAULT, "starting", ())
        self.decisions: Mapping[DeviceId, Decision] = {}
        self.local: LocalSchedule | None = None
        #: Derived readings of the last cycle.
        self.derived: tuple[Reading, ...] = ()

    @property
    def specs(self) -> Mapping[DeviceId, DeviceSpec]:
        """Devices with their classes as a policy has set them."""
        return self._rules.specs

    @property
    def shed(self) -> tuple[DeviceId, ...]:
        """Loads kept open by the rules."""
        return self._rules.shed

    @property
    def policy(self) -> Policy | None:
        """The policy in force."""
        return self._rules.policy

    @property
    def watched(self) -> frozenset[DeviceId]:
        """Devices whose values may set off a rule, and the transformer, which tells whether the busbar is live."""
        named = {watch.point.device for watch in self._rules.watches}
        return frozenset(named if self._rules.transformer is None else {*named, self._rules.transformer})

    def _watch(self) -> None:
        """Let the image call for a cycle when a level of the rules is crossed."""
        self._parts.image.watch(self._rules.watches)

    def restore(self) -> None:
        """Take up what an earlier run remembered; what is unreadable is kept aside and said."""
        parts = self._parts
        told = [parts.plans.restore(), parts.commands.restore()]
        try:
            stored = self._store.read()
            if stored is not None:
                self._rules.load(stored.rules)
                plants = {device for device, spec in self.specs.items() if spec.role is Role.PV}
                self._memory = after_restart(stored.arbiter, plants)
                if stored.at is not None:
                    self._steady.resume(stored.at, stored.utc)
        except (ValidationError, ValueError) as error:
            told.append(f"control memory was unreadable ({type(error).__name__}): {self._store.set_aside()}")
        for message in filter(None, told):
            parts.outlet.tell(Severity.ALARM, "state.unreadable", message)

    def ages(self) -> AgeLimits:
        """How old inputs may be at the present speed of the clock."""
        cycle, speed = self._parts.settings.cycle, max(self._parts.clock.speed(), *self._speeds, 0.0)
        wall_s = max(3.0 * cycle.floor_wall_s, _AGE_WALL_S) * speed if speed > 1.0 else 3.0 * cycle.floor_wall_s
        base_s = max(cycle.max_input_age_s, wall_s)
        return AgeLimits(base_s, {device: max(base_s, 3.0 * poll_s) for device, poll_s in self._poll_s.items()})

    async def run_once(self, hands: Hands) -> None:
        """One cycle."""
        started = time.perf_counter()
        self._speeds.append(self._parts.clock.speed())
        parts, utc, now, ages = self._parts, self._parts.clock.now(), self._steady.now(), self.ages()
        snapshot = parts.image.freeze(utc)
        facts = gather(snapshot, parts.settings.edge_id, self.specs, ages, parts.tagged())
        self._tell(self._time.look(utc, now))
        self._take_standing(utc, facts)
        if not parts.monitor_only:
            claims = tuple(self._hear(RuleView(now, snapshot, facts, ages), utc))
            memory = as_held(self._memory, hands.unheard(), now, facts)
            asked = Asked(self.specs, claims, memory, facts, now, parts.settings.reversion.timer_s)
            judged = decide(asked.specs, claims, asked.memory, facts, now, asked.revert_s)
            self._memory, self.decisions = judged.memory, _marked(judged.by_device, parts.settings.dry_run)
            await self._store.store(self._memory, self._rules.dump, self.shed, now, utc, parts.clock.speed())
            begun = await hands.carry_out(self.decisions, facts)
            parts.trace.decided(self.decisions, asked, utc, begun)
            self._tell(self._deviations.look(self.decisions, self.specs, now))
            for report in parts.commands.expire(utc) if parts.dating.undated() is None else ():
                parts.outlet.tell(Severity.INFORMATION, "command.expired", f"command {report.command_id}: {report.text}")
        for disk in (parts.plans.disk, parts.commands.disk):
            disk.push(now, parts.clock.speed())
        power = site_power(self.specs, facts, self._rules.transformer)
        self.derived = tuple(site_readings(parts.settings.edge_id, power, self.standing.step, utc))
        parts.outlet.keep(self.derived)
        self.stats.count += 1
        self.stats.last_ms.append(1000.0 * (time.perf_counter() - started))

    def _take_standing(self, now: datetime, facts: SiteFacts) -> None:
        before, undated = self.standing, self._parts.dating.undated()
        if self._parts.monitor_only:
            self.standing = Standing(
                LadderStep.DEVICE_DEFAULT, "monitor only: no hub key is configured, nothing is written", ()
            )
        elif undated is not None:
            self.standing = Standing(LadderStep.DEVICE_DEFAULT, f"validity of plans cannot be judged: {undated}"[:200], ())
        else:
            self.standing = self._parts.plans.stand(self.local, now)
        if before.step is not self.standing.step or before.reason == "starting":
            worse = self.standing.step > before.step and before.reason != "starting"
            self._parts.outlet.tell(
                Severity.INFORMATION if not worse else Severity.ACTION,
                "ladder.step",
                f"{self.standing.step.name.lower().replace('_', ' ')}: {self.standing.reason}",
                data={"step": int(self.standing.step), "from": int(before.step), "bus_live": facts.bus_live},
            )

    def _hear(self, view: RuleView, utc: datetime) -> list[Claim]:
        # Plans and commands end at instants of the calendar; the arbiter's timers live on the line that never steps.
        commands = self._parts.commands.claims(utc) if self._parts.dating.undated() is None else ()
        calendar = (*self.standing.claims, *commands)
        claims = [*default_claims(self.specs, view.now, view.ages.default_s)]
        claims.extend(claim.moved(view.now - utc) for claim in calendar)
        for speaker in self._parts.speakers:
            claims.extend(speaker.claims(view))
        heard = self._rules.hear(view)
        claims.extend(heard.claims)
        self._tell(heard.events)
        return claims

    def _tell(self, events: Iterable[RuleEvent]) -> None:
        # The rules cannot know that nobody carries out what they claim; whoever reads their alarms has to.
        supposed = "(dry run) " if self._parts.settings.dry_run else ""
        for event in events:
            self._parts.outlet.tell(event.severity, event.code, supposed + event.text, event.device, event.data)

    async def close(self) -> None:
        """Wait for the last writes."""
        for disk in (self._store, self._parts.plans.disk, self._parts.commands.disk):
            await disk.close()

    async def take_outcome(self, outcome: Outcome) -> None:
        """Listener of the executor."""
        parts = self._parts
        if outcome.state is CommandState.CONFIRMED and isinstance(outcome.action, SwitchContact):
            self._memory = as_switched(self._memory, outcome.device, outcome.action.closed, self._steady.now())
        parts.trace.happened(outcome)
        if outcome.state in _PROBLEMS:
            code = f"write.{outcome.state.value}"
            parts.outlet.tell(Severity.ALARM, code, f"{outcome.device}: {outcome.text}", outcome.device)
        self._tell(self._escalation.heard(outcome))
        report = parts.commands.progress(
            outcome.device, outcome.source, outcome.state, outcome.text, outcome.at, outcome.action
        )
        if report is not None:
            text = f"command {report.command_id}: {report.state.value}, {report.text}"
            parts.outlet.tell(Severity.INFORMATION, "command.progress", text, outcome.device)

    async def take_plan(self, plan: Plan, sha256: str) -> None:
        """Take a plan; it is on disk when this returns.

        Raises:
            tieline_edge.control.plan_book.PlanRefusedError: With the check that failed.
        """
        await self._parts.plans.offer(plan, sha256, self._parts.clock.now())
        text = f"plan {plan.plan_id} taken: {plan.steps} steps from {plan.start:%Y-%m-%d %H:%M} UTC"
        self._parts.outlet.tell(Severity.INFORMATION, "plan.taken", text, data={"plan_id": plan.plan_id, "sha256": sha256})

    async def take_command(self, command: Command) -> CommandReport:
        """Take or refuse a command; the report says which."""
        report = await self._parts.commands.accept(command, self._parts.clock.now())
        told = f"command {command.command_id} of {command.issued_by}: {report.state.value} {report.text}".strip()
        severity = Severity.ALARM if report.state is CommandState.REFUSED else Severity.INFORMATION
        known = command.device_id if command.device_id in self.specs else None
        self._parts.outlet.tell(severity, f"command.{report.state.value}", told, known)
        return report

    def take_policy(self, policy: Policy) -> None:
        """Take a shedding policy; what is shed now stays shed under the new rules unless it has become vital.

        Raises:
            tieline_core.errors.PermanentError: When the policy could shed a vital load; the old rules stay.
        """
        self._rules.take_policy(policy)
        self._watch()
        self._parts.plans.specs = self._parts.commands.specs = self.specs
        self._parts.outlet.tell(Severity.INFORMATION, "policy.taken", f"shedding policy {policy.policy_id} taken")

    def take_site(self, site: RuleSite, poll_s: Mapping[DeviceId, float]) -> None:
        """Take another set of devices without a restart; plans and commands on devices that are gone are not heard.

        Args:
            site: The site as configured, before any policy.
            poll_s: Poll period by device [s].

        Raises:
            tieline_core.errors.PermanentError: When the rules could shed a vital load; everything stays as it was.
        """
        self._rules.take_site(site)
        self._watch()
        self._poll_s = poll_s
        self._parts.plans.specs = self._parts.commands.specs = self.specs

    async def take_forecast(self, forecast: IssuedForecast) -> None:
        """Make the local schedule anew from a forecast, beside the loop."""
        now = self._parts.clock.now()
        snapshot = self._parts.image.freeze(now)
        facts = gather(snapshot, self._parts.settings.edge_id, self.specs, self.ages())
        batteries = batteries_of(self.specs, facts)
        made = await asyncio.to_thread(
            plan_locally, forecast, batteries, now, self._parts.settings.local_schedule, self._prices
        )
        # Batteries that do not answer at this moment are no reason to forget what was planned for them.
        self.local = self.local if made is None else made

    def _prices(self, start: datetime, step_s: int, steps: int) -> NDArray[np.float64]:
        vector, settings = self._parts.plans.prices, self._parts.settings
        known = np.zeros(0) if vector is None else of_vector(vector, start, step_s, steps)
        if known.size:
            return known
        return of_tariff(settings.local_schedule.tariff, ZoneInfo(settings.site.time_zone), start, step_s, steps)


def _marked(decisions: Mapping[DeviceId, Decision], dry_run: bool) -> Mapping[DeviceId, Decision]:
    """Decisions that say of themselves that they are not carried out, where that is so."""
    if not dry_run:
        return decisions
    return {device: replace(decision, notes=(*decision.notes, DRY_RUN)) for device, decision in decisions.items()}
