"""Columns of a history file into readings, whole columns at a time; what cannot be used is named row by row."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tieline_cloud.doors.rows import EARLIEST_US, LARGEST, LATEST_US, QUALITIES, RowError, read_point, read_quality, shown
from tieline_cloud.jobs.history_part import BadRow, joined
from tieline_core.frame import ReadingBatch
from tieline_core.ids import PointId
from tieline_core.quantities import Quality

_USABLE = tuple(int(quality) for quality in Quality if quality.usable)


@dataclass(slots=True)
class Refusals:
    """Refused rows of one table: the first reason of each row counts.

    Attributes:
        keep: bool [n]; False where a row is refused.
    """

    keep: NDArray[np.bool_]
    named: dict[int, tuple[str, str, str]] = field(default_factory=dict)

    def add(self, where: NDArray[np.bool_], key: str, reason: str, value: Any = None) -> None:
        """Refuse rows; ``value`` gives the text of a row's value."""
        for row in np.flatnonzero(where & self.keep).tolist():
            self.named[row] = (key, "" if value is None else shown(value(row)), reason)
        self.keep &= ~where


def long_batch(rows: Any, first_row: int) -> tuple[ReadingBatch, list[BadRow]]:
    """Rows of ``point, measured_at, value[, quality]``.

    Args:
        rows: Arrow record batch: point and quality text or dictionary, measured_at timestamp with zone, value number.
        first_row: Number of its first row.

    Raises:
        pyarrow.ArrowException: When a column cannot be read as what it has to be.
    """
    at_us, refusals = _instants(rows.column("measured_at"))
    words, index = _coded(rows.column("point"))
    points, reasons = _points(words)
    refusals.add(index < 0, "point", "there is no point")
    for code, reason in reasons.items():
        refusals.add(index == code, "point", reason, lambda _row, text=words[code]: text)
    quality = _qualities(rows, refusals)
    values = _values(rows.column("value"), "value", quality, refusals)
    keep = refusals.keep
    number = np.cumsum([point is not None for point in points], dtype=np.int32) - 1
    known = tuple(point for point in points if point is not None)
    chosen = number[index[keep]].astype(np.int32) if points else np.zeros(0, np.int32)
    batch = ReadingBatch(known, chosen, at_us[keep], values[keep], quality[keep])
    return batch, _bad(refusals, first_row)


def wide_batch(rows: Any, points: tuple[PointId, ...], first_row: int) -> tuple[ReadingBatch, list[BadRow]]:
    """Rows of ``measured_at`` and one column a point; an empty cell is no reading."""
    at_us, refusals = _instants(rows.column("measured_at"))
    bad = _bad(refusals, first_row)
    parts = []
    for point in points:
        column = rows.column(str(point))
        cells = Refusals(refusals.keep & ~np.asarray(column.is_null().to_numpy(zero_copy_only=False)))
        values = _values(column, str(point), np.zeros(len(at_us), np.uint8), cells)
        bad += _bad(cells, first_row)
        count = int(cells.keep.sum())
        parts.append(
            ReadingBatch((point,), np.zeros(count, np.int32), at_us[cells.keep], values[cells.keep], np.zeros(count, np.uint8))
        )
    return joined(parts), sorted(bad, key=lambda row: row.row)


def _bad(refusals: Refusals, first_row: int) -> list[BadRow]:
    return [BadRow(first_row + row, *refusals.named[row]) for row in sorted(refusals.named)]


def _instants(column: Any) -> tuple[NDArray[np.int64], Refusals]:
    import pyarrow as pa

    at = column.cast(pa.timestamp("us", tz="UTC"), safe=False).cast(pa.int64())
    at_us: NDArray[np.int64] = at.fill_null(0).to_numpy(zero_copy_only=False)
    refusals = Refusals(np.ones(len(at_us), bool))
    refusals.add(np.asarray(at.is_null().to_numpy(zero_copy_only=False)), "measured_at", "there is no measured_at")
    outside = (at_us < EARLIEST_US) | (at_us >= LATEST_US)
    refusals.add(outside, "measured_at", "an instant from 2000 to 2199 was expected", lambda row: str(column[row]))
    return at_us, refusals


def _coded(column: Any) -> tuple[list[Any], NDArray[np.int64]]:
    """Dictionary and index (-1 = null) of an Arrow column."""
    import pyarrow as pa

    coded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
    index = coded.indices.cast(pa.int64()).fill_null(-1).to_numpy(zero_copy_only=False)
    return coded.dictionary.cast(pa.string()).to_pylist(), index


def _points(words: list[str | None]) -> tuple[list[PointId | None], dict[int, str]]:
    points: list[PointId | None] = []
    reasons: dict[int, str] = {}
    for code, word in enumerate(words):
        try:
            points.append(read_point(str(word).strip(), None))
        except RowError as error:
            points.append(None)
            reasons[code] = error.reason
    return points, reasons


def _qualities(rows: Any, refusals: Refusals) -> NDArray[np.uint8]:
    if "quality" not in rows.schema.names:
        return np.zeros(rows.num_rows, np.uint8)
    words, index = _coded(rows.column("quality"))
    table = np.zeros(len(words) + 1, np.uint8)
    for code, word in enumerate(words):
        try:
            table[code] = read_quality(word or None)
        except RowError:
            refusals.add(index == code, "quality", f"is none of {', '.join(QUALITIES)}", lambda _row, text=str(word): text)
    return table[index]


def _values(column: Any, key: str, quality: NDArray[np.uint8], refusals: Refusals) -> NDArray[np.float64]:
    import pyarrow as pa
    import pyarrow.compute as pc

    numbers = column.cast(pa.float64())
    values: NDArray[np.float64] = numbers.fill_null(math.nan).to_numpy(zero_copy_only=False)
    absent = np.asarray(numbers.is_null().to_numpy(zero_copy_only=False))
    odd = np.asarray(pc.invert(pc.is_finite(numbers)).fill_null(False).to_numpy(zero_copy_only=False))
    refusals.add(odd, key, "the number is not finite", lambda row: str(values[row]))
    large = np.isfinite(values) & (np.abs(values) > LARGEST)
    refusals.add(large, key, f"no measurement is beyond {LARGEST:g}", lambda row: str(values[row]))
    refusals.add(absent & np.isin(quality, _USABLE), key, "there is no number, and the quality says there is one")
    refusals.add(~absent & (quality == int(Quality.BAD)), key, "a bad reading carries no number", lambda row: str(values[row]))
    return values
