"""Forecasts without a model: what an edge falls back to, and what the hub uses where nothing is trained.

Numpy only, one copy for hub and edge. Bands are the quantiles of the same method's misses in the weeks the history holds.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Final

import numpy as np

from tieline_core.forecast_inputs import DAY_STEPS, HORIZON_STEPS, QUANTILES, Floats, Ints, LoadHistory, NotEnoughHistoryError

_WEEK: Final = 7 * DAY_STEPS
#: Without a week of misses to learn from, the bands are these shares of the forecast around it.
_BLIND_SPREAD: Final = (-0.5, -0.35, 0.0, 0.35, 0.5)
#: A baseline's bands are drawn a little wider than its past misses: it does not know what a model would.
_WIDER: Final = 1.2

Method = Callable[[Floats, Ints], Floats]


def last_week(values: Floats, at: Ints) -> Floats:
    """The same quarter hour seven days before."""
    earlier: Floats = values[at - _WEEK]
    return earlier


def same_weekday_median(values: Floats, at: Ints) -> Floats:
    """Median of the same quarter hour of the last four weeks, as far as they are there."""
    back = [at - week * _WEEK for week in (1, 2, 3, 4)]
    weeks = [np.where(place >= 0, values[np.maximum(place, 0)], np.nan) for place in back]
    result: Floats = np.nanmedian(np.stack(weeks), axis=0)
    return result


def last_day(values: Floats, at: Ints) -> Floats:
    """The latest known day, repeated."""
    back = DAY_STEPS * (1 + np.maximum(0, at - len(values)) // DAY_STEPS)
    earlier: Floats = values[at - back]
    return earlier


def baseline_quantiles(history: LoadHistory, issue: datetime, method: Method) -> Floats:
    """Quantiles [192, 5] of a baseline, in the point's unit, ascending.

    Args:
        history: Filled history; only what lies before ``issue`` is read.
        issue: Issue instant, on the quarter hour.
        method: One of the functions above.

    Raises:
        NotEnoughHistoryError: When the method has nothing to look back to.
    """
    values = history.values[: max(0, history.index(issue))]
    need = DAY_STEPS if method is last_day else _WEEK
    if len(values) < need or history.index(issue) > len(history.values):
        have = f"{len(values)} quarter hours"
        raise NotEnoughHistoryError("load history", "values", have, f"{method.__name__} needs {need} up to {issue.isoformat()}")
    point = method(values, len(values) + np.arange(HORIZON_STEPS))
    past = np.arange(need, len(values))
    if len(past) < _WEEK:
        return np.sort(point[:, None] + np.abs(point)[:, None] * np.array(_BLIND_SPREAD), axis=1)
    misses = values[past] - method(values, past)
    spread = _WIDER * np.quantile(misses, QUANTILES)
    spread[QUANTILES.index(0.5)] = 0.0
    return np.sort(point[:, None] + spread, axis=1)


def fallback_quantiles(history: LoadHistory, issue: datetime) -> tuple[str, Floats] | None:
    """The best baseline the history allows, with its name; None when not even one day is there."""
    for name, method in (("weekly-naive", last_week), ("last-day", last_day)):
        try:
            return name, baseline_quantiles(history, issue, method)
        except NotEnoughHistoryError:
            continue
    return None
