"""Peak shaving from the local forecast."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tieline_core.ids import DeviceId, PointId
from tieline_core.messages.telemetry import IssuedForecast
from tieline_edge.control.battery import EFFICIENCY, Battery
from tieline_edge.control.local_schedule import local_schedule, plan_locally
from tieline_edge.control.peak import shave
from tieline_edge.drivers.capabilities import Capability, DeviceSpec, Role
from tieline_edge.settings import LocalScheduleSettings

START = datetime(2016, 12, 7, 16, tzinfo=UTC)
BAT = DeviceId("bat1")


def battery(stored_wh: float = 10e3, room_wh: float = 20e3, power_w: float = 10e3, device: DeviceId = BAT) -> Battery:
    return Battery(device, power_w, power_w, room_wh, stored_wh)


def test_energy_above_a_flat_top_is_worked_out_by_hand() -> None:
    # 9.6 kWh delivered of 10 kWh stored: above 20.4 kW lie exactly 9.6 kWh of this one-hour peak of 30 kW.
    power = shave(np.array([10e3, 30e3, 10e3]), battery(room_wh=10e3), 3600.0)
    assert power == pytest.approx([0.0, -10e3 * EFFICIENCY, 0.0], rel=1e-6, abs=1e-3)


def test_power_limits_the_top_when_energy_does_not() -> None:
    power = shave(np.array([10e3, 30e3, 10e3]), battery(power_w=4e3), 3600.0)
    assert power[1] == pytest.approx(-4e3)


def test_an_empty_battery_charges_in_the_valley_before_the_peak_and_no_more_than_needed() -> None:
    load = np.array([10e3, 10e3, 30e3, 10e3])
    power = shave(load, battery(stored_wh=0.0, room_wh=40e3, power_w=30e3), 3600.0)
    top = float((load + power).max())
    assert top < 20e3
    assert power[3] == pytest.approx(0.0, abs=1e-6)
    stored = power[:2].sum() * EFFICIENCY
    assert stored == pytest.approx(-power[2] / EFFICIENCY, rel=1e-3)


def test_nothing_to_do_gives_zeros() -> None:
    assert shave(np.array([]), battery(), 900.0).size == 0
    assert not shave(np.array([1e3, 2e3]), battery(room_wh=0.0, stored_wh=0.0), 900.0).any()
    assert not np.abs(shave(np.full(4, 5e3), battery(stored_wh=0.0), 900.0)).max() > 1e-3


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.floats(0, 100e3), min_size=1, max_size=40),
    st.floats(0, 1),
    st.floats(1e3, 60e3),
    st.floats(1e3, 50e3),
)
def test_energy_and_power_are_kept_and_the_peak_never_rises(
    load: list[float], share: float, room_wh: float, power_w: float
) -> None:
    unit = battery(share * room_wh, room_wh, power_w)
    profile = np.array(load)
    power = shave(profile, unit, 900.0)
    assert np.all(np.abs(power) <= power_w + 1e-6)
    assert (profile + power).max() <= profile.max() + 1e-3
    stored = unit.stored_wh
    for one in power:
        stored += one * 0.25 * (EFFICIENCY if one > 0 else 1 / EFFICIENCY)
        assert -1e-2 <= stored <= room_wh + 1e-2


def forecast(p50: list[float]) -> IssuedForecast:
    row = tuple(p50)
    return IssuedForecast(
        point=PointId("harbour/site/load_w"),
        model_id="m1",
        issued_at=START,
        start=START,
        step_s=900,
        p10=row,
        p50=row,
        p90=row,
        lo90=row,
        hi90=row,
    )


def test_two_batteries_flatten_together_from_the_step_that_holds_now() -> None:
    second = DeviceId("bat2")
    schedule = local_schedule(
        forecast([90e3, 10e3, 40e3, 40e3, 10e3]), [battery(), battery(device=second)], START + timedelta(minutes=20)
    )
    assert schedule.start == START + timedelta(minutes=15)
    assert schedule.top_w == pytest.approx(20e3, abs=1e3)
    assert set(schedule.values_w) == {BAT, second}
    assert schedule.covers(START + timedelta(minutes=20))
    assert not schedule.covers(schedule.end)
    assert schedule.end == START + timedelta(minutes=75)


def test_a_forecast_that_has_run_out_gives_a_schedule_that_covers_nothing() -> None:
    schedule = local_schedule(forecast([1e3]), [battery()], START + timedelta(hours=2))
    assert schedule.top_w == 0.0
    assert not schedule.covers(START + timedelta(hours=2))
    assert not local_schedule(forecast([1e3]), [], START).covers(START)


def test_a_battery_is_read_from_its_specification() -> None:
    spec = DeviceSpec(
        BAT, Role.STORAGE, frozenset({Capability.HOLD_POWER}), None, -60e3, 50e3, 100e3, soc_min_pct=10, soc_max_pct=90
    )
    half = Battery.of(spec, 50.0)
    assert half is not None
    assert (half.charge_w, half.discharge_w) == (50e3, 60e3)
    assert half.room_wh == pytest.approx(80e3)
    assert half.stored_wh == pytest.approx(40e3)
    low = Battery.of(spec, 5.0)
    assert low is not None
    assert low.stored_wh == 0.0
    assert Battery.of(DeviceSpec(BAT, Role.STORAGE, frozenset({Capability.HOLD_POWER})), 50.0) is None
    assert Battery.of(DeviceSpec(BAT, Role.METER, frozenset(), energy_wh=1.0), 50.0) is None


PRICED = LocalScheduleSettings(objective="price", end_eur_per_mwh=0.0, eta_charge=0.9, eta_discharge=0.9)


def known(*values: float) -> Callable[[datetime, int, int], np.ndarray]:
    return lambda _start, _step_s, steps: np.array(values[:steps], dtype=float)


def test_known_prices_move_every_battery_and_their_end_ends_the_schedule() -> None:
    two = [battery(stored_wh=0.0, room_wh=10e3), battery(stored_wh=0.0, room_wh=10e3, device=DeviceId("bat2"))]
    made = plan_locally(forecast([1e3] * 8), two, START, PRICED, known(10.0, 10.0, 10.0, 10.0, 500.0, 500.0))
    assert made is not None
    assert set(made.values_w) == {BAT, DeviceId("bat2")}
    assert len(made.values_w[BAT]) == 6
    assert min(made.values_w[BAT][:4]) >= 0.0 > min(made.values_w[BAT][4:])
    assert "cheapest by known prices, -" in made.aim
    assert made.end == START + timedelta(minutes=90)


def test_without_a_price_for_now_the_top_is_flattened() -> None:
    made = plan_locally(forecast([1e3, 9e3]), [battery()], START, PRICED, known())
    assert made is not None
    assert made.aim.startswith("flat top of")
    assert plan_locally(forecast([1e3]), [], START, PRICED, known(1.0)) is None


def test_energy_left_at_the_end_is_worth_the_mean_price_unless_it_is_said() -> None:
    by_mean = PRICED.model_copy(update={"end_eur_per_mwh": None})
    full = battery(stored_wh=10e3, room_wh=10e3)
    made = plan_locally(forecast([1e3] * 4), [full], START, by_mean, known(100.0, 100.0, 100.0, 100.0))
    assert made is not None
    assert made.values_w[BAT] == (0.0,) * 4, "selling everything at the mean price gains nothing"
    sold = plan_locally(forecast([1e3] * 4), [full], START, PRICED, known(100.0, 100.0, 100.0, 100.0))
    assert sold is not None
    assert min(sold.values_w[BAT]) < 0.0


def test_the_reserve_is_no_energy_to_plan_with() -> None:
    able = frozenset({Capability.HOLD_POWER})
    spec = DeviceSpec(BAT, Role.STORAGE, able, None, -1e3, 1e3, 100e3, 10.0, 90.0, soc_reserve_pct=20.0)
    made = Battery.of(spec, 40.0)
    assert made is not None
    assert (made.room_wh, made.stored_wh) == (60e3, 10e3)
    assert Battery.of(replace(spec, soc_reserve_pct=80.0), 40.0) is None
