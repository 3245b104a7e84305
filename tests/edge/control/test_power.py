"""Gates of power: ramp, dead time, and the moves that skip the ramp."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from tieline_core.ids import DeviceId
from tieline_edge.control.claims import NO_LIMIT, Interval
from tieline_edge.control.facts import DeviceFacts
from tieline_edge.control.memory import PowerMemory
from tieline_edge.control.power import Request, hold, limit_generation
from tieline_edge.drivers.capabilities import Action, DeviceSpec, HoldPower, LimitGeneration, Role

NOW = datetime(2016, 12, 7, 16, tzinfo=UTC)
RATING = Interval(-100.0, 100.0)


def run(
    setpoints: list[float | None],
    *,
    ramp: float | None = None,
    dead_s: float = 0.0,
    claimed: list[Interval] | None = None,
    start_w: float = 0.0,
    known: bool = True,
) -> list[float]:
    spec = DeviceSpec(
        DeviceId("bat1"), Role.STORAGE, frozenset(), p_min_w=-100, p_max_w=100, ramp_w_per_s=ramp, dead_time_s=dead_s
    )
    memory, out = PowerMemory(sign=0) if known else PowerMemory(), []
    for second, setpoint in enumerate(setpoints):
        limit = claimed[second] if claimed else NO_LIMIT
        bounds = RATING.meet(limit)
        assert bounds is not None
        request = Request(
            spec, memory, DeviceFacts(p_w=start_w), bounds, limit, limit != NO_LIMIT, NOW + timedelta(seconds=second), 180.0
        )
        result = hold(request, setpoint)
        memory = result.memory
        out.append(result.action.power_w if isinstance(result.action, HoldPower) else float("nan"))
    return out


def test_a_setpoint_is_reached_with_the_ramp_from_the_measured_power() -> None:
    assert run([50.0] * 4, ramp=10.0, start_w=20.0) == [20.0, 30.0, 40.0, 50.0]


def test_without_a_ramp_the_setpoint_is_reached_at_once() -> None:
    assert run([50.0, -50.0]) == [50.0, -50.0]


def test_a_violated_limit_is_obeyed_at_once_whatever_the_ramp() -> None:
    assert run([50.0, 50.0, 50.0], ramp=1.0, start_w=50.0, claimed=[NO_LIMIT, Interval(hi=5.0), Interval(hi=5.0)]) == [50, 5, 5]


def test_a_move_away_from_a_binding_limit_to_its_inside_skips_the_ramp_and_the_way_back_does_not() -> None:
    limit = Interval(hi=20.0)
    assert run([20.0, 0.0, 20.0], ramp=1.0, start_w=20.0, claimed=[limit] * 3) == [20.0, 0.0, 1.0]


def test_the_rating_of_the_device_is_no_reason_to_skip_the_ramp() -> None:
    assert run([100.0, 0.0], ramp=10.0, start_w=100.0) == [100.0, 90.0]


def test_the_sign_changes_only_after_the_dead_time_at_zero() -> None:
    assert run([10.0, -10.0, -10.0, -10.0, -10.0], dead_s=3.0) == [10.0, 0.0, 0.0, 0.0, -10.0]


def test_nothing_cuts_the_dead_time_not_even_a_limit_that_demands_the_other_sign() -> None:
    claimed = [NO_LIMIT] + [Interval(hi=-20.0)] * 4
    assert run([10.0] * 5, dead_s=2.0, claimed=claimed) == [10.0, 0.0, 0.0, -20.0, -20.0]


def test_the_dead_time_counts_from_the_first_zero_even_when_released_in_between() -> None:
    result = run([10.0, None, None, -10.0], dead_s=2.0)
    assert result[0] == 10.0
    assert result[3] == -10.0


@given(st.lists(st.floats(-100, 100), min_size=2, max_size=30), st.floats(1, 50), st.integers(0, 4))
def test_ramp_and_dead_time_hold_for_any_sequence_of_setpoints(setpoints: list[float], ramp: float, dead: int) -> None:
    out = run(list(setpoints), ramp=ramp, dead_s=float(dead))
    last_sign_at: tuple[int, int] | None = None
    for second, (before, after) in enumerate(zip([0.0, *out], out, strict=False)):
        # A rest at 0 W is always allowed; away from it the ramp counts.
        assert abs(after) < 1e-6 or abs(after - before) <= ramp + 1e-6
        sign = 0 if abs(after) < 1e-6 else (1 if after > 0 else -1)
        if sign:
            if last_sign_at is not None and last_sign_at[0] != sign and dead:
                assert second - last_sign_at[1] > dead
            last_sign_at = (sign, second)


def test_a_direction_that_is_not_known_at_the_start_counts_as_just_left() -> None:
    assert run([10.0] * 5, dead_s=3.0, known=False) == [0.0, 0.0, 0.0, 10.0, 10.0]
    assert run([10.0] * 2, dead_s=3.0, known=False, start_w=30.0) == [10.0, 10.0], "it charges already: no change of sign"


def test_what_nobody_claims_any_more_goes_with_the_ramp_and_is_then_released() -> None:
    out = run([30.0, None, None, None, None], ramp=10.0, start_w=30.0)
    assert out[:3] == [30.0, 20.0, 10.0]
    assert all(math.isnan(value) for value in out[3:])
    assert math.isnan(run([30.0, None], start_w=30.0)[1]), "a device without a ramp is let go at once"


def fleeting(highs: list[float], *, wanted: float = 30.0, ramp: float | None = None) -> list[float]:
    spec = DeviceSpec(DeviceId("bat1"), Role.STORAGE, frozenset(), p_min_w=-100, p_max_w=100, ramp_w_per_s=ramp)
    memory, out = PowerMemory(sign=0), []
    for second, high in enumerate(highs):
        limit = Interval(hi=high)
        at = NOW + timedelta(seconds=second)
        result = hold(Request(spec, memory, DeviceFacts(), limit, limit, True, at, 180.0, limit), wanted)
        memory = result.memory
        assert isinstance(result.action, HoldPower)
        out.append(result.action.power_w)
    return out


def test_the_way_to_a_limit_in_force_is_free_and_the_way_over_it_waits() -> None:
    assert fleeting([20.0] * 4, ramp=10.0) == [0.0, 10.0, 20.0, 20.0]
    out = fleeting([20.0] + [math.inf] * 31)
    assert out[:30] == [20.0] * 30
    assert out[30:] == [30.0, 30.0]


def test_a_limit_that_swings_is_followed_at_its_tightest() -> None:
    out = fleeting([5.0 if second % 2 else 20.0 for second in range(60)])
    assert out == [20.0] + [5.0] * 59


def test_a_limit_that_stays_looser_is_followed_after_a_while() -> None:
    out = fleeting([5.0] + [20.0] * 40)
    assert out[:30] == [5.0] * 30
    assert out[31:] == [20.0] * 10


def test_after_a_start_the_limit_of_a_plant_opens_from_the_last_one() -> None:
    spec = DeviceSpec(DeviceId("pv1"), Role.PV, frozenset(), p_min_w=-50.0, ramp_w_per_s=5.0)
    memory = PowerMemory(power_w=-2.0)
    told: list[Action] = []
    for second in range(3):
        limit = Interval(lo=-40.0)
        request = Request(spec, memory, DeviceFacts(p_w=-1.0), limit, limit, True, NOW + timedelta(seconds=second), 180.0)
        result = limit_generation(request)
        memory = result.memory
        told.append(result.action)
    assert told == [LimitGeneration(power, 180.0) for power in (-2.0, -7.0, -12.0)]
