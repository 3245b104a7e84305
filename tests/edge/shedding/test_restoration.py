"""The way back: steps, cold loads, pauses, and patience after a relapse."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.edge.shedding.plant import LEVELS, QUICK, START, Plant, shedding
from tieline_core.ids import DeviceId
from tieline_edge.shedding.restoration import cold_w
from tieline_edge.shedding.shed_state import ShedLoad


def test_a_load_returns_with_more_the_longer_it_was_off_up_to_the_factor() -> None:
    plant = Plant(shedding(switching={**QUICK, "cold_load_factor": 1.75, "cold_load_s": 1800}))
    load = ShedLoad(DeviceId("l41"), 4, 10e3, START, 5400.0, "thermal-overload/tr1", "thermal-overload", "thermal", 2)
    powers = []
    for minutes in (0, 30, 600):
        plant.now = START + timedelta(minutes=minutes)
        powers.append(cold_w(plant.rules.parameters, load, plant.view()))
    assert powers == pytest.approx([10e3, 10e3 * (1 + 0.75 * 0.6321), 17.5e3], rel=1e-3)


def test_small_loads_return_together_but_no_step_is_larger_than_its_share() -> None:
    loads = {f"l{number:02}": (3, 1e3) for number in range(40)}
    plant = Plant(shedding(switching={**QUICK, "restore_step_share": 0.2}), loads=loads, base_w=95e3)
    plant.run(12)
    shed = len(plant.open)
    assert shed >= 35
    plant.base_w = 10e3
    plant.run(120)
    assert plant.open == set()
    steps: dict[float, int] = {}
    for t, _, closed in plant.switched:
        if closed:
            steps[t] = steps.get(t, 0) + 1
    assert max(steps.values()) <= 0.2 * shed
    assert len(steps) >= 5


def test_inside_a_class_the_longest_open_returns_first() -> None:
    plant = Plant(loads={"early": (3, 10e3), "late": (3, 9e3)}, base_w=85e3)
    plant.run(12)
    first = set(plant.open)
    plant.base_w = 96e3
    plant.run(20)
    assert plant.open == {"early", "late"}
    plant.base_w = 20e3
    plant.run(60)
    back = [name for _, name, closed in plant.switched if closed]
    assert {back[0]} == first


def test_a_restoring_that_goes_wrong_doubles_the_next_hold() -> None:
    plant = Plant(shedding(switching={**QUICK, "relapse_s": 900}), base_w=60e3)
    closings: list[float] = []
    for _ in range(3):
        plant.base_w = 60e3
        plant.run(30)
        assert plant.open
        plant.base_w = 15e3
        calm = plant.t
        while plant.open:
            plant.run(1)
        closings.append(min(t for t, _, closed in plant.switched if closed and t >= calm) - calm)
    assert closings[0] >= LEVELS["restore_hold_s"]
    assert closings[1] >= 2 * LEVELS["restore_hold_s"]
    assert closings[2] >= 4 * LEVELS["restore_hold_s"]


def test_pauses_between_steps_are_random_but_reproducible() -> None:
    def times(seed: int) -> list[float]:
        plant = Plant(shedding(switching={**QUICK, "restore_spread_s": 30}), base_w=90e3, seed=seed)
        plant.run(9)
        plant.base_w = 15e3
        plant.run(250)
        assert plant.open == set()
        return [t for t, _, closed in plant.switched if closed]

    assert times(1) == times(1)
    assert times(1) != times(2)


def test_what_is_open_is_not_closed_onto_an_element_that_has_too_much() -> None:
    """A load that was let go, could not be reached for a while, and shows itself open in the next violation."""
    plant = Plant(base_w=10e3, disobedient={"l31"})
    plant.closed["l31"] = False
    plant.run(2)
    assert not [one for one in plant.rules.step(plant.view()).claims if one.device == "l31"]
    plant.base_w = 120e3
    held = [one for one in plant.rules.step(plant.view()).claims if one.device == "l31"]
    assert [(one.closed, one.band.name) for one in held] == [(False, "SAFETY")]
    assert "l31" not in plant.rules.shed
