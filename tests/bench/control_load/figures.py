"""From the field's own log to figures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tests.bench.control_load.field import Crossing


def spread(seconds: Sequence[float]) -> dict[str, float | None]:
    """Median, 99th percentile (the worst of fewer than a hundred) and maximum, in milliseconds."""
    if not seconds:
        return {"p50_ms": None, "p99_ms": None, "max_ms": None}
    ms = 1000.0 * np.array(seconds)
    named = {"p50_ms": np.percentile(ms, 50), "p99_ms": np.percentile(ms, 99, method="higher"), "max_ms": ms.max()}
    return {name: round(float(value), 2) for name, value in named.items()}


def crossings(log: Path, begin: float, end: float) -> list[Crossing]:
    """Crossings that began between two instants of the monotonic clock."""
    rows = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()] if log.exists() else []
    names = Crossing.__slots__
    found = [Crossing(**{name: row[name] for name in names}) for row in rows]
    return [row for row in found if begin <= row.raised < end]


def reactions(rows: Sequence[Crossing]) -> dict[str, Any]:
    """Reaction, from the answer to the first write, and end to end, from the rise of the load to the first write."""
    acted = [row for row in rows if row.answered is not None and row.written is not None]
    return {
        "crossings": len(rows),
        "unanswered": len(rows) - len(acted),
        "reaction": spread([row.written - row.answered for row in acted if row.written and row.answered]),
        "end_to_end": spread([row.written - row.raised for row in acted if row.written]),
    }
