"""Training end to end on a synthetic load: scores, manifest, parity gate and leak test."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
from dataclasses import replace
from datetime import date, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest

import tieline_cloud.forecasting.leak as leak_module
from tests.cloud.forecasting.synthetic import NOW, POINT, SMALL, small_request, synthetic_history
from tieline_cloud.forecasting import backtest as backtest_module
from tieline_cloud.forecasting.backtest import Replay, backtest, gate_at, mape, replay, scored_issues
from tieline_cloud.forecasting.baseline import seasonal, weekly_naive
from tieline_cloud.forecasting.convert import ParityError, check_parity, to_onnx
from tieline_cloud.forecasting.dataset import Problem, collect, training_issues, with_targets
from tieline_cloud.forecasting.experts import TABLE, FittedExpert, Rows, fit_all
from tieline_cloud.forecasting.graph import FeatureNames, GraphBuilder, feature_model
from tieline_cloud.forecasting.leak import LeakError, check_leak
from tieline_cloud.forecasting.predict import forecast
from tieline_cloud.forecasting.runtime import session
from tieline_cloud.forecasting.train import fit, holidays_around
from tieline_cloud.forecasting.training import TrainedModel
from tieline_cloud.forecasting.trees import ConversionError, floor32, tree_attributes
from tieline_core.errors import BadInputError
from tieline_core.forecast_gate import MIN_DAYS, ScoreBook, Scored, add_scores
from tieline_core.forecast_inputs import DAY_STEPS, HORIZON_STEPS, LAGS, STEP, LoadHistory, NotEnoughHistoryError
from tieline_core.model_manifest import ModelManifest, sha256_hex, unpack_seed

BERLIN = ZoneInfo("Europe/Berlin")


def _problem(history: LoadHistory) -> Problem:
    return Problem.of(history, BERLIN, (), session(feature_model()))


def test_a_model_beats_the_weekly_naive_and_its_bands_hold(trained: TrainedModel) -> None:
    scores = trained.report.backtest.scores
    # White noise of 5 % on both sides: even the true mean would only reach 0.71 of the naive.
    assert scores.mape < 0.85 * scores.naive_mape
    assert 0.80 <= scores.coverage_90 <= 0.97
    assert scores.coverage_80 < scores.coverage_90
    assert scores.evening_mape is not None
    # Every three hours from 00:00 UTC: from 18:00 of the first day, 28 days before 15:30, to 15:00 of the last.
    assert scores.issues == 28 * 8
    assert scores.scored_horizon_steps == DAY_STEPS
    assert scores.day_ahead_mape is not None
    assert scores.day_ahead_naive_mape is not None
    assert scores.day_ahead_mape < 0.9 * scores.day_ahead_naive_mape


def test_the_manifest_describes_the_files_it_names(trained: TrainedModel) -> None:
    manifest = trained.manifest
    assert ModelManifest.from_bytes(manifest.to_bytes(), "test") == manifest
    assert (manifest.onnx_sha256, manifest.onnx_bytes) == (sha256_hex(trained.onnx), len(trained.onnx))
    assert manifest.seed is not None
    seed = unpack_seed(manifest.seed, trained.seed)
    assert seed.end == manifest.trained_to == NOW
    assert manifest.experts == tuple(TABLE)
    assert date(2016, 12, 25) in manifest.holidays
    assert manifest.holidays[-1] > date(2017, 12, 1)
    assert manifest.metrics.onnx_parity < 1e-4
    assert manifest.metrics.parity_rows >= 1000
    assert manifest.temperature_inputs == ()


def test_training_is_reproducible_and_runs_in_a_spawned_worker(trained: TrainedModel) -> None:
    with concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        again = pool.submit(fit, small_request()).result()
    assert again.onnx == trained.onnx
    assert again.manifest == trained.manifest


def test_nothing_measured_after_now_reaches_a_training(trained: TrainedModel) -> None:
    history = synthetic_history()
    later = synthetic_history(days=5, seed=9, end=NOW + timedelta(days=5))
    longer = LoadHistory(
        history.start, np.concatenate([history.values, later.values * 3]), np.zeros(135 * DAY_STEPS, dtype=bool)
    )
    assert fit(small_request(longer)).onnx == trained.onnx


def test_the_leak_test_passes_on_our_features_and_finds_a_planted_leak(monkeypatch: pytest.MonkeyPatch) -> None:
    history = synthetic_history(60)
    issue = history.end - timedelta(days=4)
    check_leak(history, issue, BERLIN, (), SMALL)
    honest = Problem.inputs

    def peeking(self: Problem, at: int) -> dict[str, np.ndarray]:
        return {**honest(self, at), "history": self.history.values[at - 3455 : at + 1].astype(np.float32)}

    monkeypatch.setattr(Problem, "inputs", peeking)
    with pytest.raises(LeakError, match="input history"):
        check_leak(history, issue, BERLIN, (), SMALL)
    monkeypatch.setattr(Problem, "inputs", honest)
    monkeypatch.setattr(leak_module, "with_targets", lambda rows, past, before: with_targets(rows, past, before + 5))
    with pytest.raises(LeakError, match="training"):
        check_leak(history, issue, BERLIN, (), SMALL)


def test_the_leak_test_needs_something_to_perturb() -> None:
    history = synthetic_history(40)
    with pytest.raises(LeakError, match="nothing can be perturbed"):
        check_leak(history, history.end, BERLIN, (), SMALL)


def test_scored_issues_stand_on_the_three_hours_of_utc() -> None:
    problem = _problem(synthetic_history(45))
    first = len(problem.history.values) - DAY_STEPS
    instants = [problem.history.start + STEP * at for at in scored_issues(problem, first)]
    assert [moment.hour for moment in instants] == [18, 21, 0, 3, 6, 9, 12, 15]
    assert {moment.minute for moment in instants} == {0}


def test_a_deviation_that_lasts_is_carried_into_the_next_hours_by_its_expert() -> None:
    random = np.random.default_rng(5)
    history = synthetic_history(60, noise=0.01)
    drift = np.zeros(len(history.values))
    for at in range(1, len(drift)):
        drift[at] = 0.97 * drift[at - 1] + 0.03 * random.standard_normal()
    problem = _problem(LoadHistory(history.start, history.values * (1 + drift), history.substituted))
    cutoff = len(drift) - 14 * DAY_STEPS
    issues = [at for at in training_issues(problem.history, 17) if at < cutoff]
    training, target = with_targets(collect(problem, issues, 48, 1), problem.history, before=cutoff)
    experts = fit_all(training.rows, target, replace(SMALL, trees=2))
    later = replay(problem, experts, range(cutoff, len(drift) - 8, 7))
    near = later.data.lead < 8
    missed = np.abs(later.experts - later.measured[:, None])[near].mean(axis=0)
    names = list(experts)
    assert missed[names.index("deviation")] < 0.8 * missed[names.index("alike_days")]


def test_gate_and_bands_of_a_scored_issue_use_only_targets_measured_before_it() -> None:
    problem = _problem(synthetic_history(50))
    experts = fit_all(*_rows(problem), SMALL)
    past = replay(problem, experts, range(3600, 4500, 13))
    now = 4400
    known = gate_at(problem, [past], now)
    later = past.data.target >= now
    wrong = Replay(past.data, past.experts, np.where(later, past.measured * 9, past.measured))
    again = gate_at(problem, [wrong], now)
    np.testing.assert_array_equal(known.weights, again.weights)
    np.testing.assert_array_equal(known.offsets, again.offsets)
    assert not np.array_equal(gate_at(problem, [wrong], 4790).offsets, gate_at(problem, [past], 4790).offsets)


def _rows(problem: Problem) -> tuple[Rows, np.ndarray[tuple[int], np.dtype[np.float64]]]:
    issues = training_issues(problem.history, SMALL.issue_stride)
    chosen, target = with_targets(collect(problem, issues, SMALL.rows_an_issue, 1), problem.history, before=10**6)
    return chosen.rows, target


def test_substituted_values_are_no_targets_and_no_issue_lies_in_a_gap() -> None:
    history = synthetic_history(45)
    flags = history.substituted.copy()
    flags[3600:3700] = True
    holed = LoadHistory(history.start, history.values, flags)
    issues = training_issues(holed, 1)
    assert not set(range(3601, 3701)) & set(issues)
    assert 3600 in issues
    chosen, _ = with_targets(collect(_problem(holed), [3590], HORIZON_STEPS, 0), holed, before=10**6)
    assert set(chosen.target.tolist()) == {*range(3590, 3600), *range(3700, 3782)}


class _Shifted:
    """A planted fault: exports itself a little higher than it predicts."""

    def __init__(self, honest: FittedExpert) -> None:
        self._honest = honest

    def predict(self, rows: Rows) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        return self._honest.predict(rows)

    def emit(self, graph: GraphBuilder, features: FeatureNames) -> str:
        return graph.op("Add", self._honest.emit(graph, features), graph.const(3e-4))


@pytest.mark.parametrize("broken", list(TABLE))
def test_the_parity_gate_lets_every_expert_pass_and_catches_a_broken_export_of_each(broken: str) -> None:
    problem = _problem(synthetic_history(45))
    experts = fit_all(*_rows(problem), replace(SMALL, trees=5))
    issues = training_issues(problem.history, 50)[:6]
    passed = check_parity(to_onnx(experts, POINT), problem, experts, issues)
    assert 0 <= passed.difference < 1e-5
    assert passed.rows == 8 * HORIZON_STEPS
    onnx = to_onnx({**experts, broken: _Shifted(experts[broken])}, POINT)
    with pytest.raises(ParityError, match="relative difference") as caught:
        check_parity(onnx, problem, experts, issues)
    assert caught.value.difference > 1e-4
    with pytest.raises(ParityError, match="192 rows, at least 1000"):
        check_parity(onnx, problem, experts, issues[:1])


def test_thresholds_are_the_largest_float32_below() -> None:
    for threshold in (0.1, 0.5, 1e-9, -0.3, 123456.789):
        cut = floor32(threshold)
        assert cut <= threshold
        assert float(np.nextafter(np.float32(cut), np.float32(np.inf))) > threshold


def test_a_categorical_split_is_not_converted_silently() -> None:
    leaf = {"leaf_value": 1.0}
    node = {
        "split_feature": 0, "threshold": "1||2", "decision_type": "==", "default_left": True, "missing_type": "None",
        "left_child": leaf, "right_child": leaf,
    }  # fmt: skip
    with pytest.raises(ConversionError, match="'=='"):
        tree_attributes({"tree_info": [{"tree_structure": node}]})
    numeric = {**node, "decision_type": "<=", "threshold": 0.5, "missing_type": "NaN"}
    rows = tree_attributes({"tree_info": [{"tree_structure": numeric}]})
    assert rows["nodes_modes"] == ["BRANCH_LEQ", "LEAF", "LEAF"]
    assert rows["nodes_missing_value_tracks_true"][0] == 1
    assert (rows["nodes_truenodeids"][0], rows["nodes_falsenodeids"][0]) == (1, 2)


def test_naive_experts_are_what_their_names_say() -> None:
    problem = _problem(synthetic_history(45))
    data = collect(problem, [3500], HORIZON_STEPS, 0)
    experts = fit_all(*_rows(problem), replace(SMALL, trees=2))
    weekly = experts["weekly"].predict(data.rows)
    values = problem.history.values
    week_before = values[3500 - 672 : 3500 - 672 + HORIZON_STEPS]
    level = np.array([values[at - 671 : at + 1].mean() for at in range(3500 - 672, 3500 - 672 + HORIZON_STEPS)])
    np.testing.assert_allclose(weekly, week_before / level, rtol=1e-5)
    alike = data.rows.lags[:, LAGS.index("s1") : LAGS.index("s8") + 1].mean(axis=1)
    np.testing.assert_allclose(experts["alike_days"].predict(data.rows), alike, rtol=1e-6)


def test_too_short_a_history_is_refused_with_what_is_needed() -> None:
    with pytest.raises(NotEnoughHistoryError, match="at least 120 days"):
        fit(small_request(synthetic_history(100)))


def test_an_unknown_country_is_refused_and_none_means_no_holidays() -> None:
    with pytest.raises(BadInputError, match="country"):
        holidays_around(date(2016, 1, 1), date(2016, 12, 31), "XX")
    assert holidays_around(date(2016, 1, 1), date(2016, 12, 31), None) == ()
    bavaria = holidays_around(date(2016, 1, 1), date(2016, 12, 31), "DE", "BY")
    assert date(2016, 1, 6) in bavaria


def test_the_hub_issues_what_the_file_says_and_adapts_to_scores(trained: TrainedModel) -> None:
    history = synthetic_history()
    issued = forecast(trained.manifest, trained.onnx, history, NOW)
    assert issued.model_id == trained.manifest.model_id
    assert all(
        a <= b <= c <= d <= e
        for a, b, c, d, e in zip(issued.lo90, issued.p10, issued.p50, issued.p90, issued.hi90, strict=True)
    )
    assert abs(issued.p50[0] / history.values[-1] - 1) < 0.3
    book = ScoreBook.empty(len(TABLE))
    quarter = np.tile(np.arange(DAY_STEPS), 2)
    lead = np.arange(HORIZON_STEPS)
    for day in range(MIN_DAYS):
        ones = np.ones(HORIZON_STEPS)
        experts = np.tile([1.5, 1.5, 1.0, 1.5, 1.5], (HORIZON_STEPS, 1))
        book = add_scores(book, Scored(np.full(HORIZON_STEPS, 736000 + day), quarter, lead, ones, experts, ones))
    own = forecast(trained.manifest, trained.onnx, history, NOW, book)
    assert own.lo90 == own.hi90
    with pytest.raises(BadInputError, match="onnx_sha256"):
        forecast(trained.manifest, trained.onnx[:-1], history, NOW)


def test_baselines_name_themselves(trained: TrainedModel) -> None:
    history = synthetic_history(40)
    naive, median = weekly_naive(POINT, history, NOW), seasonal(POINT, history, NOW)
    assert (naive.model_id, median.model_id) == ("baseline:weekly-naive", "baseline:seasonal")
    assert naive.p50[0] == pytest.approx(history.values[-672], abs=0.06)
    assert median.p50[0] == pytest.approx(float(np.median([history.values[-672 * week] for week in (1, 2, 3, 4)])), abs=0.06)


def test_percentage_errors_leave_out_dead_intervals() -> None:
    assert mape(np.array([100.0, 0.0]), np.array([110.0, 50.0])) == pytest.approx(10.0)


def test_a_series_without_an_evening_has_no_evening_score(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = _problem(synthetic_history(124))
    issues = training_issues(problem.history, 97)
    monkeypatch.setattr(backtest_module, "_EVENING_UTC", ())
    tested = backtest(problem, collect(problem, issues, 8, 1), replace(SMALL, trees=3))
    assert tested.scores.evening_mape is None
    assert tested.scored_from == len(problem.history.values) - 28 * DAY_STEPS
    assert problem.history.start + STEP * tested.scored_from == NOW - timedelta(days=28)
