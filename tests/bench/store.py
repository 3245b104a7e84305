"""Questions to the hub's store on a month of quarter-hourly meters, beside sorted Parquet read by DuckDB in the same run.

``METERS=`` (default 100000) and ``DAYS=`` (default 30) set the size: 288 million readings take about 8 GB under ``var/``
and some twenty minutes; ``METERS=2000 DAYS=10 make bench-store`` is done in half a minute. Readings are a seeded random
walk, committed an hour of all meters at a time and rolled up as the hub does it. The peer is the usual form of cold
history: a Parquet file a day (zstd, sorted by meter and time).
"""

from __future__ import annotations

import hashlib
import os
import resource
import shutil
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from tests.bench.result import write
from tieline_cloud.store.duckdb_store import DuckDbStore
from tieline_cloud.store.ports import RollupLevel
from tieline_core.frame import ReadingBatch
from tieline_core.ids import PointId
from tieline_core.timegrid import to_us

START = datetime(2026, 1, 1, tzinfo=UTC)
METERS, DAYS = int(os.environ.get("METERS", "100000")), int(os.environ.get("DAYS", "30"))
END = START + timedelta(days=DAYS)
STEP_US, A_DAY, AN_HOUR = 900_000_000, 96, 4
FEEDERS = 100
POINTS = tuple(PointId(f"feeder{n % FEEDERS:02d}/m{n:06d}/p_w") for n in range(METERS))


def fill(store: DuckDbStore, folder: Path) -> dict[str, float]:
    """Store and write the readings; seconds spent in commits and in roll-ups."""
    rng = np.random.default_rng(0)
    level = rng.gamma(2.0, 300.0, METERS)
    index, commit_s, rollup_s = np.arange(METERS, dtype=np.int32), [], 0.0
    for day in range(DAYS):
        walk = level + np.cumsum(rng.normal(0, 30, (A_DAY, METERS)), axis=0)
        values, level = np.round(walk, 1), walk[-1]
        at_us = to_us(START) + (day * A_DAY + np.arange(A_DAY, dtype=np.int64)) * STEP_US
        for first in range(0, A_DAY, AN_HOUR):
            part = values[first : first + AN_HOUR].ravel()
            instants = np.repeat(at_us[first : first + AN_HOUR], METERS)
            batch = ReadingBatch(POINTS, np.tile(index, AN_HOUR), instants, part, np.zeros(len(part), np.uint8))
            key, now = f"{day}/{first}", START + timedelta(days=day, minutes=15 * (first + AN_HOUR))
            begun_s = time.perf_counter()
            store.ingest_once(batch, "bench", key, hashlib.sha256(key.encode()).hexdigest(), now)
            commit_s.append(time.perf_counter() - begun_s)
            begun_s = time.perf_counter()
            store.roll_up(now + timedelta(minutes=10), 60.0)
            rollup_s += time.perf_counter() - begun_s
        table = pa.table({"meter": np.repeat(index, A_DAY), "at_us": np.tile(at_us, METERS), "value": values.T.ravel()})
        pq.write_table(table, folder / f"{day:03d}.parquet", compression="zstd", row_group_size=122_880)
    return {
        "commit_s": sum(commit_s),
        "commit_p50_ms": float(np.percentile(commit_s, 50)) * 1e3,
        "commit_p99_ms": float(np.percentile(commit_s, 99)) * 1e3,
        "roll_up_s": rollup_s,
    }


def percentiles(work: Callable[[int], object], repeats: int) -> dict[str, float]:
    """Milliseconds of calls, each with another number."""
    work(0)
    spent = []
    for n in range(repeats):
        begun_s = time.perf_counter()
        work(n + 1)
        spent.append((time.perf_counter() - begun_s) * 1e3)
    return {"p50_ms": float(np.percentile(spent, 50)), "p99_ms": float(np.percentile(spent, 99))}


def own_questions(store: DuckDbStore, meters: NDArray[np.int64]) -> dict[str, tuple[Callable[[int], object], int]]:
    """What is asked, and how often."""
    groups = {f"feeder{n:02d}": POINTS[n::FEEDERS] for n in range(FEEDERS)}
    day, last_day = timedelta(days=1), END - timedelta(days=1)

    def some_day(n: int) -> datetime:
        return START + timedelta(days=n * 7 % DAYS)

    return {
        "one meter 24 h": (lambda n: store.series(POINTS[meters[n]], some_day(n), some_day(n) + day), 100),
        "sum by feeder by hour of a day": (lambda _n: store.aggregate(groups, RollupLevel.HOUR, last_day, END, "sum"), 10),
        "latest of all": (lambda _n: store.last(), 10),
        "one meter 30 days by hour": (lambda n: store.rollups([POINTS[meters[n]]], RollupLevel.HOUR, START, END), 50),
        "one meter 30 days by day": (lambda n: store.rollups([POINTS[meters[n]]], RollupLevel.DAY, START, END), 50),
    }


def peer_questions(
    peer: duckdb.DuckDBPyConnection, folder: Path, meters: NDArray[np.int64]
) -> dict[str, Callable[[int], object]]:
    """The same of the Parquet files."""

    def file(day: int) -> str:
        return f"'{folder}/{day:03d}.parquet'"

    def ask(sql: str) -> object:
        return peer.execute(sql).fetchnumpy()

    def means(meter: int, step_us: int) -> object:
        return ask(
            f"SELECT at_us // {step_us} AS t, avg(value), min(value), max(value), count(*) FROM '{folder}/*.parquet' "  # noqa: S608 (ours)
            f"WHERE meter = {meter} GROUP BY 1"
        )

    last_day = file(DAYS - 1)
    one = "SELECT at_us, value FROM {0} WHERE meter = {1} ORDER BY 1"
    sums = (
        "SELECT meter % 100 AS feeder, hour_us, sum(value) FROM (SELECT meter, at_us // 3600000000 AS hour_us, "  # noqa: S608 (ours)
        f"avg(value) AS value FROM {last_day} GROUP BY 1, 2) GROUP BY 1, 2"
    )
    latest = f"SELECT meter, max(at_us), arg_max(value, at_us) FROM {last_day} GROUP BY 1"  # noqa: S608 (ours)
    return {
        "one meter 24 h": lambda n: ask(one.format(file(n * 7 % DAYS), meters[n])),
        "sum by feeder by hour of a day": lambda _n: ask(sums),
        "latest of all": lambda _n: ask(latest),
        "one meter 30 days by hour": lambda n: means(int(meters[n]), 3_600_000_000),
        "one meter 30 days by day": lambda n: means(int(meters[n]), 86_400_000_000),
    }


def opened_s(path: Path) -> float:
    """Seconds a start takes until last values are known."""
    begun_s = time.perf_counter()
    with DuckDbStore(path) as store:
        assert len(store.last()) == METERS
        return time.perf_counter() - begun_s


def main() -> None:
    """Measure and write var/bench/store.json."""
    base = Path("var/bench/store")
    base.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=base))
    path = folder / "hub.duckdb"
    figures: dict[str, Any] = {"meters": METERS, "days": DAYS, "readings": METERS * DAYS * A_DAY}
    try:
        with DuckDbStore(path) as store:
            figures["fill"] = fill(store, folder)
        meters = np.random.default_rng(1).integers(0, METERS, 200)
        with closing(duckdb.connect(config={"threads": 1})) as connection:
            peer_times = {name: percentiles(work, 10) for name, work in peer_questions(connection, folder, meters).items()}
        with DuckDbStore(path) as store:
            figures["rolled_up_parts"] = store.statistics().rollups
            own = {name: percentiles(work, repeats) for name, (work, repeats) in own_questions(store, meters).items()}
        figures["questions"] = {
            name: {**times, "peer": peer_times[name], "ratio_p50": peer_times[name]["p50_ms"] / times["p50_ms"]}
            for name, times in own.items()
        }
        figures["start_s"] = opened_s(path)
        with closing(duckdb.connect(str(path))) as connection:
            connection.execute("UPDATE progress SET position = 0 WHERE name = 'last'")
        figures["start_without_last_values_s"] = opened_s(path)
        figures["bytes_per_reading"] = path.stat().st_size / figures["readings"]
        figures["peer"] = "a Parquet file a day (zstd, sorted by meter), DuckDB, 1 thread as ours"
        figures["peer_bytes_per_reading"] = sum(f.stat().st_size for f in folder.glob("*.parquet")) / figures["readings"]
        figures["rss_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        write("store", figures, ("duckdb", "pyarrow", "numpy"))
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
