"""Forecasts of points without a model: the weekly naive, and the seasonal one for feeder heads."""

from __future__ import annotations

from datetime import datetime

from tieline_core.forecast_baseline import Method, baseline_quantiles, last_week, same_weekday_median
from tieline_core.forecast_gate import to_issued
from tieline_core.forecast_inputs import LoadHistory
from tieline_core.ids import PointId
from tieline_core.messages.telemetry import IssuedForecast


def weekly_naive(point: PointId, history: LoadHistory, issue: datetime) -> IssuedForecast:
    """The same quarter hour seven days before; the yardstick of every model.

    Raises:
        NotEnoughHistoryError: With less than a week of history.
    """
    return _issued(point, history, issue, "baseline:weekly-naive", last_week)


def seasonal(point: PointId, history: LoadHistory, issue: datetime) -> IssuedForecast:
    """Median of the same quarter hour of the last four weeks, with the bands of its past misses.

    Raises:
        NotEnoughHistoryError: With less than a week of history.
    """
    return _issued(point, history, issue, "baseline:seasonal", same_weekday_median)


def _issued(point: PointId, history: LoadHistory, issue: datetime, name: str, method: Method) -> IssuedForecast:
    return to_issued(point, name, issue, baseline_quantiles(history, issue, method))
