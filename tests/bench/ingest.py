"""100 edges x 1,000 meters into one hub: a steady load, a backlog beside it, a drain, and a database peer in the same run.

``make bench-ingest`` starts a real broker, a real hub with its durable ledger, one process that speaks the durable protocol
for 97 edges, and three real edges behind a field broker. Nothing is repeated, and at the end every row is counted.
Environment: ``MINUTES`` (10) of steady load, ``BACKLOG`` (10) and ``DRAIN`` (60) millions of readings, ``METERS_FILE`` (a
parquet of real meters; without it seeded random walks), ``FOLDER`` (a temporary one).
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from tests.bench.ingest_load import peer
from tests.bench.ingest_load.check import count, verdict
from tests.bench.ingest_load.processes import Track, Watch
from tests.bench.ingest_load.stage import Size, Stage, set_up
from tests.bench.result import write

MEGA = 1e6
#: How the hub is told to store what comes without examining it.
WITHOUT_VEE: Mapping[str, Any] = {"quality": {"examine": False}}
_DRAIN_S = 60.0


def say(text: str) -> None:
    """A line of progress."""
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {text}\n")
    sys.stderr.flush()


def percentiles(seconds: list[float]) -> dict[str, float | None]:
    """Median and 99th percentile."""
    if not seconds:
        return {"p50_s": None, "p99_s": None}
    return {"p50_s": float(np.percentile(seconds, 50)), "p99_s": float(np.percentile(seconds, 99))}


def slope_mb_per_min(track: Track, since_s: float) -> float | None:
    """Growth of resident memory by least squares over the second half of what lies after an instant."""
    at_s, rss = np.array(track.at_s), np.array(track.rss, float)
    rows = at_s >= (since_s + at_s[-1]) / 2 if len(at_s) else np.zeros(0, bool)
    if rows.sum() < 10:
        return None
    return float(np.polyfit(at_s[rows], rss[rows], 1)[0] * 60 / MEGA)


class Run:
    """One hub and what is measured on it."""

    def __init__(self, stage: Stage, watch: Watch) -> None:
        self.stage, self.watch = stage, watch
        self.latencies_s: list[float] = []

    def status(self) -> dict[str, Any]:
        """The generator's word; a process that has died ends the run."""
        self.stage.crew.check()
        found = self.stage.generator.ask(("status",))
        self.latencies_s += found.pop("latencies_s")
        return found

    def wait_open(self) -> None:
        """Until every edge has been answered."""
        edges = self.stage.size.virtual_edges
        self.stage.crew.wait_until("every edge to be answered", lambda: self.status()["open"] == edges, 120, 0.5)

    def cpu_since(self, before: Mapping[str, float], seconds: float) -> dict[str, float]:
        """Cores used by part."""
        return {name: round((now - before[name]) / seconds, 3) for name, now in self.watch.now().items()}

    def live_ages(self) -> list[float]:
        """Age of the newest value of each real edge, as the API shows it now [s]."""
        now_s = time.time()  # noqa: TID251 (compared with stamps of the same machine)
        ages = []
        for edge in self.stage.real:
            points = ",".join(f"{edge}/m{number:04d}/p_w" for number in range(self.stage.size.real_meters))
            newest = max((row["at"] for row in self.stage.get(f"/v1/readings/last?points={points}")), default=None)
            if newest is not None:
                ages.append(now_s - datetime.fromisoformat(newest).timestamp())
        return ages

    # Parts

    def steady(self, minutes: float) -> dict[str, Any]:
        """The live load alone."""
        self.stage.field.ask("on")
        self.stage.generator.ask(("steady", True))
        self._pace(10.0)
        self.latencies_s.clear()
        before, began_s, first = self.watch.now(), time.monotonic(), self.status()
        self._pace(minutes * 60)
        last, took_s = self.status(), time.monotonic() - began_s
        hub = self.watch.tracks["hub"]
        return {
            "minutes": took_s / 60,
            "readings_per_s": (last["acked"] - first["acked"]) / took_s,
            "commit_and_acknowledge": percentiles(self.latencies_s),
            "hub_commit_latency": self._latency(),
            "cores": self.cpu_since(before, took_s),
            "hub_rss_mb": hub.rss[-1] / MEGA,
            "hub_rss_peak_mb": max(hub.rss) / MEGA,
            "hub_rss_slope_mb_per_min": slope_mb_per_min(hub, began_s),
            "go_backs": last["go_backs"],
            "rollups": {name: value for name, value in self.stage.metrics().items() if "roll" in name},
        }

    def _latency(self) -> dict[str, float]:
        found = self.stage.metrics()
        return {name.split('"')[1]: value for name, value in found.items() if "commit_latency" in name}

    def _pace(self, seconds: float) -> None:
        end_s = time.monotonic() + seconds
        before = self.status()["acked"]
        while (left_s := end_s - time.monotonic()) > 0:
            step_s = min(10.0, left_s)
            time.sleep(step_s)
            found = self.status()
            rate = (found["acked"] - before) / step_s
            before = found["acked"]
            rss = self.watch.tracks["hub"].rss[-1] / MEGA
            say(f"{rate:>9,.0f} readings/s, {found['waiting']:>6} frames wait, hub {rss:.0f} MB")

    def backlog(self, readings: int) -> dict[str, Any]:
        """A backlog drains while the live load goes on."""
        self.stage.generator.ask(("release",))
        began_s, ages, before = time.monotonic(), list[float](), self.watch.now()
        first = self.status()["acked"]
        while self.status()["waiting"] > self.stage.size.virtual_edges * 2:
            ages += self.live_ages()
            time.sleep(0.2)
        took_s = time.monotonic() - began_s
        say(f"a backlog of {readings:,} readings has drained in {took_s:.1f} s beside the live load")
        return {
            "readings": readings,
            "seconds": took_s,
            "readings_per_s": (self.status()["acked"] - first) / took_s,
            "live_age": percentiles(ages),
            "cores": self.cpu_since(before, took_s),
        }

    def quiet(self) -> None:
        """End the live load and let everything arrive."""
        self.stage.generator.ask(("steady", False))
        self.stage.field.ask("off")
        self.stage.crew.wait_until("the outboxes to drain", lambda: self.status()["waiting"] == 0, 120, 0.2)

    def prepare(self, readings: int) -> dict[str, Any]:
        """Encode a backlog ahead of time."""
        made = self.stage.generator.ask(("prepare", readings))
        say(f"{made['readings']:,} readings encoded, {made['bytes_per_reading']:.2f} bytes each")
        return made

    def drain(self, readings: int) -> dict[str, Any]:
        """Nothing but a backlog, as fast as it goes, for a minute."""
        made = self.prepare(readings)
        before, began_s, first = self.watch.now(), time.monotonic(), self.status()["acked"]
        self.stage.generator.ask(("release",))
        acked, took_s = first, 0.0
        while took_s < _DRAIN_S:
            time.sleep(0.1)
            found = self.status()
            acked, took_s = found["acked"], time.monotonic() - began_s
            if not found["waiting"]:
                break
        cores, rate = self.cpu_since(before, took_s), (acked - first) / took_s
        say(f"drained {acked - first:,} readings in {took_s:.1f} s: {rate:,.0f} readings/s, cores {cores}")
        self.stage.crew.wait_until("the rest to drain", lambda: self.status()["waiting"] == 0, 600, 0.2)
        return {
            "readings": acked - first,
            "seconds": took_s,
            "readings_per_s": rate,
            "encode_cpu_us_per_reading": made["encode_cpu_s"] / made["readings"] * 1e6,
            "wire_bytes_per_reading": made["bytes_per_reading"],
            "cores": cores,
            "hub_rss_peak_mb": max(self.watch.tracks["hub"].rss) / MEGA,
        }

    def settle_real(self) -> int:
        """Readings of the real edges once all their meters hold a receipt and the hub has everything."""
        crew, field = self.stage.crew, self.stage.field
        crew.wait_until("every receipt", lambda: (a := field.ask("?"))["receipts"] >= a["published"], 120, 0.5)
        crew.wait_until("the real edges' outboxes to drain", lambda: self.stage.real_waiting() == 0, 120, 0.2)
        return int(field.ask("?")["readings"])


def with_vee(folder: Path, size: Size, minutes: float, backlog: int, drain: int) -> dict[str, Any]:
    """Parts (a) and (b) on the hub as it is shipped."""
    with set_up(folder, size, {}) as stage, Watch(stage.pids()) as watch:
        run = Run(stage, watch)
        run.wait_open()
        say("every edge has been answered")
        made = run.prepare(backlog)
        figures = {"steady": run.steady(minutes), "backlog": run.backlog(made["readings"])}
        run.quiet()
        real = run.settle_real()
        figures["drain"] = run.drain(drain)
        generated = run.status()["generated"]
        figures["real_edges"] = {"edges": size.real_edges, "messages_per_s_each": size.real_messages_per_s}
    say("counting every row")
    return {**figures, "count": verdict(count(folder / "hub/hub.duckdb"), generated, real)}


def without_vee(folder: Path, size: Size, drain: int) -> dict[str, Any]:
    """Part (b) again on a hub that examines nothing."""
    with set_up(folder, size, dict(WITHOUT_VEE)) as stage, Watch(stage.pids()) as watch:
        run = Run(stage, watch)
        run.wait_open()
        run.drain(2 * size.virtual_edges * size.meters)  # as in the other run, every point is known before
        figures = run.drain(drain)
        generated = run.status()["generated"]
    return {**figures, "count": verdict(count(folder / "hub/hub.duckdb"), generated, 0)}


def main() -> None:
    """Measure and write var/bench/ingest.json."""
    minutes = float(os.environ.get("MINUTES", "10"))
    backlog, drain = (
        int(float(os.environ.get(name, default)) * MEGA) for name, default in (("BACKLOG", "10"), ("DRAIN", "60"))
    )
    file = os.environ.get("METERS_FILE")
    size = Size(meters_file=Path(file) if file else None)
    with tempfile.TemporaryDirectory(prefix="tieline-ingest-", dir=os.environ.get("FOLDER")) as name:
        folder = Path(name)
        figures = with_vee(folder / "a", size, minutes, backlog, drain)
        figures["drain_without_vee"] = without_vee(folder / "b", size, drain)
        say("the peer")
        figures["peer"] = peer.measure(folder / "peer", size.meters, size.seed)
    rates = {door: figures["peer"].get(door, {}).get("readings_per_s") for door in ("client_points", "raw_lines")}
    figures["ratio"] = {door: figures["drain"]["readings_per_s"] / rate for door, rate in rates.items() if rate}
    figures["data"] = file or "seeded random walks"
    write("ingest", figures, ("duckdb", "numpy", "paho-mqtt", "pyarrow", "zstandard", "influxdb-client"))


if __name__ == "__main__":
    main()
