"""The reading side of the DuckDB store: each question on a cursor of its own, so none waits for the writer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

import duckdb
import numpy as np
import pyarrow as pa

from tieline_cloud.store.last_values import LastValues
from tieline_cloud.store.parquet import export_table, write_export
from tieline_cloud.store.ports import LastValue, Quarantined, Series, StoreStatistics
from tieline_core.ids import PointId
from tieline_core.messages.telemetry import Event, IssuedForecast, Skip
from tieline_core.quantities import Quality
from tieline_core.timegrid import ceil_to, from_us, to_us

_EXPORT_ROWS: Final = 100_000


def _series(point: PointId, columns: dict[str, Any]) -> Series:
    return Series(
        point,
        np.asarray(columns["at_us"], np.int64),
        np.ma.filled(np.ma.asarray(columns["value"]).astype(np.float64), np.nan),
        np.asarray(columns["quality"], np.uint8),
    )


class DuckDbQuery:
    """Queries over an open connection; safe to call from any thread."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, last: LastValues) -> None:
        self._root = connection
        self._last = last

    @contextmanager
    def _cursor(self) -> Iterator[duckdb.DuckDBPyConnection]:
        cursor = self._root.cursor()
        try:
            yield cursor
        finally:
            cursor.close()

    def points(self, edge: str | None = None, like: str | None = None) -> list[PointId]:
        """Known points, sorted; ``like`` is a shell pattern such as ``*/tr1/p_w``."""
        return self._last.names(edge, like)

    def series(self, point: PointId, start: datetime, end: datetime, limit: int | None = None) -> Series:
        """Raw readings in [start, end), ascending; with a limit the first ones."""
        number = self._last.number(point)
        with self._cursor() as cursor:
            cursor.execute(
                "SELECT at_us, value, quality FROM readings WHERE point_id = ? AND at_us >= ? AND at_us < ? "
                "ORDER BY at_us LIMIT ?",
                [-1 if number is None else number, to_us(start), to_us(end), 2**62 if limit is None else limit],
            )
            return _series(point, cursor.fetchnumpy())

    def means(self, points: Sequence[PointId], start: datetime, end: datetime, step_s: int) -> dict[PointId, Series]:
        """Means of the good readings of each whole interval that starts in [start, end); label = interval start."""
        step = timedelta(seconds=step_s)
        step_us = step_s * 1_000_000
        first, beyond = to_us(ceil_to(start, step)), to_us(ceil_to(end, step))
        numbers = {number: point for point in points if (number := self._last.number(point)) is not None}
        with self._cursor() as cursor:
            cursor.execute(
                "SELECT point_id, at_us - ((at_us % ?) + ?) % ? AS at_us, avg(value) AS value, 0::UTINYINT AS quality "
                "FROM readings WHERE point_id IN (SELECT unnest(?::INTEGER[])) AND at_us >= ? AND at_us < ? "
                "AND quality = ? AND value IS NOT NULL GROUP BY 1, 2 ORDER BY 1, 2",
                [step_us, step_us, step_us, list(numbers), first, beyond, int(Quality.GOOD)],
            )
            columns = cursor.fetchnumpy()
        owners = np.asarray(columns["point_id"])
        whole = _series(PointId("all/all/all"), columns)
        result = {}
        for point in points:
            rows = owners == (-1 if (number := self._last.number(point)) is None else number)
            result[point] = Series(point, whole.at_us[rows], whole.values[rows], whole.quality[rows])
        return result

    def last(self, points: Sequence[PointId] | None = None) -> list[LastValue]:
        """Last value of the points, or of all, sorted by point; from memory."""
        return self._last.rows(points)

    def events(
        self, since: datetime | None = None, edge: str | None = None, limit: int = 200, until: datetime | None = None
    ) -> list[Event]:
        """Newest events first, in [since, until)."""
        with self._cursor() as cursor:
            rows = cursor.execute(
                "SELECT body FROM events WHERE at_us >= ? AND at_us < ? AND edge = coalesce(?, edge) "
                "ORDER BY at_us DESC, event_id DESC LIMIT ?",
                [-(2**62) if since is None else to_us(since), 2**62 if until is None else to_us(until), edge, limit],
            ).fetchall()
        return [Event.model_validate_json(row[0]) for row in rows]

    def forecasts(self, point: PointId, start: datetime, end: datetime) -> list[IssuedForecast]:
        """Issued forecasts with ``issued_at`` in [start, end), oldest first."""
        with self._cursor() as cursor:
            rows = cursor.execute(
                "SELECT body FROM forecasts WHERE point = ? AND issued_at_us >= ? AND issued_at_us < ? ORDER BY issued_at_us",
                [point, to_us(start), to_us(end)],
            ).fetchall()
        return [IssuedForecast.model_validate_json(row[0]) for row in rows]

    def skips(self, edge: str | None = None) -> list[Skip]:
        """Declared gaps, in the order of their arrival."""
        with self._cursor() as cursor:
            rows = cursor.execute("SELECT body FROM skips WHERE edge = coalesce(?, edge) ORDER BY rowid", [edge]).fetchall()
        return [Skip.model_validate_json(row[0]) for row in rows]

    def quarantined(self, limit: int = 100) -> list[Quarantined]:
        """What could not be decoded, newest first."""
        with self._cursor() as cursor:
            rows = cursor.execute(
                "SELECT at_us, edge, topic, size, reason FROM quarantine ORDER BY number DESC LIMIT ?", [limit]
            ).fetchall()
        return [Quarantined(from_us(row[0]), row[1], row[2], row[3], row[4]) for row in rows]

    def documents(self, kind: str) -> dict[str, bytes]:
        """All kept documents of a kind by key."""
        with self._cursor() as cursor:
            rows = cursor.execute("SELECT key, body FROM documents WHERE kind = ? ORDER BY key", [kind]).fetchall()
        return {row[0]: bytes(row[1]) for row in rows}

    def statistics(self) -> StoreStatistics:
        """Sizes of what is kept."""
        with self._cursor() as cursor:
            rows = cursor.execute(
                "SELECT (SELECT count(*) FROM points), (SELECT count(*) FROM readings), (SELECT count(*) FROM frames), "
                "(SELECT count(*) FROM events), (SELECT count(*) FROM forecasts), (SELECT count(*) FROM quarantine)"
            ).fetchall()
        return StoreStatistics(*rows[0])

    def export(self, path: str | Path, start: datetime, end: datetime, edge: str | None = None) -> int:
        """Write all readings of [start, end) to a parquet file and return the rows."""
        with self._cursor() as cursor:
            relation = cursor.sql(
                "SELECT p.name AS point, r.at_us, r.value, r.quality FROM readings r JOIN points p ON p.id = r.point_id "
                "WHERE r.at_us >= $1 AND r.at_us < $2 AND ($3 IS NULL OR starts_with(p.name, $3 || '/')) ORDER BY 1, 2",
                params=[to_us(start), to_us(end), edge],
            )
            reader = relation.to_arrow_reader(_EXPORT_ROWS)
            tables = (pa.Table.from_batches([batch]) for batch in reader)
            return write_export(Path(path), (export_table(t["point"], t["at_us"], t["value"], t["quality"]) for t in tables))
