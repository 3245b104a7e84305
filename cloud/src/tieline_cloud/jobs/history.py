"""Quarter-hour history of a point out of the store."""

from __future__ import annotations

from datetime import datetime

import numpy as np

from tieline_cloud.store.ports import ReadingQuery, Series
from tieline_core.forecast_inputs import STEP, STEP_S, LoadHistory, QuarterHours, fill_gaps, issue_instant
from tieline_core.ids import PointId
from tieline_core.timegrid import to_us


def quarter_hours(series: Series, start: datetime, end: datetime) -> QuarterHours:
    """Lay means on the full grid of quarter hours in [start, end); start lies on the quarter hour."""
    steps = max(0, (end - start) // STEP)
    values, present = np.zeros(steps), np.zeros(steps, dtype=bool)
    position = (series.at_us - to_us(start)) // (STEP_S * 1_000_000)
    inside = (position >= 0) & (position < steps) & np.isfinite(series.values)
    values[position[inside]] = series.values[inside]
    present[position[inside]] = True
    return QuarterHours(start, values, present)


def histories(query: ReadingQuery, points: list[PointId], start: datetime, now: datetime) -> dict[PointId, LoadHistory]:
    """Filled histories up to the last whole quarter hour, of the points that have any.

    Raises:
        NotEnoughHistoryError: When more than a fifth of a point's quarter hours is missing.
    """
    first, end = issue_instant(start), issue_instant(now)
    means = query.means(points, first, end, STEP_S)
    return {
        point: fill_gaps(quarter_hours(means[point], first, end))
        for point in points
        if point in means and len(means[point].at_us)
    }
