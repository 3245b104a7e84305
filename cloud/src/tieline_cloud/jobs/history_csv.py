"""Reads csv in blocks of whole lines: by columns where a block is in order, halved and at last line by line where it is not."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Generator
from pathlib import Path
from typing import Any, Final

from tieline_cloud.doors.rows import RowColumns, RowError, read_instant, shown
from tieline_cloud.jobs.history_layout import Layout, layout_of
from tieline_cloud.jobs.history_part import BadRow, FileMark, HistoryPart, OpenedHistory, joined
from tieline_cloud.jobs.history_rows import long_batch, wide_batch
from tieline_cloud.jobs.history_source import LineBlocks, PlainFile
from tieline_core.errors import BadInputError
from tieline_core.frame import ReadingBatch

_DELIMITERS: Final = (",", ";", "\t")
#: Below this many lines a block with a wrong line is read line by line.
_SINGLY: Final = 256


def open_csv(path: Path, mark: FileMark | None) -> OpenedHistory:
    """Open a csv, read on from a mark when the file still begins with what was read then.

    Raises:
        BadInputError: When it cannot be read or has another header.
    """
    if mark is not None and mark.offset:
        file = PlainFile(path)
        blocks = LineBlocks(file, str(path))
        layout = _header(blocks, str(path))
        if blocks.offset <= mark.offset and blocks.skip(mark.offset) and blocks.digest() == mark.sha256:
            return OpenedHistory(_parts(file, blocks, layout, mark.row), resumed=True)
        file.__exit__(None, None, None)
    file = PlainFile(path)
    blocks = LineBlocks(file, str(path))
    try:
        layout = _header(blocks, str(path))
    except BadInputError:
        file.__exit__(None, None, None)
        raise
    return OpenedHistory(_parts(file, blocks, layout, 1), resumed=False)


def csv_identity(path: Path) -> str:
    """Hash of the beginning, by which an interrupted import is found again."""
    with PlainFile(path) as file:
        return hashlib.sha256(file.read(64 * 1024)).hexdigest()


def _header(blocks: LineBlocks, source: str) -> Layout:
    line = _text(blocks.take_line(), 1, source).removeprefix("\ufeff")
    delimiter = max(_DELIMITERS, key=line.count)
    try:
        names = next(csv.reader([line], delimiter=delimiter, strict=True), [])
    except csv.Error as error:
        raise BadInputError(source, "line 1", shown(line), f"not readable as csv: {error}") from error
    return layout_of([name.strip() for name in names], source, delimiter)


def _text(line: bytes, number: int, source: str) -> str:
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        reason = f"not UTF-8: byte 0x{line[error.start]:02x} at column {error.start + 1}; save the file as UTF-8"
        raise BadInputError(source, f"line {number}", line[max(0, error.start - 20) : error.start + 20], reason) from error


def _parts(file: PlainFile, blocks: LineBlocks, layout: Layout, row: int) -> Generator[HistoryPart, None, None]:
    with file:
        while lines := blocks.take():
            block = _Block(layout, str(file.path), row + 1)
            block.read(lines)
            row += block.lines
            mark = FileMark(offset=blocks.offset, row=row, sha256=blocks.digest())
            yield HistoryPart(joined(block.batches), tuple(block.bad), block.lines, blocks.share, mark)


class _Block:
    """One block of lines on its way to readings."""

    def __init__(self, layout: Layout, source: str, first_line: int) -> None:
        self._layout = layout
        self._source = source
        self._first = first_line
        self.lines = 0
        self.batches: list[ReadingBatch] = []
        self.bad: list[BadRow] = []

    def read(self, lines: bytes) -> None:
        """Take whole lines; what was not in order is in ``bad``."""
        count = lines.count(b"\n") + (not lines.endswith(b"\n"))
        if self._by_columns(lines, count):
            return
        if count <= _SINGLY:
            self._by_lines(lines)
            return
        middle = lines.find(b"\n", len(lines) // 2) + 1
        if not 0 < middle < len(lines):
            middle = lines.find(b"\n") + 1
        self.read(lines[:middle])
        self.read(lines[middle:])

    def _by_columns(self, lines: bytes, count: int) -> bool:
        import pyarrow as pa
        import pyarrow.csv as pacsv

        if lines[:1] in (b"\n", b"\r") or b"\n\n" in lines or b"\n\r\n" in lines:
            return False  # an empty line is passed over, and only line by line are numbers right
        layout = self._layout
        types: dict[str, Any] = dict.fromkeys(map(str, layout.points), pa.float64())
        types |= {"measured_at": pa.timestamp("us", "UTC"), "value": pa.float64()}
        types |= {name: pa.dictionary(pa.int32(), pa.string()) for name in ("point", "quality")}
        try:
            table = pacsv.read_csv(
                pa.BufferReader(lines),
                pacsv.ReadOptions(use_threads=False, column_names=list(layout.names), block_size=len(lines) + 1),
                pacsv.ParseOptions(delimiter=layout.delimiter, ignore_empty_lines=False),
                pacsv.ConvertOptions(
                    column_types={name: types[name] for name in layout.names},
                    null_values=[""],
                    strings_can_be_null=True,
                    timestamp_parsers=[pacsv.ISO8601],
                ),
            )
        except (pa.ArrowException, OverflowError):
            return False
        if table.num_rows != count:
            return False
        for rows in table.combine_chunks().to_batches():
            batch, bad = (
                wide_batch(rows, layout.points, self._first + self.lines)
                if layout.points
                else long_batch(rows, self._first + self.lines)
            )
            self.batches.append(batch)
            self.bad += bad
            self.lines += rows.num_rows
        return True

    def _by_lines(self, lines: bytes) -> None:
        taken = RowColumns()
        for raw in lines.removesuffix(b"\n").split(b"\n"):
            number = self._first + self.lines
            self.lines += 1
            text = _text(raw, number, self._source).removesuffix("\r")
            if not text:
                continue
            try:
                self._take(taken, _cells(text, self._layout), number)
            except RowError as error:
                self.bad.append(BadRow(number, error.key, error.value, error.reason))
        self.batches.append(taken.batch())

    def _take(self, taken: RowColumns, cells: dict[str, str], line: int) -> None:
        if not self._layout.points:
            value = _number(cells["value"], "value")
            taken.take(cells["point"], cells["measured_at"], value, cells.get("quality") or None)
            return
        read_instant(cells["measured_at"])
        for point in self._layout.points:
            try:
                if (value := _number(cells[point], point)) is not None:
                    taken.take(str(point), cells["measured_at"], value, None)
            except RowError as error:
                self.bad.append(BadRow(line, point, error.value, error.reason))


def _cells(text: str, layout: Layout) -> dict[str, str]:
    try:
        cells = next(csv.reader([text], delimiter=layout.delimiter, strict=True), [])
    except csv.Error as error:
        raise RowError("", text, f"not readable as csv: {error}") from error
    if len(cells) != len(layout.names):
        raise RowError("", text, f"{len(cells)} cells, the header names {len(layout.names)}")
    return dict(zip(layout.names, (cell.strip() for cell in cells), strict=True))


def _number(text: str, key: str) -> float | None:
    if not text:
        return None
    try:
        return float(text)
    except ValueError as error:
        comma = "; decimals are written with a point" if "," in text else ""
        raise RowError(key, text, f"is no number{comma}") from error
