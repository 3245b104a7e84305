"""Last values kept in memory, against the plain rule: the newest reading of a point stays, of equal ones the last."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tieline_cloud.store.last_values import LastValues
from tieline_core.ids import PointId

POINTS = [PointId(f"harbour/m{number}/p_w") for number in range(4)]
_ROW = st.tuples(st.integers(0, len(POINTS) - 1), st.integers(0, 6), st.integers(0, 99))


@given(st.lists(st.lists(_ROW, max_size=12), max_size=5))
def test_whatever_the_order_the_newest_reading_stays(arrivals: list[list[tuple[int, int, int]]]) -> None:
    last = LastValues()
    last.add(POINTS)
    expected: dict[int, tuple[int, float]] = {}
    for rows in arrivals:
        for number, at_us, value in rows:
            if number not in expected or at_us >= expected[number][0]:
                expected[number] = at_us, float(value)
        numbers, at, values = (np.array([row[k] for row in rows]) for k in range(3))
        last.update(numbers.astype(np.int32), at.astype(np.int64), values.astype(np.float64), np.zeros(len(rows), np.uint8))
    columns = last.columns()
    found = zip(columns.numbers.tolist(), columns.at_us.tolist(), columns.values.tolist(), strict=True)
    assert {number: (at_us, value) for number, at_us, value in found} == expected
