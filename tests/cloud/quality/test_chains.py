"""Rows put in order by point, instant and arrival."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tieline_cloud.quality.chains import point_order

rows = st.lists(st.tuples(st.integers(0, 5), st.one_of(st.integers(0, 9), st.integers(-(2**61), 2**61))), max_size=60)


@given(rows)
def test_order_is_that_of_a_stable_sort(pairs: list[tuple[int, int]]) -> None:
    numbers = np.array([number for number, _ in pairs], np.int32)
    at_us = np.array([at for _, at in pairs], np.int64)
    order = point_order(numbers, at_us)
    expected = sorted(range(len(pairs)), key=lambda row: (pairs[row], row))
    assert (list(range(len(pairs))) if order is None else order.tolist()) == expected


@pytest.mark.parametrize("pairs", [[], [(3, 1)], [(0, 5), (0, 5), (0, 6), (1, 1)]])
def test_what_stands_in_order_is_left_alone(pairs: list[tuple[int, int]]) -> None:
    numbers = np.array([number for number, _ in pairs], np.int32)
    assert point_order(numbers, np.array([at for _, at in pairs], np.int64)) is None
