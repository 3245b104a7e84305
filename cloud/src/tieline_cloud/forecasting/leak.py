"""The leak test: whatever happens after an instant must not change anything a forecast of that instant is made from."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, datetime
from zoneinfo import ZoneInfo

import numpy as np

from tieline_cloud.forecasting.dataset import Problem, collect, training_issues, with_targets
from tieline_cloud.forecasting.experts import FitParams
from tieline_cloud.forecasting.graph import feature_model
from tieline_cloud.forecasting.runtime import run, session
from tieline_core.errors import PermanentError
from tieline_core.forecast_inputs import LoadHistory


class LeakError(PermanentError):
    """Something not yet known reached a forecast or a fit."""


def check_leak(
    history: LoadHistory, issue: datetime, zone: ZoneInfo, holidays: Iterable[date], params: FitParams, seed: int = 0
) -> None:
    """Perturb every value and flag at and after the issue and compare what is made from them.

    Compared are the model's inputs and features at the issue, and the rows and targets a fit as of the issue would get.
    Gate and bands follow from the same rows (:func:`tieline_cloud.forecasting.backtest.gate_at` reads targets before ``now``).

    Args:
        history: Reaches beyond the issue, otherwise there is nothing to perturb.
        issue: On the quarter hour.
        zone: Time zone of the site.
        holidays: Known ahead, so they are not perturbed.
        params: How training rows are sampled.
        seed: Of the perturbation.

    Raises:
        LeakError: Naming what changed.
    """
    at = history.index(issue)
    later = len(history.values) - at
    if later <= 0:
        raise LeakError(f"the history ends before {issue.isoformat()}: nothing can be perturbed")
    random = np.random.default_rng(seed)
    values, flags = history.values.copy(), history.substituted.copy()
    values[at:] = values[at:] * random.uniform(2, 5, later) + 1e4
    flags[at:] = random.random(later) < 0.3
    days = tuple(holidays)
    features = session(feature_model())
    truth, other = (
        _known_at(Problem.of(past, zone, days, features), at, params)
        for past in (history, LoadHistory(history.start, values, flags))
    )
    for name, array in truth.items():
        if array.shape != other[name].shape or not np.array_equal(array, other[name]):
            raise LeakError(f"{name}: values after {issue.isoformat()} changed it")


def _known_at(problem: Problem, at: int, params: FitParams) -> dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float32]]]:
    inputs = problem.inputs(at)
    known = {f"input {name}": np.asarray(array, dtype=np.float32) for name, array in inputs.items()}
    known |= {f"feature {name}": array for name, array in run(problem.features, inputs).items()}
    issues = [place for place in training_issues(problem.history, params.issue_stride) if place <= at]
    rows, target = with_targets(collect(problem, issues, params.rows_an_issue, params.seed), problem.history, before=at)
    known |= {"training columns": rows.rows.columns, "training design": rows.rows.design}
    return known | {"training target": target.astype(np.float32), "training level": rows.level}
