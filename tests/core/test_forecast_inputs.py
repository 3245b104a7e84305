"""Resampling, the gap rule, the local-day grid and the inputs of a load model."""

from __future__ import annotations

import itertools
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tieline_core.errors import BadInputError
from tieline_core.forecast_inputs import (
    DAY_STEPS,
    HISTORY_STEPS,
    HORIZON_STEPS,
    LAGS,
    LEVEL_STEPS,
    RECENT_ALIKE,
    SATURDAY,
    STEP,
    STEP_S,
    SUNDAY,
    WORKDAY,
    LoadHistory,
    NotEnoughHistoryError,
    QuarterHours,
    calendar_inputs,
    fill_gaps,
    issue_instant,
    local_grid,
    model_inputs,
    resample,
)
from tieline_core.timegrid import local_day, to_us

BERLIN = ZoneInfo("Europe/Berlin")
START = datetime(2016, 3, 1, tzinfo=UTC)
START_US = to_us(START)


def _flat(steps: int, start: datetime = START) -> LoadHistory:
    return LoadHistory(start, np.arange(steps, dtype=np.float64), np.zeros(steps, dtype=bool))


@settings(deadline=None)
@given(
    gaps_s=st.lists(st.integers(1, 800), min_size=2, max_size=60),
    seed=st.integers(0, 1000),
)
def test_means_times_time_conserve_the_energy_of_densely_sampled_readings(gaps_s: list[int], seed: int) -> None:
    times = START_US + np.concatenate([[0], np.cumsum(gaps_s)]).astype(np.int64) * 1_000_000
    values = np.random.default_rng(seed).uniform(-1e5, 1e6, len(times))
    ends = np.append(times[1:], times[-1] + STEP_S * 1_000_000)
    steps = int(-(-(ends[-1] - START_US) // (STEP_S * 1_000_000)))
    means = resample(times, values, START, steps)
    held_s = (ends - times) / 1e6
    edges = START_US + np.arange(steps + 1) * STEP_S * 1_000_000
    covered = np.array(
        [np.clip(np.minimum(ends, b) - np.maximum(times, a), 0, None).sum() / 1e6 for a, b in itertools.pairwise(edges)]
    )
    missing = np.array(
        [
            (np.clip(np.minimum(ends, b) - np.maximum(times, a), 0, None) / 1e6 * values).sum() if not here else 0.0
            for a, b, here in zip(edges, edges[1:], means.present, strict=False)
        ]
    )
    energy = (means.values * covered)[means.present].sum() + missing.sum()
    assert energy == pytest.approx((held_s * values).sum(), rel=1e-9, abs=1e-3)
    assert (means.present == (covered >= STEP_S / 2 - 1e-9)).all()


@given(values=st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=50))
def test_values_already_on_the_grid_are_left_as_they_are(values: list[float]) -> None:
    times = START_US + np.arange(len(values), dtype=np.int64) * STEP_S * 1_000_000
    means = resample(times, np.array(values), START, len(values))
    assert means.present.all()
    np.testing.assert_allclose(means.values, values, rtol=1e-9, atol=1e-6)


def test_a_reading_weighs_by_how_long_it_holds() -> None:
    # 100 W for 5 minutes, then 400 W for 10: 300 W. Unsorted, and the second of two equal instants counts.
    times = START_US + np.array([300, 0, 0], dtype=np.int64) * 1_000_000
    means = resample(times, np.array([400.0, 7.0, 100.0]), START, 1)
    assert means.values.tolist() == [300.0]


def test_an_interval_covered_by_less_than_half_is_missing_not_zero() -> None:
    times = START_US + np.array([480], dtype=np.int64) * 1_000_000
    means = resample(times, np.array([50.0]), START, 4)
    assert means.present.tolist() == [False, True, False, False]
    assert resample(times[:0], np.zeros(0), START, 2).present.tolist() == [False, False]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nan_and_infinity_are_refused_at_the_border(value: float) -> None:
    with pytest.raises(BadInputError, match="finite"):
        resample(np.array([START_US]), np.array([value]), START, 1)
    with pytest.raises(BadInputError, match="finite"):
        LoadHistory(START, np.array([value]), np.zeros(1, dtype=bool))


def test_a_history_off_the_quarter_hour_or_without_flags_is_refused() -> None:
    with pytest.raises(BadInputError, match="quarter hour"):
        LoadHistory(START + timedelta(minutes=1), np.zeros(1), np.zeros(1, dtype=bool))
    with pytest.raises(BadInputError, match="one flag"):
        LoadHistory(START, np.zeros(2), np.zeros(1, dtype=bool))


def test_a_short_gap_becomes_a_straight_line_and_says_so() -> None:
    present = np.ones(20, dtype=bool)
    present[5:8] = False
    values = np.where(present, np.arange(20.0), 0.0)
    filled = fill_gaps(QuarterHours(START, values, present))
    np.testing.assert_allclose(filled.values, np.arange(20.0))
    assert filled.substituted.tolist() == (~present).tolist()
    assert filled.substituted_share == pytest.approx(3 / 20)


def test_a_long_gap_repeats_last_week_else_yesterday() -> None:
    steps = 9 * DAY_STEPS
    values = np.arange(steps, dtype=np.float64)
    present = np.ones(steps, dtype=bool)
    present[2 * DAY_STEPS : 2 * DAY_STEPS + 20] = False
    present[8 * DAY_STEPS : 8 * DAY_STEPS + 20] = False
    filled = fill_gaps(QuarterHours(START, np.where(present, values, 0.0), present))
    assert filled.values[2 * DAY_STEPS] == DAY_STEPS
    assert filled.values[8 * DAY_STEPS] == DAY_STEPS
    assert filled.values[8 * DAY_STEPS + 20] == values[8 * DAY_STEPS + 20]


def test_a_short_gap_at_the_end_is_not_interpolated_because_nothing_follows() -> None:
    steps = 8 * DAY_STEPS
    present = np.ones(steps, dtype=bool)
    present[-2:] = False
    filled = fill_gaps(QuarterHours(START, np.where(present, np.arange(steps), 0.0), present))
    assert filled.values[-1] == DAY_STEPS - 1


def test_leading_holes_are_dropped_and_a_gap_on_the_first_day_holds_the_last_value() -> None:
    present = np.ones(40, dtype=bool)
    present[:3] = present[10:16] = False
    filled = fill_gaps(QuarterHours(START, np.where(present, 5.0, 0.0), present))
    assert filled.start == START + 3 * STEP
    assert (filled.values == 5.0).all()


def test_too_much_missing_is_refused_with_the_share() -> None:
    present = np.arange(100) % 2 == 0
    with pytest.raises(NotEnoughHistoryError, match=r"50% missing.*20%") as caught:
        fill_gaps(QuarterHours(START, np.zeros(100), present))
    assert caught.value.key == "values"
    with pytest.raises(NotEnoughHistoryError, match="nothing was measured"):
        fill_gaps(QuarterHours(START, np.zeros(3), np.zeros(3, dtype=bool)))


@pytest.mark.parametrize(("day", "quarters"), [(date(2016, 3, 27), 92), (date(2016, 10, 30), 100), (date(2016, 6, 1), 96)])
def test_a_local_day_has_92_96_or_100_quarter_hours(day: date, quarters: int) -> None:
    start, end = local_day(day, BERLIN)
    grid = local_grid(start, quarters, BERLIN, ())
    assert end - start == STEP * quarters
    assert set(grid.day.tolist()) == {day.toordinal()}
    assert local_grid(end, 1, BERLIN, ()).quarter.tolist() == [0]


def test_the_spring_day_skips_the_hour_and_the_autumn_day_has_it_twice() -> None:
    spring = local_grid(local_day(date(2016, 3, 27), BERLIN)[0], 92, BERLIN, ()).quarter
    autumn = local_grid(local_day(date(2016, 10, 30), BERLIN)[0], 100, BERLIN, ()).quarter
    assert sorted(set(range(96)) - set(spring.tolist())) == [8, 9, 10, 11]
    assert [quarter for quarter in range(96) if (autumn == quarter).sum() == 2] == [8, 9, 10, 11]


@settings(max_examples=60, deadline=None)
@given(
    issue_quarters=st.integers(0, 366 * DAY_STEPS),
    zone=st.sampled_from(["Europe/Berlin", "Asia/Kolkata", "Australia/Lord_Howe"]),
)
def test_every_lag_is_inside_the_window_and_same_weekday_lags_keep_the_local_time(issue_quarters: int, zone: str) -> None:
    site = ZoneInfo(zone)
    issue = datetime(2016, 1, 1, tzinfo=UTC) + STEP * issue_quarters
    grid = local_grid(issue - STEP * HISTORY_STEPS, HISTORY_STEPS + HORIZON_STEPS, site, ())
    inputs = calendar_inputs(grid, HISTORY_STEPS)
    lags = inputs["lag_step"]
    assert lags.shape == (HORIZON_STEPS, len(LAGS))
    assert lags.min() >= 7 * DAY_STEPS
    assert lags.max() < HISTORY_STEPS
    same = grid.quarter[lags] == inputs["quarter"][:, None]
    # Where a clock change skips or repeats the hour there is no such quarter hour; a neighbouring one stands in.
    assert same.mean() > 0.98
    weekly = [LAGS.index(name) for name in ("w1", "w2", "w3", "w4")]
    held = same[:, weekly]
    assert (grid.weekday[lags[:, weekly]] == inputs["weekday"][:, None])[held].all()


@pytest.mark.parametrize("around", [date(2016, 3, 28), date(2016, 10, 31), date(2016, 12, 27)])
def test_the_last_day_is_compared_with_earlier_days_of_its_type_at_the_same_local_time(around: date) -> None:
    issue = datetime(around.year, around.month, around.day, 9, tzinfo=UTC)
    free = (date(2016, 12, 25), date(2016, 12, 26))
    grid = local_grid(issue - STEP * HISTORY_STEPS, HISTORY_STEPS + HORIZON_STEPS, BERLIN, free)
    steps = calendar_inputs(grid, HISTORY_STEPS)["recent_step"]
    assert steps.shape == (DAY_STEPS, RECENT_ALIKE)
    # The graph has levels from the second week of the window on only.
    assert steps.min() >= LEVEL_STEPS
    recent = np.arange(HISTORY_STEPS - DAY_STEPS, HISTORY_STEPS)
    assert (steps < recent[:, None]).all()
    assert (grid.day_type[steps[:, 0], 1] == grid.day_type[recent, 1]).all()
    shifted = (grid.quarter[steps] - grid.quarter[recent][:, None]) % DAY_STEPS
    # Only the hour that a clock change takes away has nothing of the same name.
    assert (shifted != 0).mean() < 0.06


def test_lags_across_the_clock_change_follow_local_time() -> None:
    # Issue on Sunday 27 March 2016 12:00 UTC (14:00 summer time): yesterday 14:00 winter time is 13:00 UTC, 23 hours ago.
    issue = datetime(2016, 3, 27, 12, tzinfo=UTC)
    grid = local_grid(issue - STEP * HISTORY_STEPS, HISTORY_STEPS + HORIZON_STEPS, BERLIN, ())
    first = calendar_inputs(grid, HISTORY_STEPS)["lag_step"][0]
    assert HISTORY_STEPS - first[LAGS.index("d1")] == 23 * 4
    assert HISTORY_STEPS - first[LAGS.index("w1")] == (7 * 24 - 1) * 4


def test_holidays_are_sundays_and_find_their_like() -> None:
    holiday = date(2016, 5, 5)
    issue = datetime(2016, 5, 4, 22, tzinfo=UTC)
    grid = local_grid(issue - STEP * HISTORY_STEPS, HISTORY_STEPS + HORIZON_STEPS, BERLIN, [holiday])
    inputs = calendar_inputs(grid, HISTORY_STEPS)
    assert inputs["day_type"][0].tolist() == [WORKDAY, SUNDAY, WORKDAY]
    alike = grid.day[inputs["lag_step"][0, LAGS.index("s1")]]
    assert date.fromordinal(int(alike)) == date(2016, 5, 1)
    assert grid.day_type[inputs["lag_step"][0, LAGS.index("s2")], 1] == SUNDAY
    assert local_grid(datetime(2016, 5, 7, 12, tzinfo=UTC), 1, BERLIN, ()).day_type[0].tolist() == [WORKDAY, SATURDAY, SUNDAY]


def test_a_grid_that_is_too_short_is_refused() -> None:
    grid = local_grid(START, HISTORY_STEPS, BERLIN, ())
    with pytest.raises(BadInputError, match="before and"):
        calendar_inputs(grid, HISTORY_STEPS)


def test_model_inputs_read_nothing_at_or_after_the_issue() -> None:
    whole = _flat(HISTORY_STEPS + 300)
    issue = whole.start + STEP * (HISTORY_STEPS + 10)
    known = LoadHistory(whole.start, whole.values[: HISTORY_STEPS + 10], whole.substituted[: HISTORY_STEPS + 10])
    for name, array in model_inputs(whole, issue, BERLIN, ()).items():
        np.testing.assert_array_equal(array, model_inputs(known, issue, BERLIN, ())[name])
    assert model_inputs(whole, issue, BERLIN, ())["history"][-1] == HISTORY_STEPS + 9


def test_model_inputs_without_the_whole_window_are_refused() -> None:
    short = _flat(HISTORY_STEPS - 1)
    with pytest.raises(NotEnoughHistoryError, match=str(HISTORY_STEPS)):
        model_inputs(short, short.end, BERLIN, ())
    enough = _flat(HISTORY_STEPS)
    with pytest.raises(NotEnoughHistoryError):
        model_inputs(enough, enough.end + STEP, BERLIN, ())


def test_a_part_of_a_history_is_cut_by_instants() -> None:
    whole = _flat(100)
    part = whole.between(START + 10 * STEP, START + 20 * STEP)
    assert (part.start, part.end, part.values[0]) == (START + 10 * STEP, START + 20 * STEP, 10.0)
    assert len(whole.between(START - 10 * STEP, START + STEP).values) == 1
    assert LoadHistory(START, np.zeros(0), np.zeros(0, dtype=bool)).substituted_share == 0.0


def test_a_forecast_is_issued_for_the_latest_quarter_hour() -> None:
    assert issue_instant(START + timedelta(minutes=44, seconds=59)) == START + timedelta(minutes=30)
