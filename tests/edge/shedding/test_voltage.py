"""Under- and over-voltage: the tap changer's time, blocks, storages and plants."""

from __future__ import annotations

from collections import deque
from itertools import pairwise
from typing import Any

import pytest
from pydantic import ValidationError

from tests.edge.shedding.plant import LOADS, QUICK, RATED_VA, Battery, Plant, shedding
from tieline_core.errors import BadInputError
from tieline_core.shedding import VoltageParameters

TOLD: dict[str, Any] = {"hold_s": 60, "tap_changer_s": 30, "restore_hold_s": 60, "high_hold_s": 60}


def plant(**rest: Any) -> Plant:
    relieve = bool(rest.get("batteries"))
    made = Plant(shedding(voltage_at=["fm1"], voltage=TOLD, storage={"relieve": relieve, "hold_s": 5}), base_w=10e3, **rest)
    made.extra["fm1", "v_v"] = 230.0
    return made


def at(site: Plant, per_unit: float, seconds: float) -> None:
    site.extra["fm1", "v_v"] = per_unit * 230.0
    site.run(seconds)


def test_a_low_voltage_sheds_one_block_after_its_hold_and_the_next_when_it_can_show() -> None:
    site = plant()
    at(site, 0.91, 60)
    assert site.open == set()
    at(site, 0.91, 1)
    assert site.open == {"l41", "l42"}  # a quarter of 40 kW
    at(site, 0.91, 1)
    assert site.open == {"l41", "l42"}
    at(site, 0.91, 1)
    assert site.open == {"l41", "l42", "l31"}


def test_a_very_low_voltage_does_not_wait_for_the_tap_changer() -> None:
    site = plant()
    at(site, 0.87, 6)
    assert site.open == {"l41", "l42"}


def test_loads_return_above_the_restore_level_only_and_in_steps() -> None:
    site = plant()
    at(site, 0.91, 61)
    at(site, 0.94, 200)
    assert site.open == {"l41", "l42"}
    at(site, 0.96, 59)
    assert site.open == {"l41", "l42"}
    at(site, 0.96, 30)
    assert site.open == set()


def test_batteries_discharge_before_anybody_is_shed_and_let_go_step_by_step() -> None:
    site = plant(batteries={"bat1": Battery(20e3)})
    at(site, 0.91, 5)
    assert site.batteries["bat1"].p_w == -20e3
    assert site.open == set()
    at(site, 0.96, 7)
    assert site.batteries["bat1"].p_w == -15e3
    at(site, 0.96, 30)
    assert site.batteries["bat1"].p_w == 0.0


def test_a_high_voltage_charges_batteries_then_limits_plants_and_lets_go_again() -> None:
    site = plant(batteries={"bat1": Battery(20e3)}, pv_rated_w=10e3)
    at(site, 1.11, 61)
    assert (site.batteries["bat1"].p_w, site.pv_w) == (20e3, 10e3)
    at(site, 1.11, 3)
    assert site.pv_w == 7.5e3
    at(site, 1.11, 20)
    assert site.pv_w == 0.0
    at(site, 1.09, 60)
    assert site.pv_w == 0.0
    at(site, 1.07, 60)
    assert (site.batteries["bat1"].p_w, site.pv_w) == (0.0, 10e3)
    assert site.open == set()


@pytest.mark.parametrize("volts", [0.0, 1e308, 40.0, 900.0])
def test_an_absurd_voltage_never_acts(volts: float) -> None:
    site = plant()
    site.extra["fm1", "v_v"] = volts
    site.run(90)
    assert site.open == set()
    assert "shed.voltage.blind" in site.codes


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"hold_s": 40}, "hold_s 40 s must be longer than tap_changer_s 45 s"),
        ({"high_hold_s": 10}, "high_hold_s 10 s must be longer"),
        ({"severe_pu": 0.93}, "severe_pu < low_pu"),
        ({"high_restore_pu": 1.2}, "below high_pu"),
    ],
)
def test_a_hold_shorter_than_the_tap_changer_refuses_to_load(wrong: dict[str, float], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        VoltageParameters.model_validate(wrong)


def test_a_hold_of_fewer_than_three_samples_refuses_to_load() -> None:
    with pytest.raises(BadInputError, match=r"voltage\.severe_hold_s"):
        Plant(shedding(voltage_at=["fm1"], voltage=TOLD), poll_s=2.0)


def test_every_load_of_the_test_site_but_the_vital_one_is_enrolled() -> None:
    assert sum(power for priority, power in LOADS.values() if priority) == 40e3


@pytest.mark.parametrize(("stiffness", "delay"), [(0.15, 0), (0.15, 3), (0.3, 3)])
def test_a_weak_feeder_whose_voltage_follows_its_load_is_not_hunted(stiffness: float, delay: int) -> None:
    switching = {**QUICK, "effect_s": 12, "min_off_s": 60, "restore_step_s": 20, "relapse_s": 900}
    told = shedding(voltage_at=["fm1"], voltage=TOLD, switching=switching, storage={"relieve": True, "hold_s": 60})
    site = Plant(told, base_w=30e3, batteries={"bat1": Battery(15e3)})
    shown: deque[float] = deque(maxlen=delay + 1)
    powers: list[float] = []
    for _ in range(500):
        shown.append(1.0 - stiffness * site.flow_w / RATED_VA)
        site.extra["fm1", "v_v"] = 230.0 * shown[0]
        site.run(3, 3.0)
        powers.append(site.batteries["bat1"].p_w)
    assert all(len(site.switchings(name, False)) <= 2 for name in LOADS)
    assert sum(1 for earlier, later in pairwise(powers) if earlier != later) <= 10
