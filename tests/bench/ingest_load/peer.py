"""The peer: the same readings into a real VictoriaMetrics, as client points and as raw line protocol.

Its acknowledgement is not durable (it keeps what it took in memory for seconds), so that the comparison favours it.
"""

from __future__ import annotations

import shutil
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from influxdb_client.client.influxdb_client import InfluxDBClient
from influxdb_client.client.write.point import Point
from influxdb_client.client.write_api import SYNCHRONOUS
from influxdb_client.domain.write_precision import WritePrecision

from deploy.demo.processes import Crew
from deploy.ports import free_port
from tests.bench.ingest_load.processes import cpu_s, rss_bytes
from tests.bench.ingest_load.source import SECOND_US, EdgeSource
from tests.bench.ingest_load.stage import listens
from tieline_core.frame import ReadingBatch
from tieline_core.ids import EdgeId

_FRAMES_A_REQUEST = 10


def _batches(frames: int, meters: int, seed: int) -> Iterator[ReadingBatch]:
    sources = [EdgeSource.of(EdgeId(f"virtual-{n:03d}"), meters, seed + n, None) for n in range(10)]
    start_us = (int(time.time()) - 7200) * SECOND_US  # noqa: TID251 (a benchmark's own clock)
    for frame in range(frames):
        yield sources[frame % len(sources)].batch(start_us + frame // len(sources) * SECOND_US)


def _lines(batch: ReadingBatch) -> list[str]:
    rows = zip(batch.points, batch.at_us.tolist(), batch.values.tolist(), strict=True)
    return [f"reading,point={point} value={value} {at_us // 1000}" for point, at_us, value in rows]


def _post(port: int, lines: list[str]) -> int:
    url = f"http://127.0.0.1:{port}/api/v2/write?precision=ms"
    with urllib.request.urlopen(urllib.request.Request(url, "\n".join(lines).encode()), timeout=60) as answer:
        answer.read()
    return len(lines)


def _points(port: int, batches: Iterator[ReadingBatch]) -> int:
    sent = 0
    make: Any = Point  # the client is not typed
    with (
        InfluxDBClient(f"http://127.0.0.1:{port}", token="none", org="none") as client,  # noqa: S106 (the peer asks for none)
        client.write_api(write_options=SYNCHRONOUS) as writer,
    ):
        for batch in batches:
            rows = zip(batch.points, batch.at_us.tolist(), batch.values.tolist(), strict=True)
            points = [
                make("reading").tag("point", point).field("value", value).time(at_us // 1000, WritePrecision.MS)
                for point, at_us, value in rows
            ]
            writer.write("bench", "none", points, write_precision=WritePrecision.MS)
            sent += len(points)
    return sent


def _join(parts: list[list[str]]) -> list[str]:
    return [line for lines in parts for line in lines]


def measure(folder: Path, meters: int, seed: int) -> dict[str, Any]:
    """Readings a second through each of the two doors, and the server's CPU."""
    program = shutil.which("victoria-metrics")
    if program is None:
        return {"peer": "VictoriaMetrics is not installed"}
    port = free_port()
    with Crew(folder, {}) as crew:
        options = [f"-httpListenAddr=127.0.0.1:{port}", f"-storageDataPath={folder / 'victoria'}", "-retentionPeriod=1"]
        server = crew.start("victoria-metrics", [program, *options])
        crew.wait_until("VictoriaMetrics to listen", lambda: listens(port), 30)
        figures: dict[str, Any] = {"peer": "VictoriaMetrics, write acknowledgement not durable"}
        ready = [_lines(batch) for batch in _batches(2000, meters, seed + 1)]
        for name in ("client_points", "raw_lines"):
            before_s, began_s = cpu_s(server.process.pid), time.monotonic()
            if name == "client_points":
                sent = _points(port, _batches(200, meters, seed))
            else:
                requests = (ready[k : k + _FRAMES_A_REQUEST] for k in range(0, len(ready), _FRAMES_A_REQUEST))
                sent = sum(_post(port, _join(request)) for request in requests)
            took_s = time.monotonic() - began_s
            figures[name] = {
                "readings": sent,
                "readings_per_s": sent / took_s,
                "server_cpu_us_per_reading": (cpu_s(server.process.pid) - before_s) / sent * 1e6,
            }
        figures["rss_mb"] = rss_bytes(server.process.pid) / 1e6
        return figures
