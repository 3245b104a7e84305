"""A herd of edges that greet a hub in one moment (F19), and what a transaction for each of them would cost.

``EDGES=1000 make bench-herd`` lets so many edges connect to a real broker and a real hub at once, twice: as edges nobody
has ever seen, then all of them restarted without memory, so that every one is doubted and granted a new epoch. Reported are
the times from the start of the storm to the hub's answer and to the acknowledgement of each edge's first frame. The peer is
the same ledger with one transaction a hello.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from tests.bench.result import write
from tests.faults.crowd import LightEdge, storm
from tests.faults.rig import Layout, Rig
from tieline_cloud.store.duckdb_store import DuckDbStore
from tieline_cloud.store.ports import Greeting
from tieline_core.ids import EdgeId

EDGES = int(os.environ.get("EDGES", "1000"))
PATIENCE_S = 300.0
NOW = datetime(2026, 1, 15, tzinfo=UTC)
#: About the size of a hello.
DOCUMENT = bytes(600)


def figures(edges: list[LightEdge]) -> dict[str, float]:
    """Seconds to the answer and to the acknowledgement, and hellos an edge."""
    greeted, done = (np.array([getattr(edge, name) for edge in edges], float) for name in ("greeted_s", "done_s"))
    return {
        "greeted_p50_s": round(float(np.percentile(greeted, 50)), 3),
        "greeted_p99_s": round(float(np.percentile(greeted, 99)), 3),
        "acknowledged_p99_s": round(float(np.percentile(done, 99)), 3),
        "most_hellos": max(edge.hellos for edge in edges),
    }


async def storms(folder: Path) -> dict[str, Any]:
    """Both storms upon one hub."""
    async with Rig(folder, Layout(edges=1, sender=("--idle",))) as rig:
        first = figures(await storm(rig.broker.port, EDGES, 1, PATIENCE_S))
        again = figures(await storm(rig.broker.port, EDGES, 2, PATIENCE_S))
        return {"first_contact": first, "all_doubted": again, "hub_memory_mb": round(rig.hub.memory_mb(), 1)}


def greet_s(folder: Path, at_once: int) -> float:
    """Seconds to greet all edges with so many in a transaction."""
    greetings = [Greeting(EdgeId(f"light-{n:04d}"), 0, {"hello": DOCUMENT}) for n in range(EDGES)]
    with DuckDbStore(folder / f"{at_once}.duckdb") as store:
        begun_s = time.perf_counter()
        for first in range(0, EDGES, at_once):
            store.greet(greetings[first : first + at_once], NOW)
        return time.perf_counter() - begun_s


def main() -> None:
    """Measure and write ``var/bench/herd.json``."""
    with tempfile.TemporaryDirectory(prefix="tieline-herd-") as name:
        folder = Path(name)
        measured = asyncio.run(storms(folder))
        together_s, one_by_one_s = greet_s(folder, EDGES), greet_s(folder, 1)
    ledger = {"together_s": round(together_s, 3), "peer_one_by_one_s": round(one_by_one_s, 3)}
    write(
        "herd",
        {"edges": EDGES, **measured, "ledger": ledger, "ratio": round(one_by_one_s / together_s, 1)},
        ("duckdb", "paho-mqtt"),
    )


if __name__ == "__main__":
    main()
