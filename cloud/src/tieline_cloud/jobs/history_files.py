"""Reads history files in long format: ``point, measured_at, value[, quality]`` from parquet or csv, batch by batch.

A row that cannot be used is named with its number and reason and left out; the others are handed on.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from tieline_core.errors import BadInputError
from tieline_core.frame import ReadingBatch
from tieline_core.ids import PointId
from tieline_core.quantities import Quality
from tieline_core.timegrid import to_us

BATCH_ROWS: Final = 50_000
_NEEDED: Final = ("point", "measured_at", "value")
_QUALITY: Final = {quality.name.lower(): quality for quality in Quality}


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that was left out."""

    row: int
    """Number of the row, counted as an editor counts lines in a csv (header = 1), from 1 in a parquet file."""
    reason: str


@dataclass(frozen=True, slots=True)
class HistoryPart:
    """Some rows of a file.

    Attributes:
        batch: The usable ones.
        bad: The others.
        done: Share of the file read so far, 0..1.
    """

    batch: ReadingBatch
    bad: tuple[BadRow, ...]
    done: float


def read_history(path: Path) -> Iterator[HistoryPart]:
    """Read a file, by its ending.

    Raises:
        BadInputError: When the file as a whole cannot be used.
    """
    if not path.is_file():
        raise BadInputError(str(path), "", path.name, "there is no such file on the hub's machine")
    if path.suffix == ".parquet":
        return _read_parquet(path)
    if path.suffix == ".csv":
        return _read_csv(path)
    raise BadInputError(str(path), "", path.suffix, "expected a .parquet or .csv file")


def _check_columns(path: Path, names: list[str]) -> None:
    missing = [name for name in _NEEDED if name not in names]
    unknown = [name for name in names if name not in (*_NEEDED, "quality")]
    if missing or unknown:
        what = f"lacks {', '.join(missing)}" if missing else f"has unknown {', '.join(unknown)}"
        raise BadInputError(
            str(path), "columns", ", ".join(names), f"{what}; expected point, measured_at, value and optionally quality"
        )


def _point(text: object) -> PointId | str:
    try:
        return PointId(str(text))
    except ValueError as error:
        return str(error)


def _quality(text: object) -> Quality | str:
    known = _QUALITY.get(str(text).strip().lower())
    return known if known is not None else f"quality {text!r} is none of {', '.join(_QUALITY)}"


def _read_parquet(path: Path) -> Iterator[HistoryPart]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise BadInputError(str(path), "", path.name, f"not a parquet file: {error}") from error
    with file:
        names = file.schema_arrow.names
        _check_columns(path, names)
        stamp = file.schema_arrow.field("measured_at").type
        if not pa.types.is_timestamp(stamp) or stamp.tz is None:
            raise BadInputError(str(path), "measured_at", str(stamp), "expected a timestamp column with a time zone (UTC)")
        row, total = 0, max(1, file.metadata.num_rows)
        for record_batch in file.iter_batches(BATCH_ROWS):
            part = _convert(record_batch, row, path)
            row += record_batch.num_rows
            yield HistoryPart(part[0], part[1], row / total)


def _coded(column: Any) -> tuple[list[object], NDArray[np.int64]]:
    """Dictionary and index (-1 = null) of an Arrow column."""
    import pyarrow as pa

    coded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
    return coded.dictionary.to_pylist(), coded.indices.cast(pa.int64()).fill_null(-1).to_numpy(zero_copy_only=False)


def _convert(rows: Any, first_row: int, path: Path) -> tuple[ReadingBatch, tuple[BadRow, ...]]:
    import pyarrow as pa

    try:
        at = rows.column("measured_at").cast(pa.timestamp("us", tz="UTC"), safe=False).cast(pa.int64())
        values = rows.column("value").cast(pa.float64()).fill_null(math.nan).to_numpy(zero_copy_only=False)
    except pa.ArrowException as error:
        raise BadInputError(str(path), "value", str(rows.schema), f"cannot be read as numbers: {error}") from error
    at_us = at.fill_null(-1).to_numpy(zero_copy_only=False)
    names, point_index = _coded(rows.column("point"))
    points = [_point(name) for name in names]
    reasons: dict[int, str] = {}
    _name_bad(reasons, point_index, [point if not isinstance(point, PointId) else None for point in points], "no point")
    if "quality" in rows.schema.names:
        words, word_index = _coded(rows.column("quality"))
        grades = [_quality(word) for word in words]
        _name_bad(reasons, word_index, [grade if isinstance(grade, str) else None for grade in grades], "no quality")
        table = np.array([int(grade) if isinstance(grade, Quality) else 0 for grade in grades] or [0], dtype=np.uint8)
        quality = table[np.maximum(word_index, 0)]
    else:
        quality = np.zeros(len(at_us), dtype=np.uint8)
    for index in np.flatnonzero(np.asarray(at.is_null().to_numpy(zero_copy_only=False))):
        reasons.setdefault(int(index), "no measured_at")
    _name_bad_values(reasons, values, quality)
    keep = np.ones(len(at_us), dtype=bool)
    keep[list(reasons)] = False
    good = [point for point in points if isinstance(point, PointId)]
    position = np.cumsum([isinstance(point, PointId) for point in points], dtype=np.int32) - 1
    index32 = position[point_index[keep]].astype(np.int32) if points else np.zeros(0, dtype=np.int32)
    batch = ReadingBatch(tuple(good), index32, at_us[keep], values[keep], quality[keep])
    return batch, tuple(BadRow(first_row + index + 1, reasons[index]) for index in sorted(reasons))


def _name_bad(reasons: dict[int, str], index: NDArray[np.int64], why: list[str | None], absent: str) -> None:
    for row in np.flatnonzero(index < 0):
        reasons.setdefault(int(row), absent)
    bad = [code for code, reason in enumerate(why) if reason is not None]
    for row in np.flatnonzero(np.isin(index, bad)):
        reasons.setdefault(int(row), str(why[int(index[row])]))


def _name_bad_values(reasons: dict[int, str], values: NDArray[np.float64], quality: NDArray[np.uint8]) -> None:
    for row in np.flatnonzero(np.isinf(values)):
        reasons.setdefault(int(row), "value is infinite")
    needs = np.isin(quality, [int(q) for q in (Quality.GOOD, Quality.UNCERTAIN, Quality.SUBSTITUTED)])
    for row in np.flatnonzero(np.isnan(values) & needs):
        reasons.setdefault(int(row), "no value, and the quality says there is one")
    for row in np.flatnonzero(~np.isnan(values) & (quality == int(Quality.BAD))):
        reasons.setdefault(int(row), "a bad reading carries no number")


def _read_csv(path: Path) -> Iterator[HistoryPart]:
    size = max(1, path.stat().st_size)
    with path.open(encoding="utf-8-sig", newline="") as file:
        counted = _CountedLines(file)
        reader = csv.DictReader(counted)
        _check_columns(path, list(reader.fieldnames or []))
        rows = _CsvRows()
        try:
            for row in reader:
                rows.take(reader.line_num, row)
                if rows.read >= BATCH_ROWS:
                    yield rows.part(min(1.0, counted.characters / size))
                    rows = _CsvRows()
        except (csv.Error, UnicodeDecodeError) as error:
            raise BadInputError(str(path), f"line {reader.line_num}", path.name, f"not readable as csv: {error}") from error
        yield rows.part(1.0)


class _CountedLines:
    """Lines of a text file, counting characters: a csv reader forbids ``tell``."""

    def __init__(self, lines: Iterator[str]) -> None:
        self._lines = lines
        self.characters = 0

    def __iter__(self) -> Iterator[str]:
        for line in self._lines:
            self.characters += len(line)
            yield line


class _CsvRows:
    def __init__(self) -> None:
        self.read = 0
        self._points: dict[str, int] = {}
        self._index: list[int] = []
        self._at: list[int] = []
        self._values: list[float] = []
        self._quality: list[int] = []
        self._bad: list[BadRow] = []

    def take(self, line: int, row: dict[str, str | None]) -> None:
        self.read += 1
        try:
            point = PointId((row["point"] or "").strip())
            at_us = to_us(datetime.fromisoformat((row["measured_at"] or "").strip()))
            text = (row["value"] or "").strip()
            value = float(text) if text else math.nan
            quality = _quality(row["quality"]) if row.get("quality") else Quality.GOOD
        except ValueError as error:
            self._bad.append(BadRow(line, str(error)))
            return
        if isinstance(quality, str):
            self._bad.append(BadRow(line, quality))
            return
        reasons: dict[int, str] = {}
        _name_bad_values(reasons, np.array([value]), np.array([quality], dtype=np.uint8))
        if text and math.isnan(value):
            reasons[0] = f"value {text!r} is not a number"
        if reasons:
            self._bad.append(BadRow(line, reasons[0]))
            return
        self._index.append(self._points.setdefault(point, len(self._points)))
        self._at.append(at_us)
        self._values.append(value)
        self._quality.append(int(quality))

    def part(self, done: float) -> HistoryPart:
        batch = ReadingBatch(
            tuple(PointId(point) for point in self._points),
            np.array(self._index, dtype=np.int32),
            np.array(self._at, dtype=np.int64),
            np.array(self._values, dtype=np.float64),
            np.array(self._quality, dtype=np.uint8),
        )
        return HistoryPart(batch, tuple(self._bad), done)
