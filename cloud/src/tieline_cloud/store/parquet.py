"""The form in which readings leave a store: one parquet file, written whole or not at all."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from tieline_core.quantities import Quality

_NAMES = pa.array([quality.name.lower() for quality in Quality])
SCHEMA = pa.schema(
    [
        ("point", pa.string()),
        ("measured_at", pa.timestamp("us", tz="UTC")),
        ("value", pa.float64()),
        ("quality", pa.string()),
    ]
)


def number_column(values: NDArray[np.float64]) -> Any:
    """Arrow column of numbers in which NaN stands for none."""
    return pa.array(values, mask=np.isnan(values))


def export_table(points: Any, at_us: Any, values: Any, quality: Any) -> Any:
    """Arrow table of the export's schema; ``at_us`` int64, ``quality`` the numbers of :class:`Quality`."""
    instants = at_us.cast(pa.timestamp("us", tz="UTC"))
    return pa.table([points, instants, values, _NAMES.take(quality)], schema=SCHEMA)


def write_export(path: Path, tables: Iterable[Any]) -> int:
    """Write tables of the schema one after the other and return the rows; the file appears when it is complete."""
    part = path.with_name(path.name + ".part")
    rows = 0
    try:
        with pq.ParquetWriter(part, SCHEMA, compression="zstd") as writer:
            for table in tables:
                writer.write_table(table)
                rows += table.num_rows
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return rows
