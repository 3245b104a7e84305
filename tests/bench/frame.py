"""Frames of 1,000 meter readings: bytes on the wire and rates of the codec, against JSON in the same run.

Data are seeded random walks at the resolution of a meter, 50 readings each of 20 points; real meter data as an argument
comes with the ingest benchmark.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import numpy as np
import zstandard

from tests.bench.result import median_s, write
from tieline_core.frame import decode_readings, encode_batch, encode_readings
from tieline_core.ids import PointId
from tieline_core.quantities import Reading

POINTS, EACH, START = 20, 50, datetime(2016, 12, 7, 17, tzinfo=UTC)


def readings() -> list[Reading]:
    """One frame's worth of readings."""
    rng = np.random.default_rng(0)
    walks = 2000 + rng.normal(0, 30, (POINTS, EACH)).cumsum(axis=1)
    jitter = rng.integers(0, 900_000, POINTS)
    return [
        Reading(
            PointId(f"harbour/m{point:02d}/p_w"),
            round(float(value), 1),
            START + timedelta(seconds=60 * k, microseconds=int(jitter[point])),
        )
        for point, walk in enumerate(walks)
        for k, value in enumerate(walk)
    ]


def main() -> None:
    """Measure and write var/bench/frame.json."""
    rows = readings()
    body = encode_readings(rows)
    batch = decode_readings(body)
    as_rows = [{"point": r.point, "at": r.measured_at.isoformat(), "value": r.value, "quality": r.quality.name} for r in rows]
    text = json.dumps(as_rows).encode()
    packed = zstandard.ZstdCompressor(3).compress(text)
    codec_s, peer_s = median_s(lambda: decode_readings(body), 50), median_s(lambda: json.loads(text), 50)
    figures = {
        "bytes_per_reading": len(body) / len(rows),
        "peer": "JSON rows under zstd",
        "peer_bytes_per_reading": len(packed) / len(rows),
        "bytes_ratio": len(packed) / len(body),
        "encode_batch_readings_per_s": len(rows) / median_s(lambda: encode_batch(batch), 50),
        "decode_readings_per_s": len(rows) / codec_s,
        "peer_decode_readings_per_s": len(rows) / peer_s,
        "decode_ratio": peer_s / codec_s,
    }
    write("frame", figures, ("numpy", "zstandard"))


if __name__ == "__main__":
    main()
