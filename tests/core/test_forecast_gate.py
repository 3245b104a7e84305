"""Gate weights, conformal bands and the baselines."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from tieline_core.errors import BadInputError
from tieline_core.forecast_baseline import baseline_quantiles, fallback_quantiles, last_day, last_week, same_weekday_median
from tieline_core.forecast_gate import (
    DAYS,
    LEAD_GROUP,
    LEAD_GROUPS,
    MIN_DAYS,
    ScoreBook,
    Scored,
    add_scores,
    band_offsets,
    gate_weights,
    offsets_of,
    score_window,
    spread_inputs,
    to_issued,
    weights_of,
)
from tieline_core.forecast_inputs import DAY_STEPS, HORIZON_STEPS, QUANTILES, STEP, LoadHistory, NotEnoughHistoryError
from tieline_core.ids import PointId

START = datetime(2016, 3, 1, tzinfo=UTC)
BANDS = [0, 1, 3, 4]


def _scored(day: int, error: float = 0.1, lead: int = 0) -> Scored:
    """One day scored at every quarter hour: expert 0 misses by ``error``, expert 1 by half of it."""
    quarter = np.arange(DAY_STEPS)
    measured = np.ones(DAY_STEPS)
    experts = np.stack([measured - error, measured + error / 2], 1)
    return Scored(np.full(DAY_STEPS, day), quarter, np.full(DAY_STEPS, lead), measured, experts, measured - error)


def test_own_gate_and_bands_wait_for_thirty_scored_days() -> None:
    book = ScoreBook.empty(2)
    default = np.zeros((len(LEAD_GROUPS), 24, len(QUANTILES)))
    for day in range(MIN_DAYS - 1):
        book = add_scores(book, _scored(736000 + day))
    assert gate_weights(book) is None
    assert band_offsets(book) is None
    assert band_offsets(book, default) is default
    book = add_scores(book, _scored(736000 + MIN_DAYS))
    weights, offsets = gate_weights(book), band_offsets(book)
    assert weights is not None
    assert offsets is not None
    np.testing.assert_allclose(weights.sum(axis=-1), 1.0)
    # Half the error, to the eighth power: 256 times the weight.
    np.testing.assert_allclose(weights[..., 1] / weights[..., 0], 256.0, rtol=1e-4)
    np.testing.assert_allclose(offsets[..., BANDS], 0.1, rtol=1e-5)
    assert (offsets[..., 2] == 0).all()


def test_a_day_older_than_sixty_is_forgotten_and_never_overwrites_a_newer_one() -> None:
    book = add_scores(ScoreBook.empty(2), _scored(736000))
    newer = add_scores(book, _scored(736000 + DAYS, error=0.5))
    assert newer.days[736000 % DAYS] == 736000 + DAYS
    assert newer.scored_days == 1
    late = add_scores(newer, _scored(736000, error=9.0))
    np.testing.assert_array_equal(late.errors, newer.errors)


def test_scores_of_one_day_that_come_in_parts_add_up() -> None:
    twice = add_scores(add_scores(ScoreBook.empty(2), _scored(736000, 0.1)), _scored(736000, 0.3, lead=100))
    again = add_scores(twice, _scored(736000, 0.3))
    assert again.errors[736000 % DAYS, 0, 0, 0] == pytest.approx(0.2)
    assert again.errors[736000 % DAYS, 4, 0, 0] == pytest.approx(0.3)
    assert np.isnan(again.errors[736000 % DAYS, 1]).all()
    assert np.isnan(twice.residuals[736000 % DAYS, 1]).all()
    assert twice.residuals[736000 % DAYS, 4, 5] == pytest.approx(0.3, rel=1e-5)
    unchanged = add_scores(twice, Scored(*(np.zeros(0, dtype=np.int64),) * 3, np.zeros(0), np.zeros((0, 2)), np.zeros(0)))
    np.testing.assert_array_equal(unchanged.residuals, twice.residuals)


def test_bands_cover_what_they_promise_on_fresh_data() -> None:
    random = np.random.default_rng(4)
    residuals = random.gamma(2.0, 0.1, (DAYS, len(LEAD_GROUPS), 24, 4)).astype(np.float32)
    offsets = offsets_of(residuals)
    fresh = random.gamma(2.0, 0.1, (4000, 1, 1))
    inside = ((fresh >= offsets[..., 0]) & (fresh <= offsets[..., 4])).mean()
    assert 0.88 < inside < 0.93
    assert (np.diff(offsets[..., BANDS], axis=-1) >= 0).all()


def test_a_cell_with_too_few_samples_takes_its_lead_group_then_everything() -> None:
    residuals = np.full((DAYS, len(LEAD_GROUPS), 24, 4), np.nan, dtype=np.float32)
    residuals[:, 0, 3] = 0.25
    offsets = offsets_of(residuals)
    np.testing.assert_allclose(offsets[..., BANDS], 0.25)
    with pytest.raises(BadInputError, match="no residual"):
        offsets_of(np.full_like(residuals, np.nan))


def test_an_hour_never_scored_gets_the_mean_of_its_lead_group_and_a_group_the_mean_of_all() -> None:
    errors = np.full((28, len(LEAD_GROUPS), 24, 2), np.nan)
    errors[:, 0, 12] = [0.1, 0.2]
    errors[:, 1, 12] = [0.2, 0.1]
    weights = weights_of(errors)
    np.testing.assert_allclose(weights[:2, 3], weights[:2, 12])
    assert weights[0, 3, 0] > 0.99
    assert weights[1, 3, 1] > 0.99
    np.testing.assert_allclose(weights[2:], 0.5)


def test_a_book_of_another_shape_is_refused() -> None:
    good = ScoreBook.empty(2)
    with pytest.raises(BadInputError, match="expected"):
        ScoreBook(good.days, good.errors, good.residuals[:10])


def test_tables_are_spread_by_local_hour_and_lead_group() -> None:
    weights = np.arange(0.0, 500.0, 100.0).reshape(-1, 1, 1) + np.stack([np.arange(24.0), 1 - np.arange(24.0)], 1)
    offsets = np.arange(len(LEAD_GROUPS))[:, None, None] + np.zeros((1, 24, len(QUANTILES)))
    quarter = (np.arange(HORIZON_STEPS) + 62) % DAY_STEPS
    spread = spread_inputs(weights, offsets, quarter)
    assert spread["weights"][0].tolist() == [15.0, -14.0]
    assert spread["weights"][96].tolist() == [415.0, 386.0]
    assert spread["offsets"][[0, 3, 4, 15, 16, 95, 96, 191], 0].tolist() == [0, 0, 1, 1, 2, 3, 4, 4]
    assert LEAD_GROUP.max() == len(LEAD_GROUPS) - 1


def test_substituted_values_are_never_scored_against() -> None:
    flags = np.zeros(10, dtype=bool)
    flags[4] = True
    history = LoadHistory(START, np.arange(10.0), flags)
    lead, measured = score_window(history, START + 3 * STEP, 100)
    assert lead.tolist() == [0, 2, 3, 4, 5, 6]
    assert measured.tolist() == [3.0, 5.0, 6.0, 7.0, 8.0, 9.0]


def test_an_issued_message_keeps_bands_in_their_places() -> None:
    fan = np.tile(np.array([1.04, 2.0, 3.0, 4.0, 5.0]), (HORIZON_STEPS, 1))
    issued = to_issued(PointId("harbour/site/load_w"), "m-1", START, fan)
    assert (issued.lo90[0], issued.p10[0], issued.p50[0], issued.p90[0], issued.hi90[0]) == (1.0, 2.0, 3.0, 4.0, 5.0)
    assert (issued.start, issued.step_s, len(issued.p50)) == (START, 900, HORIZON_STEPS)


def _weekly(days: int, noise: float = 0.0) -> LoadHistory:
    steps = np.arange(days * DAY_STEPS)
    values = 1000.0 + steps % (7 * DAY_STEPS) + noise * np.random.default_rng(2).standard_normal(len(steps))
    return LoadHistory(START, values, np.zeros(len(steps), dtype=bool))


def test_the_weekly_naive_repeats_the_week_and_knows_its_misses() -> None:
    history = _weekly(21)
    fan = baseline_quantiles(history, history.end, last_week)
    np.testing.assert_allclose(fan, history.values[-7 * DAY_STEPS :][:HORIZON_STEPS, None] + np.zeros(5))
    noisy = _weekly(28, noise=50.0)
    wide = baseline_quantiles(noisy, noisy.end, same_weekday_median)
    assert (np.diff(wide, axis=1) > 0).all()
    assert 100 < float((wide[:, 4] - wide[:, 0]).mean()) < 500


def test_a_baseline_reads_nothing_after_the_issue() -> None:
    history = _weekly(28, noise=30.0)
    issue = history.start + STEP * 20 * DAY_STEPS
    changed = history.values.copy()
    changed[20 * DAY_STEPS :] *= 7
    other = LoadHistory(START, changed, history.substituted)
    for method in (last_week, last_day, same_weekday_median):
        np.testing.assert_array_equal(baseline_quantiles(history, issue, method), baseline_quantiles(other, issue, method))


def test_the_fallback_takes_what_the_history_allows() -> None:
    def name(days: int) -> str | None:
        history = _weekly(days)
        found = fallback_quantiles(history, history.end)
        return found[0] if found else None

    assert [name(days) for days in (0, 1, 6, 7, 30)] == [None, "last-day", "last-day", "weekly-naive", "weekly-naive"]
    history = _weekly(2)
    found = fallback_quantiles(history, history.end)
    assert found is not None
    assert found[1][:, 4] == pytest.approx(found[1][:, 2] * 1.5)
    with pytest.raises(NotEnoughHistoryError):
        baseline_quantiles(history, history.end + timedelta(hours=1), last_day)
