"""Energy between readings of a register."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tieline_cloud.quality.counters import interval_energy_wh
from tieline_cloud.quality.rules import CounterRule
from tieline_cloud.store.ports import Finding, Series
from tieline_core.ids import PointId
from tieline_core.quantities import Quality
from tieline_core.timegrid import from_us

POINT = PointId("harbour/m01/e_import_wh")
RULE = CounterRule(modulus_wh=1e8, reset_below_wh=1000, largest_w=100_000, tolerance_wh=1)
NOW = datetime(2026, 11, 20, tzinfo=UTC)
STEP_US = 900_000_000
START_US = 1_767_225_600_000_000


def register(values: list[float], quality: dict[int, Quality] | None = None) -> Series:
    at_us = START_US + STEP_US * np.arange(len(values), dtype=np.int64)
    column = np.array([(quality or {}).get(row, Quality.GOOD) for row in range(len(values))], np.uint8)
    return Series(POINT, at_us, np.array(values, np.float64), column)


def energy(series: Series, *exchanged: int) -> list[float | None]:
    found = [Finding(POINT, from_us(int(series.at_us[row])), NOW, "exchange", None, None) for row in exchanged]
    return [None if np.isnan(wh) else float(wh) for wh in interval_energy_wh(series, found, RULE)]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([100, 300, 300, 1000], [None, 200, 0, 700]),
        ([99_999_900, 99_999_990, 80, 170], [None, 90, 90, 90]),
        ([5_000_000, 5_000_090, 40, 130], [None, 90, 40, 90]),
        ([5_000_000, 5_000_090, 731_000, 731_090], [None, 90, None, 90]),
        ([5_000_000, 5_000_090, 9_000_000, 9_000_090], [None, 90, None, 90]),
        ([5_000_000, 4_999_999, 5_000_100], [None, 0, 101]),
        ([7], [None]),
        ([], []),
    ],
)
def test_rollover_is_exact_reset_counts_from_zero_and_an_exchange_gives_none(
    values: list[float], expected: list[float | None]
) -> None:
    assert energy(register(values)) == expected


def test_an_exchange_that_was_found_counts_even_where_the_numbers_would_pass() -> None:
    series = register([1000, 1100, 1900, 2000], {2: Quality.UNCERTAIN})
    assert energy(series, 2) == [None, 100, None, 100]


def test_a_reading_that_is_not_good_is_stepped_over() -> None:
    assert energy(register([1000, 1100, 9_999, 1300], {2: Quality.UNCERTAIN})) == [None, 100, None, 200]
    assert energy(register([1000, 1100, np.nan, 1300], {2: Quality.BAD})) == [None, 100, None, 200]


def test_a_late_reading_between_two_that_were_judged_moves_the_rollover_to_its_place() -> None:
    late = Finding(POINT, from_us(START_US + 2 * STEP_US), NOW, "rollover", 170.0, 1e8)
    wh = interval_energy_wh(register([99_999_990, 80, 170]), [late], RULE)
    assert wh[1:].tolist() == [90.0, 90.0]


@given(st.lists(st.one_of(st.integers(0, 10**8 - 1), st.integers(0, 3000)), min_size=2, max_size=50))
def test_energy_is_never_negative_and_never_more_than_can_flow(values: list[int]) -> None:
    wh = interval_energy_wh(register([float(value) for value in values]), (), RULE)
    known = wh[~np.isnan(wh)]
    assert (known >= 0).all()
    assert (known <= RULE.largest_w / 4 + RULE.tolerance_wh).all()


@given(st.integers(0, 10**8 - 1), st.lists(st.integers(0, 25_000), min_size=1, max_size=60))
def test_a_register_that_rolls_over_keeps_every_watt_hour(start: int, flows: list[int]) -> None:
    totals = start + np.concatenate(([0], np.cumsum(flows)))
    wh = interval_energy_wh(register((totals % 10**8).astype(float).tolist()), (), RULE)
    assert wh[1:].tolist() == [float(flow) for flow in flows]
