"""Rolling-origin backtest: every scored forecast comes from a model, a gate and bands that knew only the past.

Scored is what an edge really does: it issues again and again through the day. A forecast is issued every three hours (00,
03, .. 21 UTC) of the last 28 days; every lead from 15 minutes to 24 hours counts the same, and the weekly naive is scored
on the same targets. Leads beyond 24 hours have figures of their own. Gate and bands are renewed once a local day.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tieline_cloud.forecasting.dataset import FeatureRows, Problem, collect, with_targets
from tieline_cloud.forecasting.experts import FitParams, FittedExpert, fit_all
from tieline_core.forecast_gate import DAYS, LEAD_GROUP, ScoreBook, Scored, add_scores, offsets_of, weights_of
from tieline_core.forecast_inputs import (
    DAY_STEPS,
    HISTORY_STEPS,
    HORIZON_STEPS,
    QUANTILES,
    STEP_S,
    Floats,
    Ints,
    NotEnoughHistoryError,
)
from tieline_core.timegrid import to_us

SCORED_DAYS: Final = 28
#: Quarter hours ahead that are scored.
SCORED_STEPS: Final = DAY_STEPS
#: Quarter hours between scored issues, counted from midnight UTC.
ISSUE_STEPS: Final = 12
_WEEK: Final = 7 * DAY_STEPS
#: Between calibration issues, so that every hour meets every lead group within a few days.
_CALIBRATION_STRIDE: Final = 17
_CALIBRATION_LEADS: Final = 96
_EVENING_UTC: Final = range(16, 20)


@dataclass(frozen=True, slots=True)
class Fan:
    """Issued forecasts and what came, in the point's unit.

    Attributes:
        target: Positions [n] in the history.
        lead: Lead steps [n].
        quantiles: Issued [n, 5].
        measured: What came [n].
        naive: The weekly naive [n].
    """

    target: Ints
    lead: Ints
    quantiles: Floats
    measured: Floats
    naive: Floats


@dataclass(frozen=True, slots=True)
class Scores:
    """Accuracy in percent of the measured load, coverage as shares; evening is 16 to 20 UTC.

    All but ``day_ahead`` (24 to 48 hours ahead) is of the scored horizon.
    """

    scored_horizon_steps: int
    mape: float
    naive_mape: float
    day_ahead_mape: float | None
    day_ahead_naive_mape: float | None
    coverage_90: float
    coverage_80: float
    evening_mape: float | None
    evening_naive_mape: float | None
    issues: int


@dataclass(frozen=True, slots=True)
class Backtest:
    """What a backtest leaves behind.

    Attributes:
        scores: Over the last 28 days.
        scored_from: Position of the first scored issue.
        gate: Weights and bands as of now.
    """

    scores: Scores
    scored_from: int
    gate: Gate


@dataclass(frozen=True, slots=True)
class Replay:
    """What the experts would have said at many issues, and what came.

    Attributes:
        data: Rows whose target has been measured.
        experts: Forecasts over the level [n, experts].
        measured: Measured over the level [n].
    """

    data: FeatureRows
    experts: Floats
    measured: Floats


def replay(problem: Problem, fitted: Mapping[str, FittedExpert], issues: Iterable[int], leads: int = HORIZON_STEPS) -> Replay:
    """Run fitted experts at every issue, all leads or a seeded sample of them."""
    rows, measured = with_targets(collect(problem, issues, leads, 0), problem.history, before=len(problem.history.values))
    return Replay(rows, np.stack([expert.predict(rows.rows) for expert in fitted.values()], 1), measured)


def fit_before(problem: Problem, training: FeatureRows, cutoff: int, params: FitParams) -> dict[str, FittedExpert]:
    """Fit on targets measured before a position."""
    chosen, target = with_targets(training, problem.history, before=cutoff)
    return fit_all(chosen.rows, target, params)


@dataclass(frozen=True, slots=True)
class Gate:
    """Weights [lead groups, 24, experts] and offsets [lead groups, 24, 5] known at one instant."""

    weights: Floats
    offsets: Floats


def gate_at(problem: Problem, replays: Sequence[Replay], now: int) -> Gate:
    """Gate and bands from targets measured before position ``now``, at most 60 days old."""
    parts = [_known(problem, part, now) for part in replays]
    scored = Scored(*(np.concatenate([getattr(part, name) for part in parts]) for name in _SCORED_FIELDS))
    book = add_scores(ScoreBook.empty(scored.experts.shape[1]), scored)
    recent = book.errors[np.argsort(book.days)[-SCORED_DAYS:]].astype(np.float64)
    weights = weights_of(recent)
    blended = (scored.experts * weights[LEAD_GROUP[scored.lead], scored.quarter // 4]).sum(axis=1)
    final = add_scores(ScoreBook.empty(scored.experts.shape[1]), replace(scored, blended=blended))
    return Gate(weights, offsets_of(final.residuals))


_SCORED_FIELDS: Final = ("day", "quarter", "lead", "measured", "experts", "blended")


def _known(problem: Problem, part: Replay, now: int) -> Scored:
    target = part.data.target
    known = (target < now) & (target >= now - DAYS * DAY_STEPS)
    at = target[known]
    zeros = np.zeros(len(at))
    grid = problem.grid
    return Scored(grid.day[at], grid.quarter[at], part.data.lead[known], part.measured[known], part.experts[known], zeros)


def backtest(problem: Problem, training: FeatureRows, params: FitParams) -> Backtest:
    """Score the last 28 days before the end of the history.

    A first model, fitted on what was known 56 days ago, gives the calibration residuals of the 28 days that follow; a
    second one, fitted on what was known 28 days ago, is scored. Gate and bands of each scored issue use only targets
    measured before it.

    Raises:
        NotEnoughHistoryError: When less than about 14 weeks of history are there.
    """
    end = len(problem.history.values)
    middle, early = end - SCORED_DAYS * DAY_STEPS, end - 2 * SCORED_DAYS * DAY_STEPS
    if early < HISTORY_STEPS + SCORED_DAYS * DAY_STEPS:
        raise NotEnoughHistoryError(
            "load history", "values", f"{end // DAY_STEPS} days", "a backtest needs at least 120 days; 330 are recommended"
        )
    first = fit_before(problem, training, early, params)
    second = fit_before(problem, training, middle, params)
    replays = (
        replay(problem, first, range(early, middle, _CALIBRATION_STRIDE), _CALIBRATION_LEADS),
        replay(problem, second, range(middle, end - 1, _CALIBRATION_STRIDE), _CALIBRATION_LEADS),
    )
    issues = scored_issues(problem, middle)
    scored = replay(problem, second, issues)
    fan = _issue_all(problem, replays, scored)
    return Backtest(_score(problem, fan, len(issues)), middle, gate_at(problem, replays, end))


def scored_issues(problem: Problem, first: int) -> range:
    """Positions of the issues from ``first`` on: every three hours from midnight UTC, as long as a target is measured."""
    to_next = -(_start_quarter(problem) + first) % ISSUE_STEPS
    return range(first + to_next, len(problem.history.values), ISSUE_STEPS)


def _start_quarter(problem: Problem) -> int:
    return to_us(problem.history.start) // (STEP_S * 1_000_000)


def _issue_all(problem: Problem, replays: Sequence[Replay], scored: Replay) -> Fan:
    quantiles = np.empty((len(scored.measured), len(QUANTILES)))
    day = problem.grid.day[scored.data.issue]
    for local_day in np.unique(day):
        rows = day == local_day
        gate = gate_at(problem, replays, int(scored.data.issue[rows].min()))
        target, lead = scored.data.target[rows], scored.data.lead[rows]
        hour = problem.grid.quarter[target] // 4
        blended = (scored.experts[rows] * gate.weights[LEAD_GROUP[lead], hour]).sum(axis=1)
        fan = np.sort(blended[:, None] + gate.offsets[LEAD_GROUP[lead], hour], axis=1)
        quantiles[rows] = fan * scored.data.level[rows, None]
    values, target = problem.history.values, scored.data.target
    return Fan(target, scored.data.lead, quantiles, values[target], values[target - _WEEK])


def _score(problem: Problem, fan: Fan, issues: int) -> Scores:
    hour = (_start_quarter(problem) + fan.target) % DAY_STEPS // 4
    near = fan.lead < SCORED_STEPS
    evening = near & np.isin(hour, _EVENING_UTC)
    median = fan.quantiles[:, QUANTILES.index(0.5)]
    low, p10, _, p90, high = fan.quantiles.T

    def missed(forecast: Floats, which: NDArray[np.bool_]) -> float | None:
        return mape(fan.measured[which], forecast[which]) if which.any() else None

    return Scores(
        scored_horizon_steps=SCORED_STEPS,
        mape=mape(fan.measured[near], median[near]),
        naive_mape=mape(fan.measured[near], fan.naive[near]),
        day_ahead_mape=missed(median, ~near),
        day_ahead_naive_mape=missed(fan.naive, ~near),
        coverage_90=float(((low <= fan.measured) & (fan.measured <= high))[near].mean()),
        coverage_80=float(((p10 <= fan.measured) & (fan.measured <= p90))[near].mean()),
        evening_mape=missed(median, evening),
        evening_naive_mape=missed(fan.naive, evening),
        issues=issues,
    )


def mape(measured: Floats, forecast: Floats) -> float:
    """Mean absolute percentage error, percent; intervals without load are left out."""
    live = np.abs(measured) > 1e-9
    return float(100.0 * np.mean(np.abs(forecast[live] - measured[live]) / np.abs(measured[live])))
