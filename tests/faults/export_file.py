"""The hub's own words about what it holds, as hashes of rows: its export file, and the readings it put aside."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from tests.faults.journal import Hashes, name_hash, row_hashes
from tieline_core.timegrid import to_us


def hashes_of_rows(rows: Sequence[dict[str, Any]]) -> Hashes:
    """Rows as the API gives them: point, measured_at, value."""
    names = np.array([name_hash(row["point"]) for row in rows], np.uint64)
    instants = [to_us(datetime.fromisoformat(row["measured_at"])) for row in rows]
    values = [np.nan if row["value"] is None else row["value"] for row in rows]
    return row_hashes(names, np.array(instants, np.int64), np.array(values, np.float64))


def hashes_of_file(path: Path) -> Hashes:
    """Rows of an export."""
    table = pq.read_table(path)
    points = table["point"].cast("string").combine_chunks().dictionary_encode()
    names = np.array([name_hash(name) for name in points.dictionary.to_pylist()], np.uint64)
    if not len(table):
        return np.zeros(0, np.uint64)
    at_us = table["measured_at"].cast("int64").to_numpy()
    values = table["value"].cast("float64").to_numpy(zero_copy_only=False)
    return row_hashes(names[points.indices.to_numpy()], at_us, values)
