"""Readings as InfluxDB line protocol, built by columns: no object a reading.

``tieline,edge=harbour,device=bat1 p_w=-20000 1480606200000000``: one measurement, edge and device as tags, the quantity
as field (always a float), microseconds. A quality other than good travels beside it as ``p_w_quality=1i``; a reading
without a number has only that field. Ids are canonical, so nothing needs escaping.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tieline_core.frame import ReadingBatch
from tieline_core.ids import PointId
from tieline_core.quantities import Quality


def line_of(measurement: str, point: PointId) -> tuple[str, str]:
    """Series part and field name of a point."""
    return f"{measurement},edge={point.edge},device={point.device} ", point.quantity


def encode_lines(batch: ReadingBatch, measurement: str) -> list[bytes]:
    """One line a reading, without line end, in the order of the batch."""
    rows: list[bytes] = _table(batch, measurement).to_pylist()
    return rows


def encode_body(batch: ReadingBatch, measurement: str) -> bytes:
    """All lines, each with its line end."""
    lines = _table(batch, measurement)
    return b"" if not len(lines) else b"\n".join(lines.to_pylist()) + b"\n"


def bodies(batch: ReadingBatch, measurement: str, lines: int) -> Iterator[tuple[ReadingBatch, bytes]]:
    """Parts of at most so many lines, each with its body."""
    for first in range(0, len(batch), lines):
        part = rows_of(batch, slice(first, first + lines))
        yield part, encode_body(part, measurement)


def rows_of(batch: ReadingBatch, rows: Any) -> ReadingBatch:
    """Some rows of a batch: a slice, an index or a mask."""
    return ReadingBatch(batch.points, batch.point_index[rows], batch.at_us[rows], batch.values[rows], batch.quality[rows])


def _table(batch: ReadingBatch, measurement: str) -> Any:
    parts = [line_of(measurement, point) for point in batch.points]
    index = pa.array(batch.point_index)

    def of_point(texts: list[str]) -> Any:
        return pa.array(texts, pa.binary()).take(index)

    number = np.isnan(batch.values)
    values = pc.cast(pc.cast(pa.array(batch.values, mask=number), pa.string()), pa.binary())
    stamps = pc.cast(pc.cast(pa.array(batch.at_us), pa.string()), pa.binary())
    lines = pc.binary_join_element_wise(
        of_point([f"{series}{field}=" for series, field in parts]), values, b"", null_handling="emit_null"
    )
    odd = (batch.quality != int(Quality.GOOD)) | number
    if odd.any():
        words = pa.array([b"%di" % quality for quality in range(max(Quality) + 1)], pa.binary()).take(
            pa.array(batch.quality.astype(np.int32))
        )
        beside = pc.binary_join_element_wise(lines, of_point([f",{field}_quality=" for _, field in parts]), words, b"")
        alone = pc.binary_join_element_wise(of_point([f"{series}{field}_quality=" for series, field in parts]), words, b"")
        lines = pc.if_else(pa.array(number), alone, pc.if_else(pa.array(odd), beside, lines))
    return pc.binary_join_element_wise(lines, stamps, b" ")
