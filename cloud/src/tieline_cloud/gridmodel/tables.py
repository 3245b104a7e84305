"""Reader of pandapower's JSON form (``pandapower.to_json``) into plain columns.

pandapower's own reader imports and builds whatever class the file names; a network file comes from outside, so we
read the tables ourselves and build nothing but lists.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tieline_cloud.gridmodel.model import BoolArray, FloatArray, IntArray
from tieline_core.errors import BadInputError

MAX_BYTES = 256 * 1024 * 1024
MAX_ROWS = 2_000_000


@dataclass(frozen=True, slots=True)
class Table:
    """One element table: columns by name, the file's index, and where it came from for messages."""

    source: str
    name: str
    index: tuple[int, ...]
    columns: Mapping[str, list[Any]]

    def __len__(self) -> int:
        return len(self.index)

    def refuse(self, column: str, row: int, value: object, reason: str) -> BadInputError:
        """The error for one cell, naming table, column and the file's own index."""
        return BadInputError(self.source, f"{self.name}.{column}[{self.index[row]}]", value, reason)

    def column(self, name: str, default: object = None) -> list[Any]:
        """A column as it stands; the default where the file has no such column."""
        return self.columns.get(name, [default] * len(self))

    def floats(self, name: str, default: float | None = None, *, above: float | None = None) -> FloatArray:
        """A column of finite numbers.

        Args:
            name: Column.
            default: Stands for an absent or empty cell; None = the cell must be there.
            above: Every value must be greater.
        """
        out = np.empty(len(self))
        for row, cell in enumerate(self.column(name)):
            value = default if cell is None else cell
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                raise self.refuse(name, row, cell, "expected a finite number")
            if above is not None and value <= above:
                raise self.refuse(name, row, cell, f"expected a number greater than {above:g}")
            out[row] = value
        return out

    def booleans(self, name: str, default: bool = True) -> BoolArray:
        """A column of true/false."""
        out = np.empty(len(self), dtype=np.bool_)
        for row, cell in enumerate(self.column(name, default)):
            value = default if cell is None else cell
            if value not in (True, False):
                raise self.refuse(name, row, cell, "expected true or false")
            out[row] = bool(value)
        return out

    def texts(self, name: str) -> list[str | None]:
        """A column of texts; empty cells and empty texts become None."""
        return [None if cell is None or str(cell).strip() == "" else str(cell).strip() for cell in self.column(name)]

    def names(self) -> tuple[str, ...]:
        """Stable unique names: the ``name`` column, with ``table/index`` for an empty one and ``#index`` on repeats."""
        seen: set[str] = set()
        out = []
        for row, text in enumerate(self.texts("name")):
            name = text or f"{self.name}/{self.index[row]}"
            if name in seen:
                name = f"{name}#{self.index[row]}"
            seen.add(name)
            out.append(name)
        return tuple(out)

    def references(self, name: str, positions: Mapping[int, int], target: str) -> IntArray:
        """A column of indices into another table, as positions in it."""
        out = np.empty(len(self), dtype=np.int64)
        for row, cell in enumerate(self.column(name)):
            if not isinstance(cell, int | float) or isinstance(cell, bool) or int(cell) not in positions:
                raise self.refuse(name, row, cell, f"there is no {target} with this index")
            out[row] = positions[int(cell)]
        return out


class Tables:
    """All tables of a network file; a table the file lacks is empty."""

    def __init__(self, source: str, objects: Mapping[str, Any]) -> None:
        self.source = source
        self._objects = objects

    def scalar(self, name: str, default: float) -> float:
        """A number at the top level."""
        value = self._objects.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise BadInputError(self.source, name, value, "expected a finite number")
        return float(value)

    def text(self, name: str) -> str:
        """A text at the top level, empty when absent."""
        value = self._objects.get(name)
        return value if isinstance(value, str) else ""

    def table(self, name: str) -> Table:
        """One table.

        Raises:
            BadInputError: When it is not a frame in split orientation, has more than 2 million rows or ragged rows.
        """
        raw = self._objects.get(name)
        if raw is None:
            return Table(self.source, name, (), {})
        if not isinstance(raw, dict) or raw.get("_class") != "DataFrame" or raw.get("orient", "split") != "split":
            raise BadInputError(self.source, name, raw, "expected a table in split orientation")
        try:
            frame = raw["_object"]
            frame = json.loads(frame) if isinstance(frame, str) else frame
            columns, index, data = frame["columns"], frame["index"], frame["data"]
        except (KeyError, TypeError, json.JSONDecodeError) as error:
            raise BadInputError(self.source, name, raw.get("_object"), f"is no table: {error}") from error
        if len(data) > MAX_ROWS:
            raise BadInputError(self.source, name, f"{len(data)} rows", f"at most {MAX_ROWS} rows are read")
        if len(index) != len(data) or any(len(row) != len(columns) for row in data):
            raise BadInputError(self.source, name, None, "rows, index and columns do not fit together")
        cells = [list(column) for column in zip(*data, strict=True)] if data else [[] for _ in columns]
        return Table(self.source, name, tuple(index), dict(zip(columns, cells, strict=True)))


def read_tables(network: Path | str | bytes, source: str | None = None) -> Tables:
    """Read a network file.

    Args:
        network: Path, or the bytes themselves.
        source: Name for error messages; the path when None.

    Raises:
        BadInputError: When the file is missing, too large, no JSON or no pandapower network.
    """
    name = source or ("network" if isinstance(network, bytes) else str(network))
    if isinstance(network, bytes):
        data = network
    else:
        path = Path(network)
        try:
            size = path.stat().st_size
            data = path.read_bytes() if size <= MAX_BYTES else b""
        except OSError as error:
            raise BadInputError(name, "", None, f"cannot be read: {error.strerror}") from error
        if size > MAX_BYTES:
            raise BadInputError(name, "", f"{size} bytes", f"at most {MAX_BYTES} bytes are read")
    if len(data) > MAX_BYTES:
        raise BadInputError(name, "", f"{len(data)} bytes", f"at most {MAX_BYTES} bytes are read")
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise BadInputError(name, "", data[:40], f"is no JSON: {error}") from error
    if not isinstance(document, dict) or document.get("_class") != "pandapowerNet":
        raise BadInputError(name, "_class", None, "is no pandapower network (written by pandapower.to_json)")
    objects = document.get("_object")
    if not isinstance(objects, dict):
        raise BadInputError(name, "_object", type(objects).__name__, "expected the tables of the network")
    return Tables(name, objects)
