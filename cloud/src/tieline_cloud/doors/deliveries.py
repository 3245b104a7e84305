"""A delivery's body into readings: JSON by rows or by columns, or the readings body of the wire contract.

All or nothing: one row that cannot be taken refuses the delivery, and every such row is named (the first hundred in full).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from pydantic_core import from_json

from tieline_cloud.doors.rows import EARLIEST_US, LATEST_US, RowColumns, RowError, read_point, shown
from tieline_core.errors import BadInputError, FrameError, PermanentError
from tieline_core.frame import ReadingBatch, decode_readings
from tieline_core.ids import EdgeId

JSON: Final = "application/json"
FRAME: Final = "application/vnd.tieline.readings"
MAX_ROWS: Final = 100_000
_NAMED: Final = 100
#: A row has at most four cells, so that a delivery has at most this many commas; counted before anything is built of it.
_MOST_COMMAS: Final = 4 * MAX_ROWS + 4
_NEEDED: Final = frozenset({"point", "measured_at", "value"})
_KEYS: Final = frozenset({*_NEEDED, "quality"})


@dataclass(frozen=True, slots=True)
class RowProblem:
    """Why one row cannot be taken."""

    key: str
    value: str
    reason: str


class DeliveryRefusedError(PermanentError):
    """Rows of a delivery cannot be taken, so nothing of it was.

    Attributes:
        problems: The first ones.
        count: How many rows.
    """

    def __init__(self, source: str, problems: tuple[RowProblem, ...], count: int, rows: int) -> None:
        self.problems = problems
        self.count = count
        first = problems[0]
        super().__init__(
            f"{source}: {count} of {rows} rows cannot be taken, so none was stored; {first.key} = {first.value}: {first.reason}"
        )


def read_delivery(body: bytes, media_type: str, source: str, owners: Collection[EdgeId]) -> ReadingBatch:
    """Read a body.

    Args:
        body: Unpacked.
        media_type: ``application/json`` or ``application/vnd.tieline.readings``.
        source: For error messages.
        owners: First parts the points may have.

    Raises:
        BadInputError: The body as a whole cannot be read.
        DeliveryRefusedError: Some of its rows cannot be taken.
    """
    kind = media_type.partition(";")[0].strip().lower()
    if kind == JSON:
        return _read_json(body, source, owners)
    if kind == FRAME:
        return _read_frame(body, source, owners)
    raise BadInputError(source, "content-type", media_type, f"known are {JSON} and {FRAME}")


def _read_json(body: bytes, source: str, owners: Collection[EdgeId]) -> ReadingBatch:
    commas = body.count(b",")
    if commas > _MOST_COMMAS:
        raise BadInputError(source, "body", f"{commas} commas", f"a delivery has 1 to {MAX_ROWS} rows of at most four cells")
    try:
        tree = from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise BadInputError(source, "body", f"{len(body)} bytes", f"not JSON: {error}") from error
    if not isinstance(tree, dict) or len(tree) != 1 or not tree.keys() <= {"rows", "columns"}:
        raise BadInputError(source, "body", shown(tree), "expected one key, 'rows' or 'columns'")
    form, content = next(iter(tree.items()))
    rows, count = _of_rows(content, source) if form == "rows" else _of_columns(content, source)
    if not 1 <= count <= MAX_ROWS:
        raise BadInputError(source, form, f"{count} rows", f"a delivery has 1 to {MAX_ROWS} rows")
    taken = RowColumns(owners)
    problems: list[RowProblem] = []
    bad = 0
    for number, row in enumerate(rows):
        try:
            if isinstance(row, RowError):
                raise row
            taken.take(*row)
        except RowError as error:
            bad += 1
            if len(problems) < _NAMED:
                problems.append(RowProblem(_key(form, number, error.key), error.value, error.reason))
    if problems:
        raise DeliveryRefusedError(source, tuple(problems), bad, count)
    return _without_doubles(taken.batch(), form, source)


def _key(form: str, number: int, key: str) -> str:
    if form == "columns":
        return f"columns.{key}[{number}]"
    return f"rows[{number}].{key}" if key else f"rows[{number}]"


def _of_rows(content: Any, source: str) -> tuple[Iterator[tuple[Any, Any, Any, Any] | RowError], int]:
    if not isinstance(content, list):
        raise BadInputError(source, "rows", shown(content), "expected a list of rows")

    def each() -> Iterator[tuple[Any, Any, Any, Any] | RowError]:
        for row in content:
            if not isinstance(row, dict) or not row.keys() >= _NEEDED or not row.keys() <= _KEYS:
                yield RowError("", row, "expected point, measured_at, value and optionally quality")
            else:
                yield row["point"], row["measured_at"], row["value"], row.get("quality")

    return each(), len(content)


def _of_columns(content: Any, source: str) -> tuple[Iterable[tuple[Any, Any, Any, Any]], int]:
    if not isinstance(content, dict) or not content.keys() >= _NEEDED or not content.keys() <= _KEYS:
        raise BadInputError(
            source, "columns", shown(content), "expected point, measured_at, value and optionally quality, each a list"
        )
    for key, column in content.items():
        if not isinstance(column, list):
            raise BadInputError(source, f"columns.{key}", shown(column), "expected a list")
    lengths = {key: len(column) for key, column in content.items()}
    if len(set(lengths.values())) != 1:
        raise BadInputError(source, "columns", lengths, "all columns have one length")
    count = lengths["point"]
    quality = content.get("quality", [None] * count)
    return zip(content["point"], content["measured_at"], content["value"], quality, strict=True), count


def _read_frame(body: bytes, source: str, owners: Collection[EdgeId]) -> ReadingBatch:
    try:
        batch = decode_readings(body)
    except FrameError as error:
        raise BadInputError(source, "body", f"{len(body)} bytes", str(error)) from error
    problems: list[RowProblem] = []
    bad = 0
    counts = np.bincount(batch.point_index, minlength=len(batch.points))
    for number, point in enumerate(batch.points):
        try:
            read_point(point, owners)
        except RowError as error:
            bad += int(counts[number])
            if len(problems) < _NAMED:
                problems.append(RowProblem(f"points[{number}]", error.value, error.reason))
    for row in np.flatnonzero((batch.at_us < EARLIEST_US) | (batch.at_us >= LATEST_US)):
        bad += 1
        if len(problems) < _NAMED:
            problems.append(RowProblem(f"rows[{row}].measured_at", str(int(batch.at_us[row])), "from 2000 to 2199 expected"))
    if problems:
        raise DeliveryRefusedError(source, tuple(problems), bad, len(batch))
    return _without_doubles(batch, "rows", source)


def _without_doubles(batch: ReadingBatch, form: str, source: str) -> ReadingBatch:
    order = np.lexsort((batch.at_us, batch.point_index))
    same = (np.diff(batch.point_index[order]) == 0) & (np.diff(batch.at_us[order]) == 0)
    doubled = np.sort(order[1:][same])
    if len(doubled):
        problems = tuple(
            RowProblem(
                _key(form, int(row), "point"), batch.points[int(batch.point_index[row])], "stands twice for this instant"
            )
            for row in doubled[:_NAMED]
        )
        raise DeliveryRefusedError(source, problems, len(doubled), len(batch))
    return batch
