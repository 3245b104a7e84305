"""What stands in for missing values."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from tieline_cloud.quality.estimation import (
    Window,
    estimate_means,
    estimate_registers,
    like_instants_us,
    missing_runs,
)
from tieline_cloud.quality.rules import CounterRule, EstimateRule
from tieline_cloud.store.ports import Estimate, Series
from tieline_core.ids import PointId
from tieline_core.timegrid import from_us, to_us

BERLIN = ZoneInfo("Europe/Berlin")
RULE = EstimateRule(step_s=900, linear_up_to_s=7200)
STEP_US = 900_000_000
POINT = PointId("harbour/site/load_w")
REGISTER = PointId("harbour/m01/e_import_wh")
COUNTER = CounterRule(largest_w=1e6, modulus_wh=1e8)
DAY = datetime(2026, 3, 10, tzinfo=UTC)


def series(point: PointId, of: Callable[[int], float], start: datetime, end: datetime, without: tuple[int, int]) -> Series:
    """A value an interval, none in [without)."""
    at_us = np.arange(to_us(start), to_us(end), STEP_US, dtype=np.int64)
    at_us = at_us[(at_us < without[0]) | (at_us >= without[1])]
    return Series(point, at_us, np.array([of(us) for us in at_us.tolist()]), np.zeros(len(at_us), np.uint8))


def gap(start: datetime, intervals: int) -> tuple[int, int]:
    return to_us(start), to_us(start) + intervals * STEP_US


def local_profile(us: int) -> float:
    """A number for each local time of the week."""
    local = from_us(us).astimezone(BERLIN)
    return 1000.0 * local.weekday() + 10.0 * local.hour + local.minute / 15


def methods(estimates: list[Estimate]) -> set[str]:
    return {estimate.method for estimate in estimates}


WINDOW = Window(to_us(DAY), to_us(DAY + timedelta(days=2)))


def test_a_short_gap_is_a_straight_line() -> None:
    means = series(
        POINT, lambda us: (us - to_us(DAY)) / STEP_US, DAY, DAY + timedelta(days=2), gap(DAY + timedelta(hours=3), 8)
    )
    estimates = estimate_means(means, WINDOW, RULE, BERLIN)
    assert methods(estimates) == {"linear"}
    assert [estimate.at for estimate in estimates] == [DAY + timedelta(minutes=180 + 15 * n) for n in range(8)]
    assert [estimate.value for estimate in estimates] == [12.0 + n for n in range(8)]


@pytest.mark.parametrize("day", [datetime(2026, 4, 1, tzinfo=UTC), datetime(2026, 10, 27, tzinfo=UTC)])
def test_a_long_gap_is_the_mean_of_like_days_on_the_local_clock_across_a_change_of_time(day: datetime) -> None:
    start, end = day - timedelta(weeks=5), day + timedelta(days=2)
    missing = gap(day + timedelta(hours=3), 60)
    means = series(POINT, local_profile, start, end, missing)
    estimates = estimate_means(means, Window(to_us(day), to_us(end)), RULE, BERLIN)
    assert methods(estimates) == {"like_day"}
    assert len(estimates) == 60
    assert [estimate.value for estimate in estimates] == [pytest.approx(local_profile(to_us(row.at))) for row in estimates]


def test_like_days_are_the_newest_three_that_have_the_value() -> None:
    levels = {1: 100.0, 2: 200.0, 3: None, 4: 400.0, 5: 900.0}
    at, values = [], []
    for week, level in levels.items():
        if level is not None:
            at.append(to_us(DAY) - week * 7 * 86_400_000_000)
            values.append(level)
    means = Series(POINT, np.array([*sorted(at), to_us(DAY) - STEP_US]), np.array([*values[::-1], 1.0]), np.zeros(5, np.uint8))
    window = Window(to_us(DAY) - STEP_US, to_us(DAY) + STEP_US)
    assert [row.value for row in estimate_means(means, window, RULE, ZoneInfo("UTC"))] == [pytest.approx(233.3)]


def test_where_no_day_is_like_it_nothing_is_made_up() -> None:
    means = series(POINT, local_profile, DAY, DAY + timedelta(days=2), gap(DAY + timedelta(hours=3), 60))
    assert estimate_means(means, WINDOW, RULE, BERLIN) == []


def test_before_the_first_value_there_is_nothing_to_fill() -> None:
    assert list(missing_runs(np.array([False, False, True, False, True, False]))) == [(3, 4), (5, 6)]
    assert list(missing_runs(np.array([False, False]))) == []


def test_an_hour_a_day_did_not_have_is_no_like_hour() -> None:
    in_gap = to_us(datetime(2026, 4, 5, 0, 30, tzinfo=UTC))  # 02:30 in Berlin; on 29 March there was none
    assert to_us(datetime(2026, 3, 22, 1, 30, tzinfo=UTC)) in like_instants_us(in_gap, BERLIN, 2)
    assert len(like_instants_us(in_gap, BERLIN, 2)) == 1


def counted(us: int) -> float:
    """A register of a load that is 4 kW by day and 1 kW by night (UTC)."""
    hours = (us - to_us(DAY - timedelta(weeks=6))) / 3.6e9
    days, hour = divmod(hours, 24)
    return round(days * 60_000 + min(hour, 12) * 1000 + max(0.0, hour - 12) * 4000)


def test_a_short_gap_of_a_register_is_a_straight_line_between_its_readings() -> None:
    readings = series(REGISTER, counted, DAY, DAY + timedelta(days=1), gap(DAY + timedelta(hours=3), 4))
    estimates = estimate_registers(readings, WINDOW, RULE, COUNTER, BERLIN)
    assert methods(estimates) == {"linear"}
    assert [row.value for row in estimates] == [counted(to_us(row.at)) for row in estimates]


def test_a_long_gap_of_a_register_keeps_energy_and_shape() -> None:
    readings = series(REGISTER, counted, DAY - timedelta(weeks=4), DAY + timedelta(days=2), gap(DAY + timedelta(hours=6), 48))
    estimates = estimate_registers(readings, WINDOW, RULE, COUNTER, ZoneInfo("UTC"))
    assert methods(estimates) == {"like_day_shape"}
    assert len(estimates) == 48
    assert [row.value for row in estimates] == [pytest.approx(counted(to_us(row.at)), abs=1) for row in estimates]


def test_a_register_without_like_days_gets_a_line_and_through_its_modulus_it_rolls() -> None:
    top = counted(to_us(DAY + timedelta(hours=10)))

    def rolled(us: int) -> float:
        return (counted(us) - top) % 1e8

    readings = series(REGISTER, rolled, DAY, DAY + timedelta(days=1), gap(DAY + timedelta(hours=4), 40))
    estimates = estimate_registers(readings, WINDOW, RULE, COUNTER, BERLIN)
    assert methods(estimates) == {"linear"}
    values = [row.value for row in estimates]
    assert all(0 <= value < 1e8 for value in values)
    assert sum(after < before for before, after in pairwise(values)) == 1


@pytest.mark.parametrize("after", [2_000_000.0, 40.0])
def test_nothing_is_drawn_over_an_exchange_or_a_reset_nor_after_the_newest_reading(after: float) -> None:
    border = to_us(DAY + timedelta(hours=5))
    rule = CounterRule(largest_w=50_000, reset_below_wh=1000)
    readings = series(
        REGISTER,
        lambda us: after + (us - border) / STEP_US if us >= border else 5e6 + (us - border) / STEP_US,
        DAY,
        DAY + timedelta(hours=12),
        gap(DAY + timedelta(hours=4), 4),
    )
    assert estimate_registers(readings, WINDOW, RULE, rule, BERLIN) == []
