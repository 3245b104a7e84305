"""Bytes per reading on the wire and at rest: durable frames against Sparkplug B and JSON, plain and under zstd.

``python -m tests.bench.wire [METERS.parquet]``, or ``METERS_FILE=... make bench-wire``; without a file the data are seeded
random walks. Two shapes of a thousand readings: every meter once, as an edge sends while it is connected, and 50 instants
of 20 meters, as a backlog of a small site. At rest: the hub's ledger after a checkpoint, against rows in SQLite.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import sys
import tempfile
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import zstandard

from tests.bench.ingest_load.source import SECOND_US, EdgeSource, read_meters
from tests.bench.result import write
from tieline_cloud.store.duckdb_store import DuckDbStore
from tieline_cloud.store.ports import LedgerFrame
from tieline_core.frame import Frame, ReadingBatch, encode, encode_batch
from tieline_core.ids import EdgeId
from tieline_core.messages.telemetry import FrameKind, Stream
from tieline_core.quantities import Quality
from tieline_core.sparkplug.metric import DataType, Metric, Payload, quality_properties
from tieline_core.sparkplug.payload import encode as encode_sparkplug
from tieline_core.timegrid import from_us

FRAMES, AT_REST = 50, 1000
EDGE = EdgeId("harbour")
START_US = int(datetime(2026, 1, 15, tzinfo=UTC).timestamp()) * SECOND_US
STEP_US = 900 * SECOND_US


def joined(batches: list[ReadingBatch]) -> ReadingBatch:
    """Batches over the same points as one."""
    return ReadingBatch(
        batches[0].points,
        np.concatenate([batch.point_index for batch in batches]),
        np.concatenate([batch.at_us for batch in batches]),
        np.concatenate([batch.values for batch in batches]),
        np.concatenate([batch.quality for batch in batches]),
    )


def as_frame(batch: ReadingBatch) -> bytes:
    """A durable frame, whole."""
    return encode(Frame(EDGE, 3, Stream.MEASURE, 12345, FrameKind.READINGS, encode_batch(batch)))


def as_sparkplug(batch: ReadingBatch) -> bytes:
    """One NDATA payload: aliases of the birth, a timestamp each, quality where it is not good."""
    rows = zip(batch.point_index.tolist(), batch.at_us.tolist(), batch.values.tolist(), batch.quality.tolist(), strict=True)
    metrics = tuple(
        Metric(
            alias=index,
            datatype=DataType.DOUBLE,
            timestamp_ms=at_us // 1000,
            value=value,
            properties={} if quality == Quality.GOOD else quality_properties(Quality(quality)),
        )
        for index, at_us, value, quality in rows
    )
    return encode_sparkplug(Payload(timestamp_ms=START_US // 1000, seq=7, metrics=metrics))


def as_json(batch: ReadingBatch) -> bytes:
    """An array of objects, as most gateways send it."""
    rows = [
        {"point": reading.point, "at": reading.measured_at.isoformat(), "value": reading.value, "quality": reading.quality.name}
        for reading in batch.readings()
    ]
    return json.dumps(rows, separators=(",", ":")).encode()


def wire(source: EdgeSource, instants: int) -> dict[str, Any]:
    """Mean bytes per reading of each format over some frames, and their ratios to ours."""
    packer = zstandard.ZstdCompressor(3)
    sizes: dict[str, int] = {}
    readings = 0
    for number in range(FRAMES):
        first_us = START_US + number * instants * STEP_US
        batch = joined([source.batch(first_us + k * STEP_US) for k in range(instants)])
        readings += len(batch)
        made = {"tieline": as_frame(batch), "sparkplug": as_sparkplug(batch), "json": as_json(batch)}
        for name, data in made.items():
            sizes[name] = sizes.get(name, 0) + len(data)
            sizes[f"{name}_zstd"] = sizes.get(f"{name}_zstd", 0) + len(packer.compress(data))
    each = {name: size / readings for name, size in sizes.items()}
    ratios = {name: size / each["tieline"] for name, size in each.items() if name != "tieline"}
    return {"bytes_per_reading": each, "ratio_to_tieline": ratios}


def at_rest(source: EdgeSource) -> dict[str, float]:
    """Bytes per reading of the closed ledger and of SQLite rows with the same content."""
    with tempfile.TemporaryDirectory() as folder:
        path, peer_path, readings = Path(folder) / "hub.duckdb", Path(folder) / "peer.sqlite", 0
        with DuckDbStore(path) as store, closing(sqlite3.connect(peer_path)) as peer:
            store.grant_epoch(EDGE, from_us(START_US))
            peer.execute("CREATE TABLE readings (point, at_us, value, quality)")
            for commit in range(AT_REST // 50):
                frames = []
                for seq in range(commit * 50 + 1, commit * 50 + 51):
                    batch = source.batch(START_US + seq * STEP_US)
                    digest = hashlib.sha256(batch.values.tobytes()).hexdigest()
                    frames.append(LedgerFrame(EDGE, 1, Stream.MEASURE, seq, seq, digest, from_us(int(batch.at_us[0])), batch))
                    columns = (batch.point_index, batch.at_us, batch.values, batch.quality)
                    rows = zip(*(column.tolist() for column in columns), strict=True)
                    peer.executemany("INSERT INTO readings VALUES (?, ?, ?, ?)", rows)
                    readings += len(batch)
                store.commit(frames)
            peer.commit()
        own, other = path.stat().st_size / readings, peer_path.stat().st_size / readings
    return {"ledger_bytes_per_reading": own, "sqlite_rows_bytes_per_reading": other, "ratio": other / own}


def main() -> None:
    """Measure and write var/bench/wire.json."""
    file = sys.argv[1] if len(sys.argv) > 1 else os.environ.get("METERS_FILE")
    real = None if file is None else read_meters(Path(file))
    figures = {
        "data": file or "seeded random walks",
        "every_meter_once": wire(EdgeSource.of(EDGE, 1000, 1, real), 1),
        "backlog_of_20_meters": wire(EdgeSource.of(EDGE, 20, 2, real), 50),
        "at_rest": at_rest(EdgeSource.of(EDGE, 1000, 3, real)),
    }
    write("wire", figures, ("zstandard", "protobuf", "duckdb"))


if __name__ == "__main__":
    main()
