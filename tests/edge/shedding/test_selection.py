"""Which loads go: whole classes from the top number, then the smallest sufficient set."""

from __future__ import annotations

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from tieline_core.ids import DeviceId
from tieline_edge.shedding.selection import Candidate, choose, smallest_sufficient

A, B, C, D = map(DeviceId, ("a", "b", "c", "d"))


def of_class(priority: int, relief_w: float, turn: int = 0) -> Candidate:
    return Candidate(priority, relief_w, turn)


def test_the_highest_class_number_goes_first_and_whole_before_the_next_is_touched() -> None:
    loads = {A: of_class(4, 6e3), B: of_class(3, 9e3), C: of_class(3, 15e3), D: of_class(1, 90e3)}
    # 20 kW are needed: class 4 gives 6, and of class 3 the 15 kW load is the smallest sufficient set.
    assert choose(loads, 20e3) == (A, C)


def test_when_nothing_suffices_everything_goes() -> None:
    assert set(choose({A: of_class(4, 6e3), B: of_class(1, 9e3)}, 105e3)) == {A, B}


def test_loads_without_power_are_of_no_use_and_no_need_sheds_nothing() -> None:
    assert choose({A: of_class(4, 0.0), B: of_class(3, 50e3)}, 25e3) == (B,)
    assert choose({A: of_class(4, 5e3)}, 0.0) == ()


def test_inside_a_class_those_go_first_that_have_been_off_least() -> None:
    loads = {A: of_class(3, 10e3, turn=8), B: of_class(3, 12e3), C: of_class(3, 9e3, turn=2)}
    assert choose(loads, 10e3) == (B,)
    assert set(choose(loads, 15e3)) == {B, C}
    assert set(choose(loads, 25e3)) == {A, B, C}


@settings(max_examples=200)
@given(
    st.lists(st.tuples(st.integers(1, 9), st.floats(1.0, 2e4), st.integers(0, 3)), min_size=1, max_size=12),
    st.floats(1.0, 1.5e5),
)
def test_no_class_is_touched_while_the_higher_numbers_suffice_and_no_chosen_load_is_needless(
    rows: list[tuple[int, float, int]], need_w: float
) -> None:
    loads = {DeviceId(f"l{number:02}"): Candidate(*row) for number, row in enumerate(rows)}
    chosen = choose(loads, need_w)
    lowest = min((loads[device].priority for device in chosen), default=9)
    above = [one for one in loads.values() if one.priority > lowest]
    assert sum(one.relief_w for one in above) < need_w
    shed_w = sum(loads[device].relief_w for device in chosen)
    if shed_w < need_w:
        assert set(chosen) == set(loads)
    for device in chosen:
        if loads[device].priority == lowest and shed_w >= need_w:
            assert shed_w - loads[device].relief_w < need_w + 1e-6


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
    assert smallest_sufficient({A: 19.0, B: 19.0, C: 5.0}, 38.0) == (A, B)


@settings(max_examples=60)
@given(st.lists(st.floats(1.0, 2e4), min_size=15, max_size=120), st.floats(0.01, 1.0))
def test_of_many_loads_the_set_is_sufficient_and_holds_no_needless_load(powers: list[float], share: float) -> None:
    table = {DeviceId(f"l{number:03}"): power for number, power in enumerate(powers)}
    need = share * 0.999 * sum(powers)
    found = smallest_sufficient(table, need)
    assert found is not None
    total = sum(table[one] for one in found)
    assert total >= need * (1.0 - 1e-12)
    assert all(total - table[one] < need * (1.0 + 1e-12) for one in found)


def test_five_hundred_equal_customers_are_decided_with_few_sums() -> None:
    table = {DeviceId(f"l{number:03}"): 3000.0 for number in range(500)}
    found = smallest_sufficient(table, 100_500.0)
    assert found is not None
    assert len(found) == 34
