"""The laws of control, over generated sites and histories.

A history is a run of the arbiter against a field that does what it is told, with any claims, lost measurements, dead busbars,
irregular cycles and restarts in between. What must hold is checked at every step.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from types import MappingProxyType

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tieline_core.ids import DeviceId
from tieline_edge.control.arbiter import Decision, decide
from tieline_edge.control.claims import NO_LIMIT, Band, Claim, Failsafe, Interval
from tieline_edge.control.facts import DeviceFacts, SiteFacts
from tieline_edge.control.memory import ArbiterMemory, after_restart
from tieline_edge.control.plan_book import default_claims
from tieline_edge.drivers.capabilities import Capability, DeviceSpec, HoldPower, LimitGeneration, Release, Role, SwitchContact

NOW = datetime(2016, 12, 7, 16, tzinfo=UTC)
LONGEST_TTL_S, LONGEST_FAILSAFE_S = 20.0, 15.0
HUGE = 100e3


def storage(name: str, rng: random.Random) -> DeviceSpec:
    return DeviceSpec(
        DeviceId(name),
        Role.STORAGE,
        frozenset({Capability.HOLD_POWER}),
        p_min_w=-rng.choice((10e3, 50e3)),
        p_max_w=rng.choice((10e3, 50e3)),
        energy_wh=100e3,
        soc_min_pct=10.0,
        soc_max_pct=90.0,
        soc_reserve_pct=rng.choice((0.0, 20.0)),
        ramp_w_per_s=rng.choice((None, 1e3, 8e3)),
        dead_time_s=rng.choice((0.0, 3.0)),
        reverts=True,
    )


def plant(name: str, rng: random.Random) -> DeviceSpec:
    ramp = rng.choice((None, 5e3))
    return DeviceSpec(
        DeviceId(name), Role.PV, frozenset({Capability.LIMIT_GENERATION}), p_min_w=-40e3, ramp_w_per_s=ramp, reverts=True
    )


def load(name: str, rng: random.Random) -> DeviceSpec:
    return DeviceSpec(
        DeviceId(name),
        Role.LOAD,
        frozenset({Capability.SWITCH}),
        priority_class=rng.choice((0, 1, 3)),
        min_on_s=rng.choice((0.0, 10.0)),
        min_off_s=rng.choice((0.0, 6.0)),
        off_timer=rng.choice((True, False)),
        switches_per_h=rng.choice((4, 12)),
    )


def site(rng: random.Random) -> dict[DeviceId, DeviceSpec]:
    makers: tuple[Callable[[str, random.Random], DeviceSpec], ...] = (storage, plant, load)
    made = [rng.choice(makers)(f"d{number}", rng) for number in range(rng.randint(1, 4))]
    return {spec.device_id: spec for spec in made}


def interval(rng: random.Random) -> Interval:
    low, high = sorted(rng.uniform(-HUGE, HUGE) for _ in range(2))
    return rng.choice((NO_LIMIT, Interval(hi=high), Interval(lo=low), Interval(low, high), Interval(0.0, 0.0)))


def claim(specs: Mapping[DeviceId, DeviceSpec], now: datetime, rng: random.Random) -> Claim:
    device, band = rng.choice(sorted(specs)), rng.choice(list(Band)[:5])
    source = f"s{rng.randint(0, 2)}"
    expires = now + timedelta(seconds=rng.uniform(0.0, LONGEST_TTL_S))
    kind = rng.choice(("setpoint", "contact", "limit"))
    if kind == "setpoint":
        return Claim(device, band, source, "r", setpoint_w=rng.choice((0.0, rng.uniform(-HUGE, HUGE))), expires_at=expires)
    if kind == "contact":
        return Claim(device, band, source, "r", closed=rng.choice((True, False)), expires_at=expires)
    failsafe = Failsafe(interval(rng), rng.uniform(0.0, LONGEST_FAILSAFE_S))
    limit_ends = None if band is Band.INTERLOCK and rng.random() < 0.3 else expires
    return Claim(device, band, source, "r", limit=interval(rng), expires_at=limit_ends, failsafe=failsafe)


@dataclass
class Field:
    """Devices that do what they are told at once; contactors report it with the next look."""

    specs: Mapping[DeviceId, DeviceSpec]
    power: dict[DeviceId, float] = field(default_factory=dict)
    closed: dict[DeviceId, bool] = field(default_factory=dict)
    soc: dict[DeviceId, float] = field(default_factory=dict)

    def obey(self, decisions: Mapping[DeviceId, Decision], dt_s: float) -> None:
        for device, decision in decisions.items():
            action = decision.action
            if isinstance(action, SwitchContact):
                self.closed[device] = action.closed
            if isinstance(action, HoldPower):
                self.power[device] = action.power_w
            if isinstance(action, Release):
                self.power[device] = 0.0
        for device in self.soc:
            self.soc[device] += self.power.get(device, 0.0) * dt_s / 3600.0 / 100e3 * 100.0 * 50.0

    def facts(self, rng: random.Random, blind: float) -> SiteFacts:
        devices = {}
        for device in self.specs:
            if rng.random() < blind:
                continue
            ages = MappingProxyType({"p_w": 0.0, "soc_pct": 0.0, "closed": 0.0})
            devices[device] = DeviceFacts(self.power.get(device, 0.0), self.soc.get(device), self.closed.get(device), ages)
        return SiteFacts(devices, rng.choice((True, True, True, False, None)))


@dataclass(frozen=True)
class Look:
    """One cycle of a history."""

    at: datetime
    facts: SiteFacts
    before: ArbiterMemory
    decisions: Mapping[DeviceId, Decision]
    restarted: bool


@dataclass
class History:
    """Runs and remembers."""

    seed: int
    rng: random.Random = field(init=False)
    looks: list[Look] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)
        self.specs = site(self.rng)
        self.field = Field(self.specs)
        for device, spec in self.specs.items():
            if spec.role is Role.STORAGE:
                self.field.soc[device] = self.rng.choice((10.5, 50.0, 89.5))
            if spec.role is Role.LOAD:
                self.field.closed[device] = self.rng.random() < 0.8
        self.memory = ArbiterMemory()
        self.now = NOW

    def run(self, cycles: int, *, restarts: float = 0.05, blind: float = 0.1, claims: bool = True) -> None:
        pool: list[Claim] = []
        for _ in range(cycles):
            pool = [one for one in pool if self.rng.random() < 0.8]
            if claims:
                pool += [claim(self.specs, self.now, self.rng) for _ in range(self.rng.randint(0, 2))]
            restarted = self.rng.random() < restarts
            if restarted:
                self.memory = after_restart(self.memory)
            self.look([*pool, *default_claims(self.specs, self.now, 5.0)], blind, restarted)

    def look(self, claims: list[Claim], blind: float = 0.0, restarted: bool = False) -> None:
        dt_s = self.rng.choice((0.5, 1.0, 1.0, 1.0, 4.0))
        facts = self.field.facts(self.rng, blind)
        judged = decide(self.specs, claims, self.memory, facts, self.now, 180.0)
        self.looks.append(Look(self.now, facts, self.memory, judged.by_device, restarted))
        self.memory = judged.memory
        self.field.obey(judged.by_device, dt_s)
        self.now += timedelta(seconds=dt_s)


seeds = st.integers(0, 2**32 - 1)


@given(seeds)
def test_any_order_of_claims_leads_to_the_same_decisions_and_the_same_memory(seed: int) -> None:
    history = History(seed)
    history.run(6)
    rng, now = history.rng, history.now
    claims = [claim(history.specs, now - timedelta(seconds=5), rng) for _ in range(12)]
    facts = history.field.facts(rng, 0.1)
    first = decide(history.specs, claims, history.memory, facts, now, 180.0)
    for _ in range(4):
        rng.shuffle(claims)
        assert decide(history.specs, claims, history.memory, facts, now, 180.0) == first


@settings(max_examples=60, deadline=None)
@given(seeds)
def test_i4_limits_ramp_dead_time_and_state_of_charge_hold_at_every_step(seed: int) -> None:
    """I4: what is written lies inside what the limits leave, or is the rest at 0 W that the dead time demands."""
    history = History(seed)
    history.run(40)
    for look in history.looks:
        for device, decision in look.decisions.items():
            action, spec = decision.action, history.specs[device]
            if isinstance(action, LimitGeneration):
                held = action.min_power_w if action.min_power_w is not None else spec.p_min_w
                assert spec.p_min_w <= held <= 0.0
                assert held >= min(0.0, decision.interval.lo), "a tighter limit of generation counts at once"
            if not isinstance(action, HoldPower):
                continue
            power = action.power_w
            assert spec.p_min_w <= power <= spec.p_max_w
            if power != 0.0:
                assert decision.interval.holds(power)
            memory, known = look.before.power.get(device), look.facts.of(device)
            soc = known.soc_pct
            if soc is None or soc <= spec.soc_min_pct:
                assert power >= 0.0
            if soc is None or soc >= spec.soc_max_pct:
                assert power <= 0.0
            last = known.p_w or 0.0 if memory is None or memory.power_w is None else memory.power_w
            rate, at = spec.ramp_w_per_s, None if memory is None else memory.at
            if rate is not None and power != 0.0 and decision.interval.holds(last):
                dt_s = 0.0 if at is None else (look.at - at).total_seconds()
                outside = _at_a_bound(last, decision)
                assert outside or abs(power - last) <= rate * dt_s + 1e-6, (device, last, power)


def _at_a_bound(value: float, decision: Decision) -> bool:
    return value >= decision.interval.hi - 1e-9 or value <= decision.interval.lo + 1e-9


@settings(max_examples=60, deadline=None)
@given(seeds)
def test_i4_the_sign_changes_only_after_the_dead_time_even_over_restarts(seed: int) -> None:
    """I4: between powers of different sign there is at least the dead time at 0 W, whatever claims, restarts and silence."""
    history = History(seed)
    history.run(60, restarts=0.1, blind=0.2)
    for device, spec in history.specs.items():
        last: tuple[int, datetime] | None = None
        for look in history.looks:
            action = look.decisions[device].action
            power = action.power_w if isinstance(action, HoldPower) else 0.0
            sign = (power > 1e-6) - (power < -1e-6)
            if sign:
                if last is not None and last[0] != sign:
                    assert (look.at - last[1]).total_seconds() > spec.dead_time_s or spec.dead_time_s == 0.0
                last = sign, look.at


@settings(max_examples=80, deadline=None)
@given(seeds)
@example(97031)
def test_i4_contactors_keep_their_times_their_count_their_class_and_never_close_onto_a_dead_bus(seed: int) -> None:
    """I4: nothing cuts minimum-off; minimum-on gives way to safety only and says so; class 0 is never opened."""
    history = History(seed)
    history.run(60, restarts=0.1)
    for device, spec in history.specs.items():
        if spec.role is not Role.LOAD:
            continue
        was: tuple[bool, datetime] | None = None
        orders: list[datetime] = []
        for look in history.looks:
            decision = look.decisions[device]
            action, known = decision.action, look.facts.of(device)
            if was is None and known.closed is not None:
                was = known.closed, look.at
            if not isinstance(action, SwitchContact):
                continue
            assert action.closed or spec.priority_class != 0
            if was is None:
                # Ordered before anything was known of it: what it was, and since when, counts from here.
                was = action.closed, look.at
                continue
            if action.closed == was[0]:
                continue
            passed_s = (look.at - was[1]).total_seconds()
            if action.closed:
                assert passed_s >= spec.min_off_s
                assert look.facts.bus_live is True
            elif passed_s < spec.min_on_s:
                assert decision.band is not None
                assert decision.band <= Band.SAFETY
                assert any("minimum on time cut" in note for note in decision.notes)
            was = action.closed, look.at
            orders.append(look.at)
            hour = [at for at in orders if (look.at - at).total_seconds() < 3600.0]
            assert len(hour) <= spec.switches_per_h + 1


@settings(max_examples=60, deadline=None)
@given(seeds)
def test_i6_without_authority_every_device_is_in_its_default_within_the_stated_time(seed: int) -> None:
    """I6: expiry, then failsafes, then the hold after safety, the ramp and the dead time; nothing of bands 2-6 lasts longer."""
    history = History(seed)
    history.run(30)
    fixed = [one for one in history.memory.limits if one.band is Band.INTERLOCK]
    assert fixed == [], "an interlock is claimed in every cycle, nobody remembers it"
    silent_at = history.now
    longest_s = LONGEST_TTL_S + LONGEST_FAILSAFE_S + 2 * 30.0 + 100.0 + 10.0
    while (history.now - silent_at).total_seconds() < longest_s:
        history.field.soc = dict.fromkeys(history.field.soc, 50.0)
        history.look([])
    for device, decision in history.looks[-1].decisions.items():
        spec = history.specs[device]
        if spec.role is Role.STORAGE:
            assert isinstance(decision.action, Release), decision.notes
        if spec.role is Role.PV:
            assert decision.action == LimitGeneration(None, 180.0)
        if spec.role is Role.LOAD:
            assert decision.action is None
    assert history.memory.limits == ()


def test_every_claim_below_the_interlock_band_must_say_when_it_ends() -> None:
    for band in list(Band)[1:]:
        with pytest.raises(ValueError, match="must expire"):
            Claim(DeviceId("d"), band, "s", "r", setpoint_w=1.0)


@pytest.mark.parametrize("delay", [0, 3, 10])
@pytest.mark.parametrize("period", [1, 7, 20])
def test_f51_plan_and_rule_that_disagree_each_cycle_toggle_nothing(period: int, delay: int) -> None:
    """F51 (I4): a rule that bars charging every other moment against a plan that charges: at most 120 turns an hour.

    And a contactor that plan and rule pull to both sides is switched at most as often as its entry allows.
    """
    bat = replace(storage("bat", random.Random(1)), ramp_w_per_s=None, dead_time_s=0.0, p_max_w=50e3, soc_reserve_pct=0.0)
    sheddable = replace(load("load", random.Random(1)), priority_class=3, min_on_s=0.0, min_off_s=0.0, switches_per_h=12)
    specs = {spec.device_id: spec for spec in (bat, sheddable)}
    history = History(1)
    history.specs, history.field = specs, Field(specs, closed={sheddable.device_id: True}, soc={bat.device_id: 50.0})
    for second in range(3600):
        now = NOW + timedelta(seconds=second)
        soon = now + timedelta(seconds=2)
        against = (second - delay) // period % 2 == 0
        limit = Interval(hi=0.0) if against else NO_LIMIT
        claims = [
            Claim(bat.device_id, Band.PLAN, "plan", "r", setpoint_w=30e3, expires_at=soon),
            Claim(bat.device_id, Band.SAFETY, "rule", "r", limit=limit, expires_at=soon, failsafe=Failsafe(limit, 1.0)),
            Claim(sheddable.device_id, Band.PLAN, "plan", "r", closed=True, expires_at=soon),
        ]
        if against:
            claims.append(Claim(sheddable.device_id, Band.SAFETY, "rule", "r", closed=False, expires_at=soon))
        facts = SiteFacts(
            {
                bat.device_id: DeviceFacts(history.field.power.get(bat.device_id, 0.0), 50.0, None, {"p_w": 0.0}),
                sheddable.device_id: DeviceFacts(1e3, None, history.field.closed[sheddable.device_id], {"closed": 0.0}),
            }
        )
        judged = decide(specs, claims, history.memory, facts, now, 180.0)
        history.looks.append(Look(now, facts, history.memory, judged.by_device, restarted=False))
        history.memory = judged.memory
        history.field.obey(judged.by_device, 0.0)
    assert _turns(history, bat.device_id) <= 120
    assert _turns(history, sheddable.device_id) <= 13


@pytest.mark.parametrize("period", [1, 5, 29])
def test_f51_a_safety_setpoint_that_comes_and_goes_is_held(period: int) -> None:
    """F51 (I4): discharge asked for by a rule in some cycles, charge by the plan in all: no flapping between the two."""
    bat = replace(storage("bat", random.Random(1)), ramp_w_per_s=None, dead_time_s=0.0, p_max_w=50e3, p_min_w=-50e3)
    history = History(1)
    history.specs, history.field = {bat.device_id: bat}, Field({bat.device_id: bat}, soc={bat.device_id: 80.0})
    for second in range(1800):
        now = NOW + timedelta(seconds=second)
        soon = now + timedelta(seconds=1)
        claims = [Claim(bat.device_id, Band.PLAN, "plan", "r", setpoint_w=30e3, expires_at=soon)]
        if second // period % 2:
            claims.append(Claim(bat.device_id, Band.SAFETY, "rule", "r", setpoint_w=-40e3, expires_at=soon))
        facts = SiteFacts({bat.device_id: DeviceFacts(history.field.power.get(bat.device_id, 0.0), 80.0)})
        judged = decide(history.specs, claims, history.memory, facts, now, 180.0)
        history.looks.append(Look(now, facts, history.memory, judged.by_device, restarted=False))
        history.memory = judged.memory
        history.field.obey(judged.by_device, 0.0)
    assert _turns(history, bat.device_id) <= 60


def _turns(history: History, device: DeviceId) -> int:
    """How often the order changed."""
    actions = [look.decisions[device].action for look in history.looks]
    orders: list[object] = []
    for action in actions:
        order = action.power_w if isinstance(action, HoldPower) else getattr(action, "closed", None)
        if order is not None and (not orders or orders[-1] != order):
            orders.append(order)
    return len(orders) - 1
