"""Storages before customers: how far they go, when they let go, and what happens when they are empty."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.edge.shedding.plant import Battery, Plant, shedding

HELPS = {"relieve": True, "hold_s": 10}


def plant(batteries: dict[str, Battery], base_w: float, **rest: float) -> Plant:
    return Plant(shedding(storage={**HELPS, **rest}), batteries=batteries, base_w=base_w)


def test_a_battery_that_suffices_keeps_everybody_on_and_gives_no_more_than_needed() -> None:
    site = plant({"bat1": Battery(20e3)}, 60e3)  # 105 kW; 10 kW to the target
    site.run(60)
    assert site.open == set()
    assert site.batteries["bat1"].p_w == pytest.approx(-10e3, abs=50)


def test_batteries_share_by_what_each_can_give_and_a_charging_one_stops_first() -> None:
    site = plant({"big": Battery(20e3, wanted_w=5e3), "small": Battery(10e3)}, 60e3)
    site.batteries["big"].p_w = 5e3
    site.run(30)
    assert site.open == set()
    assert site.batteries["big"].p_w == pytest.approx(2 * site.batteries["small"].p_w, rel=0.01)


def test_only_what_is_left_is_shed() -> None:
    site = plant({"bat1": Battery(5e3)}, 62e3)  # 107 kW: 12 kW to the target, 5 kW from the battery
    site.run(10)
    assert site.open == set()
    site.run(2)
    assert site.open == {"l41", "l42"}
    assert site.loading_pct < 95.01


def test_an_empty_battery_leaves_the_rest_to_customers() -> None:
    site = plant({"bat1": Battery(20e3, energy_wh=200.0, soc_pct=30.0)}, 60e3)
    site.run(15)
    assert site.open == set()
    site.run(40)
    assert site.batteries["bat1"].p_w == 0.0
    assert site.loading_pct < 95.01
    assert site.open


def test_help_is_taken_back_after_a_calm_time_once_customers_are_on() -> None:
    site = plant({"bat1": Battery(20e3)}, 60e3)
    site.run(20)
    site.base_w = 20e3
    site.run(8)
    assert site.batteries["bat1"].p_w < 0
    site.run(30)
    assert site.batteries["bat1"].p_w == 0.0
    assert site.limits == {}


def test_help_that_a_battery_has_stopped_to_give_is_not_begun_with_anew_when_nobody_needs_it() -> None:
    """After a restart, or a time out of reach, it was sent from rest to full discharge below a transformer that was well."""
    site = plant({"bat1": Battery(20e3)}, 60e3)
    site.run(20)
    site.base_w = 45e3  # 90 kW without help: above the level at which help is taken back, below the one at which it begins
    site.run(5)
    assert site.batteries["bat1"].p_w == pytest.approx(-10e3, abs=50)
    site.batteries["bat1"].obeys = False
    site.run(5)
    site.batteries["bat1"].obeys = True
    site.run(20)
    assert site.batteries["bat1"].p_w == 0.0
    assert site.open == set()
    site.base_w = 60e3
    site.run(20)
    assert site.batteries["bat1"].p_w == pytest.approx(-10e3, abs=50), "it helps again as soon as it is needed"


def test_a_plan_that_discharges_already_is_not_counted_twice() -> None:
    site = plant({"bat1": Battery(20e3, wanted_w=-8e3)}, 68e3)
    site.batteries["bat1"].p_w = -8e3  # 105 kW with it
    site.run(60)
    assert site.open == set()
    assert site.batteries["bat1"].p_w == pytest.approx(-18e3, abs=50)


def test_a_plant_that_nobody_measures_is_limited_from_its_rating_down() -> None:
    told = shedding(exchange={"export_w": 20e3}, storage=HELPS)
    site = Plant(told, pv_rated_w=60e3, base_w=-25e3)
    for _ in range(60):
        view = site.view_of([reading for reading in site.readings() if reading.point.device != "pv1"])
        site.obey(site.rules.step(view))
        site.now += timedelta(seconds=1)
    assert -site.flow_w < 20e3


def test_a_battery_under_a_tag_or_without_a_known_charge_is_not_counted_on() -> None:
    site = plant({"bat1": Battery(20e3)}, 60e3)
    site.tagged = {"bat1"}
    site.run(12)
    assert site.open
