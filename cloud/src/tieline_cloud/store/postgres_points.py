"""What a hub keeps in memory of a ledger that others may write to as well: points, their numbers, and last values."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tieline_cloud.store.last_values import LastValues
from tieline_cloud.store.postgres_chunks import CHUNK_ROWS, Columns, decode, encode
from tieline_cloud.store.postgres_session import Connection
from tieline_core.frame import exponent_of
from tieline_core.ids import PointId

#: Exponent of a point whose quantity declares no resolution: whole numbers are kept as such, all others as float64.
_UNDECLARED: Final = 0


class KnownPoints:
    """Points and last values as of a position of the ledger; :meth:`catch_up` takes in what others have stored since.

    Safe to use from any thread.
    """

    def __init__(self) -> None:
        self.last = LastValues()
        self._lock = threading.RLock()
        self._position = 0
        self._saved = 0
        self._unsaved_readings = 0
        self._edge_names: list[str] = []
        self._edge_numbers: dict[str, int] = {}
        self._edges = np.zeros(256, np.int32)
        self._exponents = np.zeros(256, np.int8)

    @property
    def unsaved_readings(self) -> int:
        """Readings that a start would have to read again."""
        return self._unsaved_readings

    def edge_name(self, number: int) -> str:
        """The edge of a number of :meth:`tables`."""
        return self._edge_names[number]

    def tables(self, new: Mapping[PointId, int]) -> tuple[NDArray[np.int32], NDArray[np.int8]]:
        """Edge and exponent of every point by its number, with points that are not committed yet."""
        with self._lock:
            self._describe(new)
            return self._edges, self._exponents

    def _describe(self, points: Mapping[PointId, int]) -> None:
        """Edge and exponent follow from the name, so that what a rolled back point left here does no harm."""
        top = max(points.values(), default=-1)
        while top >= len(self._edges):
            self._edges = np.concatenate([self._edges, np.zeros_like(self._edges)])
            self._exponents = np.concatenate([self._exponents, np.zeros_like(self._exponents)])
        for name, number in points.items():
            edge = name.partition("/")[0]
            if edge not in self._edge_numbers:
                self._edge_numbers[edge] = len(self._edge_names)
                self._edge_names.append(edge)
            self._edges[number] = self._edge_numbers[edge]
            exponent = exponent_of(name)
            self._exponents[number] = _UNDECLARED if exponent is None else exponent

    def _add(self, points: Sequence[tuple[int, PointId]]) -> None:
        fresh = [(number, name) for number, name in points if number >= len(self.last)]
        self._describe({name: number for number, name in fresh})
        self.last.add(name for _, name in fresh)

    def load(self, connection: Connection) -> None:
        """Begin from what was saved, then catch up."""
        with self._lock:
            self._take_points(connection)
            for position, body in connection.cursor(binary=True).execute(
                "SELECT position, body FROM last_values ORDER BY part", binary=True
            ):
                rows = decode(body)
                self.last.update(rows.numbers, rows.at_us, rows.values, rows.quality)
                self._position = self._saved = position
            self.catch_up(connection)

    def catch_up(self, connection: Connection) -> None:
        """Take in what has been committed since, by whomever."""
        with self._lock:
            found = connection.execute("SELECT position FROM ledger").fetchall()
            position: int = found[0][0]
            if position == self._position:
                return
            self._take_points(connection)
            cursor = connection.cursor(binary=True)
            query = "SELECT body FROM chunks WHERE position > %s AND position <= %s"
            for (body,) in cursor.stream(query, [self._position, position], binary=True):
                self._take_rows(decode(body))
            self._position = position

    def _take_points(self, connection: Connection) -> None:
        rows = connection.execute("SELECT id, name FROM points WHERE id >= %s ORDER BY id", [len(self.last)]).fetchall()
        self._add([(number, PointId(name)) for number, name in rows])

    def _take_rows(self, rows: Columns) -> None:
        self.last.update(rows.numbers, rows.at_us, rows.values, rows.quality)
        self._unsaved_readings += len(rows)

    def take(self, position: int | None, new: Mapping[PointId, int], rows: Columns) -> None:
        """Our own commit is durable. Where another came before it, :meth:`catch_up` takes both from the ledger."""
        with self._lock:
            if position is None:
                self._add([(number, name) for name, number in new.items()])
            elif position == self._position + 1:
                self._add([(number, name) for name, number in new.items()])
                self._take_rows(rows)
                self._position = position

    def save(self, connection: Connection) -> None:
        """Keep the last values, so that a start need not read all chunks; nothing when nothing changed."""
        with self._lock:
            self.catch_up(connection)
            if self._position == self._saved:
                return
            held = self.last.columns()
            rows = Columns(held.numbers, held.at_us, held.values, held.quality)
            _, exponents = self.tables({})
            parts = [rows.take(slice(first, first + CHUNK_ROWS)) for first in range(0, len(rows), CHUNK_ROWS)]
            connection.execute("DELETE FROM last_values")
            for number, part in enumerate(parts):
                values = [number, self._position, encode(part, exponents)]
                connection.execute("INSERT INTO last_values VALUES (%s, %s, %b)", values)
            self._saved, self._unsaved_readings = self._position, 0
