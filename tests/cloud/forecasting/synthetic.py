"""A load that is cheap to fit: day, week and season with seeded noise, and the small sizes tests fit with."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

import numpy as np

from tieline_cloud.forecasting.experts import FitParams
from tieline_cloud.forecasting.training import TrainingRequest
from tieline_core.forecast_inputs import DAY_STEPS, STEP, LoadHistory
from tieline_core.ids import PointId

POINT: Final = PointId("harbour/site/load_w")
NOW: Final = datetime(2016, 12, 7, 15, 30, tzinfo=UTC)
SMALL: Final = FitParams(trees=25, leaves=6, learning_rate=0.15, rows_an_issue=12, issue_stride=41)


def synthetic_history(days: int = 130, seed: int = 3, noise: float = 0.05, end: datetime = NOW) -> LoadHistory:
    """A substation of about 400 kW: lower at night and on weekends, rising towards winter, with noise and slow weather."""
    steps = np.arange(days * DAY_STEPS)
    start = end - STEP * len(steps)
    quarter = (steps + int((start - datetime(2016, 1, 1, tzinfo=UTC)) / STEP)) % (7 * DAY_STEPS)
    hour = quarter % DAY_STEPS / 4
    # 1 January 2016 was a Friday.
    weekend = np.isin(quarter // DAY_STEPS, (1, 2))
    shape = 1.0 + 0.4 * np.sin((hour - 7) / 24 * 2 * np.pi) + 0.3 * np.exp(-(((hour - 17.5) / 2) ** 2)) - 0.2 * weekend
    random = np.random.default_rng(seed)
    weather = np.repeat(np.cumsum(random.normal(0, 0.02, days)) * 0.3, DAY_STEPS)
    values = 4e5 * shape * (1 + 0.001 * steps / DAY_STEPS + weather) * (1 + noise * random.standard_normal(len(steps)))
    return LoadHistory(start, values, np.zeros(len(steps), dtype=bool))


def small_request(history: LoadHistory | None = None, now: datetime = NOW) -> TrainingRequest:
    """A request that fits in about two seconds."""
    return TrainingRequest(
        POINT, history or synthetic_history(), "Europe/Berlin", "DE", now + timedelta(minutes=3), params=SMALL
    )
