"""The hot-spot model of IEC 60076-7 against its own closed forms, and the rule that follows it."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tests.edge.shedding.plant import Plant, shedding
from tieline_core.shedding import HotSpotParameters
from tieline_edge.shedding.hot_spot import Thermal, advance, load_for, steady_state

ONAN = HotSpotParameters()


def test_at_rated_load_and_twenty_degrees_the_hot_spot_rests_at_98_degrees() -> None:
    rest = steady_state(ONAN, 1.0, 20.0)
    assert rest.oil_degc == pytest.approx(75.0)
    assert rest.hot_spot_degc == pytest.approx(98.0)


def test_without_load_only_the_core_heats_the_oil() -> None:
    assert steady_state(ONAN, 0.0, 20.0).hot_spot_degc == pytest.approx(20.0 + 55.0 * (1.0 / 6.0) ** 0.8)


def test_a_step_of_load_follows_the_closed_form() -> None:
    cold = steady_state(ONAN, 0.5, 20.0)
    after = advance(ONAN, cold, 1.5, 20.0, 3600.0)
    goal = steady_state(ONAN, 1.5, 20.0)
    oil = cold.oil_degc + (goal.oil_degc - cold.oil_degc) * (1.0 - math.exp(-3600.0 / 10_800.0))
    rise = 23.0 * 0.5**1.6 + 23.0 * (1.5**1.6 - 0.5**1.6) * (1.0 - math.exp(-3600.0 / 480.0))
    assert after.hot_spot_degc == pytest.approx(oil + rise)


def test_small_euler_steps_of_the_differential_equations_come_to_the_same() -> None:
    # The equations as they stand in the standard, by an explicit scheme of our own, for a transformer with overshoot.
    told = HotSpotParameters(k11=0.5, k21=2.0, k22=2.0, oil_time_s=12_600.0, winding_time_s=600.0, gradient_k=26.0)
    state = steady_state(told, 0.3, 25.0)
    oil, rise, swing = state.oil_degc, state.rise_k, state.swing_k
    dt, load = 1.0, 1.3
    for _ in range(5400):
        losses = ((1.0 + 5.0 * load**2) / 6.0) ** 0.8 * 55.0
        oil += dt * (losses - (oil - 25.0)) / (0.5 * 12_600.0)
        rise += dt * (2.0 * 26.0 * load**1.6 - rise) / (2.0 * 600.0)
        swing += dt * (1.0 * 26.0 * load**1.6 - swing) / (12_600.0 / 2.0)
    ours = advance(told, state, load, 25.0, 5400.0)
    assert ours.hot_spot_degc == pytest.approx(oil + rise - swing, abs=0.05)


@settings(max_examples=60)
@given(st.floats(0.0, 3.0), st.floats(-20.0, 40.0), st.lists(st.floats(0.0, 4000.0), min_size=1, max_size=6))
def test_many_short_steps_equal_one_long_one(load: float, ambient: float, parts: list[float]) -> None:
    state = many = Thermal(40.0, 5.0, 1.0)
    for seconds in parts:
        many = advance(ONAN, many, load, ambient, seconds)
    one = advance(ONAN, state, load, ambient, sum(parts))
    assert many.hot_spot_degc == pytest.approx(one.hot_spot_degc, abs=1e-6)


@given(st.floats(60.0, 140.0), st.floats(-20.0, 40.0))
def test_the_load_for_a_temperature_leads_to_it(hot_spot: float, ambient: float) -> None:
    load = load_for(ONAN, hot_spot, ambient)
    assert load == 0.0 or steady_state(ONAN, load, ambient).hot_spot_degc == pytest.approx(hot_spot, abs=1e-3)


def plant(**rest: Any) -> Plant:
    # A loading that the plain rule lets pass: only the temperature is too high.
    levels = {"trip_pct": 190, "severe_pct": 190, "target_pct": 185}
    told = shedding(thermal_overload=levels, hot_spot={"hold_s": 10, "restore_hold_s": 20, **rest.pop("model", {})})
    return Plant(told, **rest)


def test_a_hot_transformer_sheds_down_to_a_load_it_bears_for_ever() -> None:
    site = plant(base_w=75e3)  # 120 kW: at rest beyond 120 degC at an ambient of 30
    site.run(12)
    assert site.at("shed.hot_spot") == [10]
    assert site.loading_pct <= 100 * load_for(ONAN, 115.0, 30.0)


def test_a_cold_transformer_bears_the_same_load_for_a_while() -> None:
    site = plant(base_w=10e3)
    site.run(5)
    site.base_w = 75e3
    site.run(60)
    assert site.open == set()


def test_a_measured_ambient_and_a_measured_oil_replace_what_is_assumed() -> None:
    cool = Plant(shedding(ambient="fm1", hot_spot={"hold_s": 10}, thermal_overload={"trip_pct": 190, "severe_pct": 190}))
    cool.base_w = 75e3
    cool.extra["fm1", "temp_degc"] = -10.0
    cool.run(30)
    assert cool.open == set()
    hot = plant(base_w=45e3, extra={("tr1", "oil_temp_degc"): 110.0})
    hot.run(12)
    assert "shed.hot_spot" in hot.codes


def test_loads_return_when_the_hot_spot_has_cooled() -> None:
    site = plant(base_w=75e3, model={"oil_time_s": 60.0, "winding_time_s": 10.0})
    site.run(12)
    assert site.open
    site.base_w = 20e3
    site.run(600)
    assert site.open == set()


def test_an_unknown_loading_is_blind_and_an_order_that_makes_no_sense_is_refused() -> None:
    site = plant(known=False)
    site.run(3)
    assert "shed.hot_spot.blind" in site.codes
    with pytest.raises(ValidationError, match="restore_degc"):
        HotSpotParameters(restore_degc=130.0)
