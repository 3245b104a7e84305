"""Training of one point: history in, ONNX file with manifest, seed and honest scores out.

A pure function of its request; it runs in a spawned worker and touches no store.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import asdict
from datetime import date, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from tieline_cloud.forecasting.backtest import Backtest, backtest, fit_before
from tieline_cloud.forecasting.convert import check_parity, to_onnx
from tieline_cloud.forecasting.dataset import Problem, collect, training_issues
from tieline_cloud.forecasting.graph import feature_model
from tieline_cloud.forecasting.runtime import session
from tieline_cloud.forecasting.training import Parity, TrainedModel, TrainingReport, TrainingRequest
from tieline_core.errors import BadInputError
from tieline_core.forecast_inputs import FEATURE_VERSION, HISTORY_STEPS, QUANTILES, STEP, LoadHistory
from tieline_core.model_manifest import (
    BacktestMetrics,
    ModelManifest,
    input_specs,
    output_specs,
    pack_seed,
    sha256_hex,
)

#: Recent history that travels with a model: what an issue needs, and a week to spare for its transport.
_SEED_STEPS: Final = HISTORY_STEPS + 7 * 96
_HOLIDAYS_BACK: Final = timedelta(days=45)
_HOLIDAYS_AHEAD: Final = timedelta(days=400)
_PARITY_ISSUES: Final = 12


def holidays_around(first: date, last: date, country: str | None, subdivision: str | None = None) -> tuple[date, ...]:
    """Public holidays from first to last day.

    Raises:
        BadInputError: When the country or the subdivision is unknown.
    """
    if country is None:
        return ()
    import holidays

    try:
        years = range(first.year, last.year + 1)
        table = holidays.country_holidays(country, subdiv=subdivision, years=years)
    except NotImplementedError as error:
        raise BadInputError("training request", "country", (country, subdivision), str(error)) from error
    return tuple(sorted(day for day in table if first <= day <= last))


def fit(request: TrainingRequest) -> TrainedModel:
    """Backtest, fit on everything known, convert, and pass the parity gate.

    Raises:
        NotEnoughHistoryError: When the history is too short to score a model honestly.
        ParityError: When the ONNX file does not compute what was fitted.
        BadInputError: When the zone or the country is unknown.
    """
    started = time.monotonic()
    history = request.history.between(request.history.start, request.now)
    days = holidays_around(
        history.start.date() - timedelta(days=2), request.now.date() + _HOLIDAYS_AHEAD, request.country, request.subdivision
    )
    problem = Problem.of(history, ZoneInfo(request.time_zone), days, session(feature_model()))
    issues = training_issues(history, request.params.issue_stride)
    training = collect(problem, issues, request.params.rows_an_issue, request.params.seed)
    tested = backtest(problem, training, request.params)
    fitted = fit_before(problem, training, len(history.values), request.params)
    onnx = to_onnx(fitted, request.point)
    parity = check_parity(onnx, problem, fitted, issues[-_PARITY_ISSUES:])
    seed, blob = pack_seed(history.between(history.end - STEP * _SEED_STEPS, history.end))
    onnx_sha = sha256_hex(onnx)
    manifest = ModelManifest(
        model_id=f"load-{request.now:%Y%m%dT%H%M}-{onnx_sha[:12]}".lower(),
        point=request.point,
        feature_version=FEATURE_VERSION,
        inputs=input_specs(len(fitted)),
        outputs=output_specs(len(fitted)),
        quantiles=QUANTILES,
        experts=tuple(fitted),
        time_zone=request.time_zone,
        holidays=tuple(day for day in days if day >= request.now.date() - _HOLIDAYS_BACK),
        trained_from=history.start,
        trained_to=history.end,
        training_sha256=_hash_of(history),
        created_at=request.now,
        onnx_sha256=onnx_sha,
        onnx_bytes=len(onnx),
        seed=seed,
        weights=tuple(tuple(row) for row in tested.gate.weights.tolist()),
        offsets=tuple(tuple(tuple(row) for row in group) for group in tested.gate.offsets.tolist()),
        metrics=_metrics(tested, parity, history),
    )
    report = TrainingReport(tested, parity, len(training.issue), time.monotonic() - started)
    return TrainedModel(manifest, onnx, blob, report)


def _metrics(tested: Backtest, parity: Parity, history: LoadHistory) -> BacktestMetrics:
    return BacktestMetrics(
        **asdict(tested.scores),
        scored_from=history.start + STEP * tested.scored_from,
        scored_to=history.end,
        onnx_parity=parity.difference,
        parity_rows=parity.rows,
    )


def _hash_of(history: LoadHistory) -> str:
    digest = hashlib.sha256(history.start.isoformat().encode())
    digest.update(history.values.astype("<f8").tobytes())
    digest.update(history.substituted.tobytes())
    return digest.hexdigest()
