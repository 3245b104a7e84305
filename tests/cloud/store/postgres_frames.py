"""Frames for a store in PostgreSQL whose values name them, and questions asked beside the store."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import psycopg

from tieline_cloud.store.ports import LedgerFrame
from tieline_cloud.store.postgres_store import PostgresStore
from tieline_core.frame import ReadingBatch
from tieline_core.ids import EdgeId, PointId
from tieline_core.messages.telemetry import Stream
from tieline_core.timegrid import to_us

T0 = datetime(2026, 1, 15, 12, tzinfo=UTC)
EDGE = EdgeId("harbour")
ROWS = 100


def frame(seq: int, edge: EdgeId = EDGE, epoch: int = 1) -> LedgerFrame:
    """Frame ``seq`` of a made-up edge: 100 readings of ten points whose values name the frame."""
    points = tuple(PointId(f"{edge}/m{n:02d}/p_w") for n in range(10))
    batch = ReadingBatch(
        points,
        (np.arange(ROWS) % len(points)).astype(np.int32),
        np.arange(ROWS, dtype=np.int64) + (to_us(T0) + seq * ROWS),
        np.full(ROWS, float(seq)),
        np.zeros(ROWS, np.uint8),
    )
    content = f"{edge}/{seq}".encode().hex()[:64].ljust(64, "0")
    return LedgerFrame(edge, epoch, Stream.MEASURE, seq, seq, content, T0, batch)


def counts(store: PostgresStore, edge: EdgeId = EDGE) -> dict[float, int]:
    """How often each frame's number is stored."""
    series = [store.series(point, T0, T0 + timedelta(days=1)).values for point in store.points(edge=edge)]
    return dict(zip(*(column.tolist() for column in np.unique(np.concatenate(series), return_counts=True)), strict=True))


def admin(url: str, query: str, *parameters: object) -> list[tuple[Any, ...]]:
    """Rows of a question asked beside the store."""
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(query.encode(), parameters or None)
        return cursor.fetchall() if cursor.description else []


def end_sessions(url: str, name: str) -> None:
    """End the sessions of a name in a database and wait until they are gone."""
    query = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = current_database() "
    admin(url, query + "AND application_name = %s", name)
