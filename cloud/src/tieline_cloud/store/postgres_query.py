"""The reading side of the PostgreSQL store: chunks are found by edge, day, span and number, and unpacked here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tieline_cloud.store.parquet import export_table, number_column, write_export
from tieline_cloud.store.ports import LastValue, Quarantined, Series, StoreStatistics
from tieline_cloud.store.postgres_chunks import Columns, decode
from tieline_cloud.store.postgres_points import KnownPoints
from tieline_cloud.store.postgres_schema import day_of
from tieline_cloud.store.postgres_session import Connection, Sessions
from tieline_core.ids import PointId
from tieline_core.messages.telemetry import Event, IssuedForecast, Skip
from tieline_core.quantities import Quality
from tieline_core.timegrid import ceil_to, from_us, to_us

DAY_US: Final = 86_400_000_000
_EXPORT_ROWS: Final = 2_000_000
_OVERLAP: Final = "edge = ANY(%s) AND day BETWEEN %s AND %s AND first_us < %s AND last_us >= %s"
_LAST_DAY: Final = (date.max - date(1970, 1, 1)).days
_FIRST_DAY: Final = (date.min - date(1970, 1, 1)).days


def overlap(edges: Sequence[str], start_us: int, end_us: int) -> list[Any]:
    """Parameters of the condition for chunks that may hold something of [start, end)."""
    days = [day_of(max(_FIRST_DAY, min(_LAST_DAY, us // DAY_US))) for us in (start_us, end_us - 1)]
    return [list(edges), *days, end_us, start_us]


def gather(
    connection: Connection, edges: Sequence[str], wanted: NDArray[np.int32], start_us: int, end_us: int, above: int = 0
) -> Columns:
    """Readings of some points in [start, end), ascending by number and instant.

    Args:
        connection: In a transaction.
        edges: Edges of the points.
        wanted: Numbers of the points.
        start_us: First instant.
        end_us: First instant beyond.
        above: Only of positions above this one.
    """
    if not len(wanted) or end_us <= start_us:
        return Columns.joined([])
    low, high = int(wanted.min()), int(wanted.max())
    marked = np.zeros(high + 2, np.bool_)
    marked[wanted] = True
    parts = []
    condition = f"{_OVERLAP} AND first_number <= %s AND last_number >= %s AND position > %s"
    query = f"SELECT body FROM chunks WHERE {condition}"  # noqa: S608 (a constant)
    parameters = [*overlap(edges, start_us, end_us), high, low, above]
    for (body,) in connection.cursor(binary=True).stream(query, parameters, binary=True):
        rows = decode(body)
        rows = rows.between(low, high)
        keep = marked[rows.numbers] & (rows.at_us >= start_us) & (rows.at_us < end_us)
        parts.append(rows.take(keep))
    rows = Columns.joined(parts)
    return rows.take(np.lexsort((rows.at_us, rows.numbers)))


class PostgresQuery:
    """Queries over connections of their own; safe to call from any thread."""

    def __init__(self, sessions: Sessions, known: KnownPoints) -> None:
        self._sessions = sessions
        self._known = known

    def _caught_up(self) -> None:
        with self._sessions.reading() as connection:
            self._known.catch_up(connection)

    def _numbers(self, points: Sequence[PointId]) -> dict[PointId, int]:
        """Numbers of the points that are known."""
        numbers = {point: self._known.last.number(point) for point in points}
        if None in numbers.values():
            self._caught_up()
            numbers = {point: self._known.last.number(point) for point in points}
        return {point: number for point, number in numbers.items() if number is not None}

    def _gather(self, numbers: dict[PointId, int], start_us: int, end_us: int) -> Columns:
        edges = sorted({point.partition("/")[0] for point in numbers})
        with self._sessions.reading() as connection:
            return gather(connection, edges, np.array(list(numbers.values()), np.int32), start_us, end_us)

    def points(self, edge: str | None = None, like: str | None = None) -> list[PointId]:
        """Known points, sorted; ``like`` is a shell pattern such as ``*/tr1/p_w``."""
        self._caught_up()
        return self._known.last.names(edge, like)

    def series(self, point: PointId, start: datetime, end: datetime, limit: int | None = None) -> Series:
        """Raw readings in [start, end), ascending; with a limit the first ones."""
        rows = self._gather(self._numbers([point]), to_us(start), to_us(end)).take(slice(0, limit))
        return Series(point, rows.at_us, rows.values, rows.quality)

    def means(self, points: Sequence[PointId], start: datetime, end: datetime, step_s: int) -> dict[PointId, Series]:
        """Means of the good readings of each whole interval that starts in [start, end); label = interval start."""
        step, step_us = timedelta(seconds=step_s), step_s * 1_000_000
        numbers = self._numbers(points)
        rows = self._gather(numbers, to_us(ceil_to(start, step)), to_us(ceil_to(end, step)))
        rows = rows.take((rows.quality == Quality.GOOD) & ~np.isnan(rows.values))
        result = {}
        for point in points:
            number = numbers.get(point, -1)
            mine = rows.between(number, number)
            labels, owner = np.unique(mine.at_us // step_us, return_inverse=True)
            counts = np.maximum(np.bincount(owner, minlength=len(labels)), 1)
            means = np.bincount(owner, mine.values, len(labels)) / counts
            result[point] = Series(point, labels * step_us, means, np.zeros(len(labels), np.uint8))
        return result

    def last(self, points: Sequence[PointId] | None = None) -> list[LastValue]:
        """Last value of the points, or of all, sorted by point; from memory, after what others have stored was taken in."""
        self._caught_up()
        return self._known.last.rows(points)

    def events(
        self, since: datetime | None = None, edge: str | None = None, limit: int = 200, until: datetime | None = None
    ) -> list[Event]:
        """Newest events first, in [since, until)."""
        rows = self._rows(
            "SELECT body FROM events WHERE at_us >= %s AND at_us < %s AND edge = coalesce(%s, edge) "
            "ORDER BY at_us DESC, event_id DESC LIMIT %s",
            [-(2**62) if since is None else to_us(since), 2**62 if until is None else to_us(until), edge, limit],
        )
        return [Event.model_validate_json(row[0]) for row in rows]

    def forecasts(self, point: PointId, start: datetime, end: datetime) -> list[IssuedForecast]:
        """Issued forecasts with ``issued_at`` in [start, end), oldest first."""
        rows = self._rows(
            "SELECT body FROM forecasts WHERE point = %s AND issued_at_us >= %s AND issued_at_us < %s ORDER BY issued_at_us",
            [str(point), to_us(start), to_us(end)],
        )
        return [IssuedForecast.model_validate_json(row[0]) for row in rows]

    def skips(self, edge: str | None = None) -> list[Skip]:
        """Declared gaps, in the order of their arrival."""
        rows = self._rows("SELECT body FROM skips WHERE edge = coalesce(%s, edge) ORDER BY number", [edge])
        return [Skip.model_validate_json(row[0]) for row in rows]

    def quarantined(self, limit: int = 100) -> list[Quarantined]:
        """What could not be decoded, newest first."""
        query = "SELECT at_us, edge, topic, size, reason FROM quarantine ORDER BY number DESC LIMIT %s"
        return [Quarantined(from_us(row[0]), *row[1:]) for row in self._rows(query, [limit])]

    def documents(self, kind: str) -> dict[str, bytes]:
        """All kept documents of a kind by key."""
        return {
            row[0]: bytes(row[1]) for row in self._rows("SELECT key, body FROM documents WHERE kind = %s ORDER BY 1", [kind])
        }

    def statistics(self) -> StoreStatistics:
        """Sizes of what is kept; that of roll-ups is the server's estimate."""
        rows = self._rows(
            "SELECT (SELECT count(*) FROM points), readings, frames, (SELECT count(*) FROM events), "
            "(SELECT count(*) FROM forecasts), (SELECT count(*) FROM quarantine), (SELECT count(*) FROM findings), "
            "(SELECT count(*) FROM misdated), (SELECT count(*) FROM estimates), "
            "(SELECT coalesce(sum(greatest(c.reltuples, 0)), 0)::bigint FROM pg_class c WHERE c.relkind = 'r' "
            "AND c.relname LIKE 'rollups\\_%%' AND pg_table_is_visible(c.oid)) FROM ledger",
            [],
        )
        return StoreStatistics(*rows[0])

    def _rows(self, query: str, parameters: Sequence[Any]) -> list[tuple[Any, ...]]:
        with self._sessions.reading() as connection:
            return connection.execute(query.encode(), parameters).fetchall()

    def export(self, path: str | Path, start: datetime, end: datetime, edge: str | None = None) -> int:
        """Write all readings of [start, end) to a parquet file and return the rows."""
        return write_export(Path(path), self._export(self.points(edge), to_us(start), to_us(end)))

    def _export(self, points: Sequence[PointId], start_us: int, end_us: int) -> Iterator[Any]:
        for group in self._export_groups(points, start_us, end_us):
            numbers = self._numbers(group)
            rows = self._gather(numbers, start_us, end_us)
            for point, number in numbers.items():
                mine = rows.between(number, number)
                names = pa.array([str(point)] * len(mine), pa.string())
                yield export_table(names, pa.array(mine.at_us), number_column(mine.values), pa.array(mine.quality))

    def _export_groups(self, points: Sequence[PointId], start_us: int, end_us: int) -> Iterator[Sequence[PointId]]:
        """Points in order, in groups that fit into memory: those of one edge, cut where it holds much."""
        edges: dict[str, list[PointId]] = {}
        for point in points:
            edges.setdefault(point.partition("/")[0], []).append(point)
        for edge, mine in edges.items():
            query = f"SELECT coalesce(sum(rows), 0)::bigint FROM chunks WHERE {_OVERLAP}"  # noqa: S608 (a constant)
            rows: int = self._rows(query, overlap([edge], start_us, end_us))[0][0]
            size = max(1, len(mine) * _EXPORT_ROWS // max(rows, 1))
            yield from (mine[first : first + size] for first in range(0, len(mine), size))
