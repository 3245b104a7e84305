"""Durable commits of the hub's ledger: readings and watermark in one transaction, against SQLite rows in the same run.

Frames of 1,000 seeded readings of 120 points, ten frames a commit; the peer inserts the same rows into SQLite (WAL,
synchronous=FULL) with a watermark row, also ten frames a transaction.
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
from numpy.typing import NDArray

from tests.bench.result import write
from tieline_cloud.store.duckdb_store import DuckDbStore
from tieline_cloud.store.ports import LedgerFrame
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


def main() -> None:
    """Measure and write var/bench/ledger.json."""
    commits = batches()
    rows = ROWS * FRAMES * COMMITS
    with tempfile.TemporaryDirectory() as folder:
        with DuckDbStore(Path(folder) / "hub.duckdb") as store:
            store.grant_epoch(EDGE, START)
            own_s = timed(store.commit, commits)
            started_s = time.perf_counter()
            store.means(POINTS[:3], START, START + timedelta(days=1), 900)
            query_s = time.perf_counter() - started_s
        with closing(sqlite3.connect(Path(folder) / "peer.sqlite")) as peer:
            peer.executescript(
                "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; CREATE TABLE readings (p, at, v, q);"
                "CREATE TABLE marks (edge PRIMARY KEY, seq)"
            )
            peer_s = timed(lambda frames: sqlite_commit(peer, frames), commits)
    figures = {
        "readings_per_s": rows / own_s.sum(),
        "commit_p50_ms": float(np.percentile(own_s, 50)) * 1e3,
        "commit_p99_ms": float(np.percentile(own_s, 99)) * 1e3,
        "peer": "SQLite rows, WAL, synchronous=FULL",
        "peer_readings_per_s": rows / peer_s.sum(),
        "ratio": float(peer_s.sum() / own_s.sum()),
        "means_of_3_points_a_day_ms": query_s * 1e3,
    }
    write("ledger", figures, ("duckdb", "pyarrow", "numpy"))


if __name__ == "__main__":
    main()
