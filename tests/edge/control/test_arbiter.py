"""The arbiter: precedence, order of claims, memory and interlocks."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from tieline_core.ids import DeviceId
from tieline_edge.control.arbiter import Decisions, decide
from tieline_edge.control.claims import NO_LIMIT, Band, Claim, Failsafe, Interval
from tieline_edge.control.facts import DeviceFacts, SiteFacts
from tieline_edge.control.memory import ArbiterMemory, PowerMemory
from tieline_edge.drivers.capabilities import (
    Capability,
    DeviceSpec,
    HoldPower,
    LimitGeneration,
    Release,
    Role,
    SwitchContact,
)

NOW = datetime(2016, 12, 7, 16, tzinfo=UTC)
BAT, PV, LOAD, VITAL, METER = map(DeviceId, ("bat1", "pv1", "load01", "load10", "fm1"))
BATTERY = DeviceSpec(
    BAT, Role.STORAGE, frozenset({Capability.MEASURE, Capability.HOLD_POWER}), None, -60e3, 60e3, 150e3, 10.0, 90.0, True
)
SPECS: Mapping[DeviceId, DeviceSpec] = {
    BAT: BATTERY,
    PV: DeviceSpec(PV, Role.PV, frozenset({Capability.LIMIT_GENERATION}), p_min_w=-50e3, p_max_w=0.0),
    LOAD: DeviceSpec(LOAD, Role.LOAD, frozenset({Capability.SWITCH}), priority_class=3, off_timer=True),
    VITAL: DeviceSpec(VITAL, Role.LOAD, frozenset({Capability.SWITCH}), priority_class=0),
    METER: DeviceSpec(METER, Role.METER, frozenset({Capability.MEASURE})),
}
FACTS = SiteFacts(
    {
        BAT: DeviceFacts(p_w=0.0, soc_pct=50.0),
        LOAD: DeviceFacts(p_w=9e3, closed=True, ages_s=MappingProxyType({"closed": 0.5})),
        VITAL: DeviceFacts(closed=True),
    }
)


def want(band: Band, device: DeviceId = BAT, *, source: str = "", ttl_s: float = 60.0, **wish: object) -> Claim:
    failsafe = Failsafe(NO_LIMIT, 0.0) if "limit" in wish else None
    rest: dict[str, object] = {"failsafe": failsafe, **wish}
    return Claim(device, band, source or band.name.lower(), "r", expires_at=NOW + timedelta(seconds=ttl_s), **rest)  # type: ignore[arg-type]  # keyword wishes of a test


def judge(
    *claims: Claim,
    memory: ArbiterMemory | None = None,
    facts: SiteFacts = FACTS,
    now: datetime = NOW,
    specs: Mapping[DeviceId, DeviceSpec] = SPECS,
) -> Decisions:
    return decide(specs, claims, memory or ArbiterMemory(), facts, now, 180.0)


def power_of(decisions: Decisions) -> float:
    action = decisions.by_device[BAT].action
    assert isinstance(action, HoldPower)
    return action.power_w


@st.composite
def any_claims(draw: st.DrawFn) -> list[Claim]:
    claims = []
    for number in range(draw(st.integers(0, 7))):
        device = draw(st.sampled_from([BAT, PV, LOAD, VITAL]))
        kind = draw(st.sampled_from(["setpoint", "closed", "limit"]))
        a, b = sorted((draw(st.integers(-70, 70)) * 1e3, draw(st.integers(-70, 70)) * 1e3))
        wishes: dict[str, dict[str, object]] = {
            "setpoint": {"setpoint_w": a},
            "closed": {"closed": a < -b},
            "limit": {"limit": Interval(a, b)},
        }
        ttl = draw(st.sampled_from([-5.0, 60.0]))
        claims.append(want(draw(st.sampled_from(Band)), device, source=f"s{number % 3}", ttl_s=ttl, **wishes[kind]))
    return claims


@given(any_claims(), st.randoms(use_true_random=False))
def test_any_order_of_claims_gives_the_same_decisions_and_memory(claims: list[Claim], rng: random.Random) -> None:
    shuffled = list(claims)
    rng.shuffle(shuffled)
    assert judge(*claims) == judge(*shuffled)


@given(any_claims(), any_claims())
def test_power_stays_inside_all_limits_and_the_state_of_charge_window(first: list[Claim], second: list[Claim]) -> None:
    memory = judge(*first).memory
    decision = judge(*second, memory=memory, now=NOW + timedelta(seconds=1)).by_device[BAT]
    if isinstance(decision.action, HoldPower):
        assert decision.interval.holds(decision.action.power_w)
        assert -60e3 <= decision.action.power_w <= 60e3


@given(any_claims())
def test_a_vital_load_is_never_opened(claims: list[Claim]) -> None:
    action = judge(*claims).by_device[VITAL].action
    assert action is None or (isinstance(action, SwitchContact) and action.closed)


@given(any_claims(), any_claims(), st.sets(st.sampled_from([BAT, PV, LOAD, VITAL])))
def test_a_tag_silences_its_own_device_whatever_is_claimed_and_no_other(
    first: list[Claim], second: list[Claim], tagged: set[DeviceId]
) -> None:
    tags = [Claim(device, Band.INTERLOCK, "tag", "work", hands_off=True) for device in tagged]
    memory, later = judge(*first).memory, NOW + timedelta(seconds=1)
    free, held = (judge(*second, *more, memory=memory, now=later).by_device for more in ((), tags))
    for device, decision in held.items():
        if device in tagged:
            assert decision.action is None
            assert decision.hands_off
        else:
            assert decision == free[device]


@given(any_claims())
def test_memory_survives_the_way_through_its_stored_text(claims: list[Claim]) -> None:
    adapter = TypeAdapter(ArbiterMemory)
    memory = judge(*claims).memory
    assert adapter.validate_json(adapter.dump_json(memory)) == memory


@pytest.mark.parametrize("band", list(Band)[:-1])
def test_the_highest_band_gives_the_setpoint_and_the_others_are_named_as_losers(band: Band) -> None:
    claims = [want(one, setpoint_w=float(one) * 1e3) for one in Band if one >= band]
    decision = judge(*reversed(claims)).by_device[BAT]
    assert decision.band is band
    assert {claim.band for claim in decision.losers} == {one for one in Band if one > band}
    assert decision.action == HoldPower(float(band) * 1e3, 180.0)


def test_two_setpoints_of_one_band_give_the_one_nearest_to_zero() -> None:
    assert power_of(judge(want(Band.PLAN, source="a", setpoint_w=-9e3), want(Band.PLAN, source="b", setpoint_w=5e3))) == 5e3


def test_expired_setpoints_let_go_by_themselves() -> None:
    claim = want(Band.OPERATOR, setpoint_w=5e3, ttl_s=10)
    assert power_of(judge(claim)) == 5e3
    assert judge(claim, now=NOW + timedelta(seconds=10)).by_device[BAT].action == Release()


def test_a_setpoint_is_clamped_by_limits_of_any_band_but_its_winner_stays_the_winner() -> None:
    decision = judge(want(Band.OPERATOR, setpoint_w=50e3), want(Band.ENVELOPE, limit=Interval(hi=20e3))).by_device[BAT]
    assert decision.action == HoldPower(20e3, 180.0)
    assert decision.band is Band.OPERATOR
    assert any("clamped" in note for note in decision.notes)


def test_a_plan_cannot_charge_what_safety_forbids() -> None:
    decisions = judge(want(Band.PLAN, setpoint_w=30e3), want(Band.SAFETY, limit=Interval(hi=0.0)))
    assert power_of(decisions) == 0.0


@pytest.mark.parametrize(
    ("soc", "asked", "got"),
    [(10.0, -5e3, 0.0), (10.0, 5e3, 5e3), (90.0, 5e3, 0.0), (95.0, -5e3, -5e3), (None, 5e3, 0.0), (None, -5e3, 0.0)],
)
def test_the_state_of_charge_window_is_an_interlock(soc: float | None, asked: float, got: float) -> None:
    facts = SiteFacts({BAT: DeviceFacts(p_w=0.0, soc_pct=soc)})
    assert power_of(judge(want(Band.SAFETY, setpoint_w=asked), facts=facts)) == got


def test_a_limit_without_any_setpoint_holds_the_battery_at_rest_instead_of_releasing_it() -> None:
    assert power_of(judge(want(Band.SAFETY, limit=Interval(hi=0.0)))) == 0.0
    assert power_of(judge(want(Band.ENVELOPE, limit=Interval(hi=-8e3)))) == -8e3


def test_a_limit_whose_speaker_falls_silent_lasts_until_expiry_and_then_as_its_failsafe() -> None:
    cap = want(Band.ENVELOPE, limit=Interval(hi=20e3), ttl_s=30, failsafe=Failsafe(Interval(hi=4e3), 60))
    plan = want(Band.PLAN, setpoint_w=50e3, ttl_s=1000)
    memory = judge(cap, plan).memory
    seen = []
    for second in (10, 30, 89, 90, 119):
        decisions = judge(plan, memory=memory, now=NOW + timedelta(seconds=second))
        memory = decisions.memory
        seen.append(power_of(decisions))
    assert seen == [20e3, 4e3, 4e3, 4e3, 50e3], "and half a minute longer, lest a limit that comes and goes toggles the device"


def test_a_limit_lifted_in_so_many_words_is_gone_at_once() -> None:
    cap = want(Band.ENVELOPE, source="dso", limit=Interval(hi=20e3), failsafe=Failsafe(Interval(hi=0.0), 900))
    plan = want(Band.PLAN, setpoint_w=50e3, ttl_s=1000)
    lifted = judge(plan, want(Band.ENVELOPE, source="dso", limit=NO_LIMIT), memory=judge(cap).memory)
    assert power_of(lifted) == 50e3
    assert lifted.memory.limits == ()


def test_a_generation_limit_comes_from_the_intersection_and_none_means_no_limit() -> None:
    decision = judge(want(Band.PLAN, PV, limit=Interval(lo=-12e3))).by_device[PV]
    assert decision.action == LimitGeneration(-12e3, 180.0)
    assert decision.band is Band.PLAN
    assert judge().by_device[PV].action == LimitGeneration(None, 180.0)
    assert judge(want(Band.PLAN, PV, limit=Interval(lo=0.0))).by_device[PV].action == LimitGeneration(0.0, 180.0)


def test_a_wider_generation_limit_opens_with_the_ramp_and_a_tighter_one_counts_at_once() -> None:
    specs = {PV: replace(SPECS[PV], ramp_w_per_s=1e3)}
    tight = judge(want(Band.PLAN, PV, limit=Interval(lo=0.0)), specs=specs)
    assert tight.by_device[PV].action == LimitGeneration(0.0, 180.0)
    wider = judge(
        want(Band.PLAN, PV, limit=Interval(lo=-30e3)), specs=specs, memory=tight.memory, now=NOW + timedelta(seconds=4)
    )
    assert wider.by_device[PV].action == LimitGeneration(-4e3, 180.0)


def test_claims_a_device_cannot_follow_are_reported_and_change_nothing() -> None:
    decisions = judge(
        want(Band.OPERATOR, PV, setpoint_w=-5e3), want(Band.OPERATOR, closed=False), want(Band.PLAN, LOAD, setpoint_w=1.0)
    )
    for device in (PV, BAT, LOAD):
        assert len(decisions.by_device[device].dropped) == 1
        assert "cannot do that" in decisions.by_device[device].notes[0]
    assert METER not in decisions.by_device


def test_an_opening_beats_a_closing_of_the_same_band_and_a_zero_limit_opens_a_load() -> None:
    both = judge(want(Band.OPERATOR, LOAD, source="a", closed=True), want(Band.OPERATOR, LOAD, source="b", closed=False))
    assert both.by_device[LOAD].action == SwitchContact(closed=False)
    capped = judge(want(Band.PLAN, LOAD, limit=Interval(hi=0.0)))
    assert capped.by_device[LOAD].action == SwitchContact(closed=False)


def test_who_only_keeps_open_opens_nothing_and_never_stands_before_an_opening() -> None:
    kept = want(Band.SAFETY, LOAD, source="a", closed=False, keeps=True)
    assert judge(kept, want(Band.DEFAULT, LOAD, closed=True)).by_device[LOAD].action is None
    opened = judge(kept, want(Band.SAFETY, LOAD, source="b", closed=False)).by_device[LOAD]
    assert opened.action == SwitchContact(closed=False)
    assert opened.winner is not None
    assert opened.winner.source == "b"
    assert "stay open" in str(kept)
    with pytest.raises(ValueError, match="only what is open"):
        want(Band.SAFETY, LOAD, closed=True, keeps=True)


def test_an_opening_of_a_vital_load_is_refused_with_a_note() -> None:
    decision = judge(want(Band.SAFETY, VITAL, closed=False)).by_device[VITAL]
    assert decision.action is None
    assert decision.dropped
    assert "class 0 is never opened" in decision.notes[0]


def test_an_infinite_setpoint_never_comes_out() -> None:
    decisions = judge(want(Band.PLAN, limit=Interval(lo=-math.inf, hi=math.inf)), want(Band.PLAN, setpoint_w=1e12))
    assert power_of(decisions) == 60e3


def test_nothing_is_written_to_a_tagged_device_whoever_wants_what() -> None:
    tag = {device: Claim(device, Band.INTERLOCK, "tag", "work on the busbar", hands_off=True) for device in (BAT, LOAD, PV)}
    shed = want(Band.SAFETY, LOAD, closed=False)
    plan = want(Band.PLAN, setpoint_w=20e3)
    cap = want(Band.ENVELOPE, source="dso", limit=Interval(hi=10e3), failsafe=Failsafe(Interval(hi=0.0), 900))
    decisions = judge(*tag.values(), shed, plan, cap, want(Band.PLAN, PV, limit=Interval(lo=0.0)))
    for device, one in tag.items():
        assert decisions.by_device[device].action is None
        assert decisions.by_device[device].winner == one
        assert decisions.by_device[device].hands_off
    assert decisions.by_device[LOAD].losers == (shed,)
    assert decisions.by_device[BAT].losers == (plan,)
    assert decisions.by_device[BAT].dropped == (cap,)
    assert "do not operate" in str(tag[BAT])


def test_after_a_tag_a_load_that_a_hand_has_opened_is_not_closed_by_default() -> None:
    def seen(closed: bool) -> SiteFacts:
        return SiteFacts({LOAD: DeviceFacts(closed=closed)})

    tag = Claim(LOAD, Band.INTERLOCK, "tag", "work", hands_off=True)
    on = want(Band.DEFAULT, LOAD, closed=True, ttl_s=1e6)
    memory = judge(on, facts=seen(True)).memory
    for second, closed in ((1, True), (2, False), (3, False)):
        memory = judge(on, tag, facts=seen(closed), memory=memory, now=NOW + timedelta(seconds=second)).memory
    after = judge(on, facts=seen(False), memory=memory, now=NOW + timedelta(hours=1))
    assert after.by_device[LOAD].action is None
    assert "not opened here" in after.by_device[LOAD].notes[0]


def test_after_a_tag_the_ramp_of_a_storage_starts_from_what_it_shows() -> None:
    specs = {BAT: replace(SPECS[BAT], ramp_w_per_s=1e3)}
    plan = want(Band.PLAN, setpoint_w=50e3, ttl_s=1000)
    tag = Claim(BAT, Band.INTERLOCK, "tag", "work", hands_off=True)
    far = judge(plan, specs=specs, memory=ArbiterMemory({BAT: PowerMemory(50e3, NOW)})).memory
    resting = SiteFacts({BAT: DeviceFacts(p_w=0.0, soc_pct=50.0)})
    left = judge(plan, tag, specs=specs, memory=far, facts=resting).memory
    first = judge(plan, specs=specs, memory=left, facts=resting, now=NOW + timedelta(seconds=1))
    assert power_of(first) == 0.0
    assert power_of(judge(plan, specs=specs, memory=first.memory, facts=resting, now=NOW + timedelta(seconds=3))) == 2e3
