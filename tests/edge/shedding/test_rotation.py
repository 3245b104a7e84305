"""Whose turn it is: burdens add up, fade over weeks, survive restarts, and stay small."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest

from tests.edge.shedding.plant import Plant, shedding
from tieline_core.ids import DeviceId
from tieline_edge.shedding.rotation import HALF_LIFE_S, burdened, faded, rank
from tieline_edge.shedding.shed_state import Turn

NOW = datetime(2016, 12, 7, 18, tzinfo=UTC)
A, B = DeviceId("a"), DeviceId("b")


def test_a_burden_fades_with_its_half_life_and_is_dropped_when_it_is_gone() -> None:
    turns = burdened({}, A, 2.0, NOW)
    later = NOW + timedelta(seconds=HALF_LIFE_S)
    assert faded(turns[A], later) == pytest.approx(1.0)
    assert rank(turns[A], NOW) == 8
    assert rank(None, NOW) == 0
    assert set(burdened(turns, B, 1.0, NOW + timedelta(days=365))) == {B}
    assert burdened(turns, A, 1.0, later)[A] == Turn(2.0, later)


def test_equal_loads_of_a_class_take_turns_over_weeks_and_restarts() -> None:
    loads = {f"l{number}": (3, 5e3) for number in range(6)}
    plant = Plant(shedding(), loads=loads, base_w=20e3)
    times: Counter[str] = Counter()
    text = ""
    for _ in range(12):
        plant.base_w = 75e3  # 105 %: two of the six
        plant.run(12)
        times.update(plant.open)
        plant.base_w = 20e3
        plant.run(60)
        assert plant.open == set()
        plant.now += timedelta(days=2)
        text = plant.rules.dump()
        plant.rules = plant.load(plant.settings)
        plant.rules.load(text)
    assert sum(times.values()) >= 24
    assert max(times.values()) - min(times.values()) <= 1
    assert len(text) < 3000


def test_fairness_never_sheds_a_more_important_class() -> None:
    plant = Plant(shedding(), loads={"worn": (4, 10e3), "fresh": (3, 10e3)}, base_w=20e3)
    for _ in range(3):
        plant.base_w = 84e3
        plant.run(12)
        assert plant.open == {"worn"}
        plant.base_w = 20e3
        plant.run(60)
