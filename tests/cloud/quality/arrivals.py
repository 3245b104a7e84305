"""Arrivals from rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from tests.cloud.quality.row_by_row import Row
from tieline_cloud.store.ports import Arrival
from tieline_core.ids import PointId


def arrival(rows: Sequence[Row], names: Mapping[int, str]) -> Arrival:
    """The rows as columns, in their order."""
    return Arrival(
        np.array([row.point for row in rows], np.int32),
        np.array([row.at_us for row in rows], np.int64),
        np.array([row.value for row in rows], np.float64),
        np.array([row.quality for row in rows], np.uint8),
        np.array([row.received_us for row in rows], np.int64),
        lambda number: PointId(names[number]),
    )
