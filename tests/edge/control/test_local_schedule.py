"""Peak shaving from the local forecast."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tieline_core.ids import DeviceId, PointId
from tieline_core.messages.telemetry import IssuedForecast
from tieline_edge.control.local_schedule import EFFICIENCY, Battery, local_schedule, shave
from tieline_edge.drivers.capabilities import Capability, DeviceSpec, Role

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


def test_two_batteries_flatten_one_after_the_other_from_the_step_that_holds_now() -> None:
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
