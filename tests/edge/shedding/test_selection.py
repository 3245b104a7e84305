"""Which loads go: whole classes from the top number, then the smallest sufficient set."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tieline_core.ids import DeviceId
from tieline_edge.shedding.selection import Burden, choose, smallest_sufficient

A, B, C, D = map(DeviceId, ("a", "b", "c", "d"))


def test_the_loading_scales_with_apparent_power_when_reactive_power_is_known() -> None:
    burden = Burden(100.0, 500e3, 400e3, 300e3)
    assert burden.after(-400e3) == pytest.approx(60.0)
    assert burden.after(0.0) == 100.0
    # 0.95 of 500 kVA is 475 kVA; with 300 kvar left 368.27 kW may flow.
    assert burden.excess_w(95.0) == pytest.approx(400e3 - math.sqrt(475e3**2 - 300e3**2))


def test_without_reactive_power_the_active_power_counts_in_full() -> None:
    burden = Burden(110.0, 500e3, None, None)
    assert burden.after(-50e3) == pytest.approx(100.0)
    assert burden.excess_w(95.0) == pytest.approx(75e3)
    assert burden.after(-1e9) == 0.0
    assert Burden(90.0, 500e3, None, None).excess_w(95.0) == 0.0


def test_a_transformer_that_feeds_back_exports() -> None:
    assert Burden(110.0, 500e3, -500e3, 0.0).exports
    assert not Burden(110.0, 500e3, None, None).exports


def test_the_highest_class_number_goes_first_and_whole_before_the_next_is_touched() -> None:
    burden = Burden(115.0, 100e3, None, None)
    loads = {A: (4, 6e3), B: (3, 9e3), C: (3, 15e3), D: (1, 90e3)}
    # 20 kW and one watt are needed: class 4 gives 6, and of class 3 the 15 kW load is the smallest sufficient set.
    assert choose(burden, loads, 95.0) == (A, C)


def test_when_nothing_suffices_everything_goes() -> None:
    assert set(choose(Burden(200.0, 100e3, None, None), {A: (4, 6e3), B: (1, 9e3)}, 95.0)) == {A, B}


def test_loads_without_power_are_of_no_use() -> None:
    assert choose(Burden(120.0, 100e3, None, None), {A: (4, 0.0), B: (3, 50e3)}, 95.0) == (B,)


@settings(max_examples=150)
@given(st.lists(st.integers(1, 400).map(lambda ten: ten * 10.0), min_size=1, max_size=8), st.integers(1, 12_000).map(float))
def test_no_smaller_set_would_do(powers: list[float], need_w: float) -> None:
    table = {DeviceId(f"l{number}"): power for number, power in enumerate(powers)}
    found = smallest_sufficient(table, need_w)
    sums = [sum(some) for size in range(1, len(powers) + 1) for some in itertools.combinations(powers, size)]
    enough = [total for total in sums if total >= need_w]
    if not enough:
        assert found is None
    else:
        assert found is not None
        assert sum(table[one] for one in found) == min(enough)


@given(st.lists(st.floats(1.0, 2e4), min_size=1, max_size=40), st.floats(0.01, 1.0))
def test_a_found_set_is_always_sufficient_whatever_the_rounding(powers: list[float], share: float) -> None:
    table = {DeviceId(f"l{number}"): power for number, power in enumerate(powers)}
    need = share * sum(powers)
    found = smallest_sufficient(table, need)
    assert found is None or sum(table[one] for one in found) >= need


def test_a_sum_hidden_by_rounding_down_still_finds_all_of_them() -> None:
    assert smallest_sufficient({A: 19.0, B: 19.0}, 38.0) == (A, B)
