"""Deviations from the plan are told once, with the reason, and once when they are over."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from tieline_core.ids import DeviceId
from tieline_edge.control.arbiter import Decision
from tieline_edge.control.claims import NO_LIMIT, Band, Claim, Failsafe, Interval
from tieline_edge.control.deviation import Deviation, DeviationWatch, deviations
from tieline_edge.drivers.capabilities import (
    Action,
    Capability,
    DeviceSpec,
    HoldPower,
    LimitGeneration,
    Release,
    Role,
    SwitchContact,
)

NOW = datetime(2016, 12, 7, 16, tzinfo=UTC)
BAT, PV, LOAD = map(DeviceId, ("bat1", "pv1", "load01"))
SPECS = {
    BAT: DeviceSpec(BAT, Role.STORAGE, frozenset({Capability.HOLD_POWER}), p_min_w=-60e3, p_max_w=60e3),
    PV: DeviceSpec(PV, Role.PV, frozenset({Capability.LIMIT_GENERATION}), p_min_w=-50e3),
    LOAD: DeviceSpec(LOAD, Role.LOAD, frozenset({Capability.SWITCH}), 3),
}


def planned(device: DeviceId, setpoint_w: float | None = None, limit: Interval | None = None) -> Claim:
    failsafe = None if limit is None else Failsafe(limit, 1.0)
    return Claim(device, Band.PLAN, "plan", "step 1", setpoint_w=setpoint_w, limit=limit, expires_at=NOW, failsafe=failsafe)


def battery(action: Action | None, *notes: str, winner: Claim | None = None) -> dict[DeviceId, Decision]:
    plan = planned(BAT, -40e3)
    losers = () if winner is None else (plan,)
    return {BAT: Decision(BAT, action, winner or plan, losers, notes=notes)}


def test_a_clamped_setpoint_deviates_with_the_note_as_its_reason() -> None:
    found = deviations(battery(HoldPower(0.0, 180.0), "clamped: empty"), SPECS)
    assert found == {BAT: Deviation(-40e3, 0.0, "clamped: empty")}


def test_what_is_followed_within_a_twentieth_of_the_rating_is_no_deviation() -> None:
    assert deviations(battery(HoldPower(-38e3, 180.0)), SPECS) == {}
    assert deviations({BAT: Decision(BAT, HoldPower(0.0, 1.0))}, SPECS) == {}, "nothing was planned"


def test_a_higher_band_is_named() -> None:
    rule = Claim(BAT, Band.SAFETY, "voltage", "low", setpoint_w=-60e3, expires_at=NOW)
    found = deviations(battery(HoldPower(-60e3, 180.0), winner=rule), SPECS)
    assert found[BAT].because == "safety voltage: hold -60000 W (low)"
    assert deviations(battery(Release()), SPECS)[BAT].given_w == 0.0
    assert deviations(battery(None), SPECS)[BAT] == Deviation(-40e3, None, "it was not followed")


def test_limits_deviate_when_they_were_dropped_and_contactors_when_they_stay_closed() -> None:
    limit, opening = planned(PV, limit=Interval(lo=-10e3)), planned(LOAD, limit=Interval(hi=0.0))
    dropped = {PV: Decision(PV, LimitGeneration(None, 1.0), dropped=(limit,), notes=("dropped",))}
    assert deviations(dropped, SPECS) == {PV: Deviation(0.0, None, "dropped")}
    assert deviations({PV: Decision(PV, LimitGeneration(-10e3, 1.0), limits=(limit,))}, SPECS) == {}
    lifted = planned(PV, limit=NO_LIMIT)
    assert deviations({PV: Decision(PV, LimitGeneration(None, 1.0), dropped=(lifted,))}, SPECS) == {}
    kept = {LOAD: Decision(LOAD, SwitchContact(closed=True), opening, notes=("minimum on time",))}
    assert deviations(kept, SPECS)[LOAD].because == "minimum on time"
    assert deviations({LOAD: Decision(LOAD, SwitchContact(closed=False), opening)}, SPECS) == {}


def test_a_deviation_is_told_when_it_has_lasted_and_once_when_it_is_over() -> None:
    watch, told = DeviationWatch(), []
    empty, fine = battery(HoldPower(0.0, 180.0), "empty"), battery(HoldPower(-40e3, 180.0))
    for second in range(400):
        decisions = empty if 10 <= second < 30 or 100 <= second < 300 else fine
        told += [(second, event.code) for event in watch.look(decisions, SPECS, NOW + timedelta(seconds=second))]
    assert told == [(160, "plan.deviation"), (360, "plan.kept")]


def test_a_flickering_deviation_floods_nobody() -> None:
    watch, told = DeviationWatch(), []
    for second in range(3600):
        decisions = battery(HoldPower(0.0 if second // 20 % 2 else -40e3, 180.0))
        told += watch.look(decisions, SPECS, NOW + timedelta(seconds=second))
    assert told == []
