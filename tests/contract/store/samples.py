"""What the conformance suites store."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta

from tieline_cloud.store.ports import LedgerFrame, Store
from tieline_core.frame import ReadingBatch
from tieline_core.ids import EdgeId, PointId
from tieline_core.messages.telemetry import Stream
from tieline_core.quantities import Quality, Reading

T0 = datetime(2026, 1, 15, 12, tzinfo=UTC)
HARBOUR, MILL = EdgeId("harbour"), EdgeId("mill")
LOAD, PV = PointId("harbour/site/load_w"), PointId("harbour/pv1/p_w")
END = T0 + timedelta(days=1)


def reading(point: PointId, value: float | None, second: float, quality: Quality = Quality.GOOD) -> Reading:
    return Reading(point, value, T0 + timedelta(seconds=second), quality)


def frame(seq: int, *readings: Reading, epoch: int = 1, edge: EdgeId = HARBOUR, text: str | None = None) -> LedgerFrame:
    content = text if text is not None else f"{edge}/{seq}/{readings}"
    return LedgerFrame(
        edge,
        epoch,
        Stream.MEASURE,
        seq,
        seq,
        hashlib.sha256(content.encode()).hexdigest(),
        T0,
        ReadingBatch.of(readings) if readings else None,
    )


def values(store: Store, point: PointId = LOAD) -> list[float]:
    return [float(value) for value in store.series(point, T0 - timedelta(days=1), END).values]
