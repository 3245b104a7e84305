"""Durable commits of the hub's ledgers: readings and watermark in one transaction, against SQLite rows in the same run.

Frames of 1,000 seeded readings of 120 points, ten frames a commit, into DuckDB and into PostgreSQL (a server of the bench's
own on loopback, fsync on); the peer inserts the same rows into SQLite (WAL, synchronous=FULL) with a watermark row, also ten
frames a transaction. Bytes at rest are those of the files, for PostgreSQL of the tables with their indexes.
"""

from __future__ import annotations

import hashlib
import sqlite3
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import psycopg
from numpy.typing import NDArray

from tests.bench.result import write
from tests.postgres_server import postgres_server
from tieline_cloud.store.duckdb_store import DuckDbStore
from tieline_cloud.store.ports import LedgerFrame, Store
from tieline_cloud.store.postgres_store import PostgresStore
from tieline_core.frame import ReadingBatch
from tieline_core.ids import EdgeId, PointId
from tieline_core.messages.telemetry import Stream
from tieline_core.timegrid import to_us

START = datetime(2026, 1, 15, tzinfo=UTC)
EDGE = EdgeId("harbour")
POINTS = tuple(PointId(f"harbour/m{n:03d}/p_w") for n in range(120))
ROWS, FRAMES, COMMITS = 1000, 10, 100


def batches() -> list[list[LedgerFrame]]:
    """What is committed, a list a commit."""
    rng = np.random.default_rng(0)
    index = np.arange(ROWS, dtype=np.int32) % len(POINTS)
    spread = np.arange(ROWS, dtype=np.int64) * 1000
    commits = []
    for commit in range(COMMITS):
        frames = []
        for seq in range(commit * FRAMES + 1, (commit + 1) * FRAMES + 1):
            values = np.round(2000 + rng.normal(0, 300, ROWS), 1)
            batch = ReadingBatch(POINTS, index, to_us(START) + spread + seq * 1_000_000, values, np.zeros(ROWS, np.uint8))
            sha256 = hashlib.sha256(values.tobytes()).hexdigest()
            frames.append(LedgerFrame(EDGE, 1, Stream.MEASURE, seq, seq, sha256, START, batch))
        commits.append(frames)
    return commits


def timed(commit: Callable[[list[LedgerFrame]], object], commits: list[list[LedgerFrame]]) -> NDArray[np.float64]:
    """Seconds of each commit."""
    seconds = []
    for frames in commits:
        started_s = time.perf_counter()
        commit(frames)
        seconds.append(time.perf_counter() - started_s)
    return np.array(seconds)


def sqlite_commit(peer: sqlite3.Connection, frames: list[LedgerFrame]) -> None:
    """The same content as plain rows."""
    with peer:
        for frame in frames:
            if frame.readings is not None:
                columns = frame.readings
                rows = zip(
                    columns.point_index.tolist(),
                    columns.at_us.tolist(),
                    columns.values.tolist(),
                    columns.quality.tolist(),
                    strict=True,
                )
                peer.executemany("INSERT INTO readings VALUES (?, ?, ?, ?)", rows)
        peer.execute("INSERT OR REPLACE INTO marks VALUES (?, ?)", (EDGE, frames[-1].seq))


def ledger(store: Store, commits: list[list[LedgerFrame]], rows: int) -> dict[str, float]:
    """Figures of one ledger."""
    store.grant_epoch(EDGE, START)
    seconds = timed(store.commit, commits)
    started_s = time.perf_counter()
    store.means(POINTS[:3], START, START + timedelta(days=1), 900)
    means_s = time.perf_counter() - started_s
    started_s = time.perf_counter()
    store.series(POINTS[0], START, START + timedelta(days=1))
    series_s = time.perf_counter() - started_s
    started_s = time.perf_counter()
    progress = store.roll_up(START + timedelta(days=2), 120.0)
    fold_s = time.perf_counter() - started_s
    if progress.waiting:
        raise RuntimeError(f"{progress.waiting} readings are not rolled up")
    return {
        "readings_per_s": rows / seconds.sum(),
        "commit_p50_ms": float(np.percentile(seconds, 50)) * 1e3,
        "commit_p99_ms": float(np.percentile(seconds, 99)) * 1e3,
        "means_of_3_points_a_day_ms": means_s * 1e3,
        "readings_of_1_point_a_day_ms": series_s * 1e3,
        "roll_up_readings_per_s": rows / fold_s,
    }


def in_postgresql(commits: list[list[LedgerFrame]], rows: int) -> dict[str, float]:
    """Figures of PostgreSQL."""
    with postgres_server(shared_buffers="512MB", max_wal_size="4GB") as server, server.database() as url:
        with PostgresStore(url) as store:
            figures = ledger(store, commits, rows)
        with psycopg.connect(url) as connection:
            size = "SELECT sum(pg_total_relation_size(oid)) FROM pg_class WHERE relkind = 'r' AND relname ~ %s"
            for name, pattern in (("readings", "^(chunks|positions)"), ("frames", "^frames"), ("roll_ups", "^rollups")):
                found = connection.execute(size, [pattern]).fetchall()[0][0]
                figures[f"{name}_bytes_per_reading"] = float(found or 0) / rows
    return figures


def main() -> None:
    """Measure and write var/bench/ledger.json."""
    commits = batches()
    rows = ROWS * FRAMES * COMMITS
    with tempfile.TemporaryDirectory() as folder:
        with DuckDbStore(Path(folder) / "hub.duckdb") as store:
            own = ledger(store, commits, rows)
        own["bytes_per_reading"] = (Path(folder) / "hub.duckdb").stat().st_size / rows
        postgresql = in_postgresql(commits, rows)
        with closing(sqlite3.connect(Path(folder) / "peer.sqlite")) as peer:
            peer.executescript(
                "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; CREATE TABLE readings (p, at, v, q);"
                "CREATE TABLE marks (edge PRIMARY KEY, seq)"
            )
            peer_s = timed(lambda frames: sqlite_commit(peer, frames), commits)
            peer.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        peer_bytes = (Path(folder) / "peer.sqlite").stat().st_size / rows
    peer_rate = rows / peer_s.sum()
    stored = sum(postgresql[f"{name}_bytes_per_reading"] for name in ("readings", "frames", "roll_ups"))
    figures = own | {
        "postgresql": postgresql | {"bytes_per_reading": stored, "ratio": postgresql["readings_per_s"] / peer_rate},
        "peer": "SQLite rows, WAL, synchronous=FULL",
        "peer_readings_per_s": peer_rate,
        "peer_bytes_per_reading": peer_bytes,
        "ratio": own["readings_per_s"] / peer_rate,
    }
    write("ledger", figures, ("duckdb", "psycopg", "pyarrow", "numpy"))


if __name__ == "__main__":
    main()
