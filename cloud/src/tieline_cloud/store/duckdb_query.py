"""The reading side of the DuckDB store: each question on a cursor of its own, so none waits for the writer."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa

from tieline_cloud.store.duckdb_parts import TABLES, bucket
from tieline_cloud.store.duckdb_rollup_query import DuckDbRollupQuery, numbers_of
from tieline_cloud.store.parquet import export_table, write_export
from tieline_cloud.store.ports import Estimate, Finding, LastValue, Misdated, Quarantined, Series, StoreStatistics
from tieline_cloud.store.rollup import QUARTER_US, RollupLevel
from tieline_core.frame import ReadingBatch
from tieline_core.ids import EdgeId, PointId
from tieline_core.messages.telemetry import Event, IssuedForecast, Skip, Stream
from tieline_core.reconcile import HourDigest, by_hour
from tieline_core.timegrid import ceil_to, floor_to, from_us, to_us

_EXPORT_ROWS: Final = 100_000


def _series(point: PointId, columns: dict[str, Any]) -> Series:
    return Series(
        point,
        np.asarray(columns["at_us"], np.int64),
        numbers_of(columns["value"]),
        np.asarray(columns["quality"], np.uint8),
    )


class DuckDbQuery(DuckDbRollupQuery):
    """Queries over an open connection; safe to call from any thread."""

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
        columns: dict[str, Any] = {"point_id": (), "at_us": (), "value": (), "quality": ()}
        if numbers and step_us % QUARTER_US == 0:
            # Quarter-hours outlive readings.
            with self._rolled(RollupLevel.QUARTER, from_us(first), from_us(beyond), list(numbers)) as (cursor, quarters):
                columns = cursor.execute(
                    f"SELECT point_id, {bucket('start_us', step_us)} AS at_us, sum(good_total) / sum(good) AS value, "  # noqa: S608 (our own words)
                    f"0::UTINYINT AS quality FROM ({quarters}) WHERE good > 0 GROUP BY 1, 2 ORDER BY 1, 2"
                ).fetchnumpy()
        elif numbers:
            with self._cursor() as cursor:
                columns = cursor.execute(
                    f"SELECT point_id, {bucket('at_us', step_us)} AS at_us, avg(value) AS value, 0::UTINYINT AS quality "  # noqa: S608 (our own words)
                    "FROM readings WHERE point_id IN (SELECT unnest(?::INTEGER[])) AND at_us >= ? AND at_us < ? "
                    "AND quality = 0 AND value IS NOT NULL GROUP BY 1, 2 ORDER BY 1, 2",
                    [list(numbers), first, beyond],
                ).fetchnumpy()
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

    def replay(self, after: int, limit_rows: int) -> tuple[int, ReadingBatch]:
        """Readings in the order they were stored, beginning above a position; returns the position reached."""
        while True:
            reached, batch = self._replayed(after, limit_rows)
            if reached == after or len(batch):
                return reached, batch
            after = reached  # retention has dropped all of it

    def _replayed(self, after: int, limit_rows: int) -> tuple[int, ReadingBatch]:
        with self._cursor() as cursor:
            cursor.begin()
            ahead = cursor.execute(
                "SELECT position, readings FROM positions WHERE position > ? ORDER BY position LIMIT ?",
                [after, max(1, limit_rows)],
            ).fetchnumpy()
            positions = np.asarray(ahead["position"], np.int64)
            if not len(positions):
                return after, ReadingBatch.of([])
            fitting = int(np.searchsorted(np.cumsum(ahead["readings"]), limit_rows, "right"))
            reached = int(positions[max(1, fitting) - 1])
            columns = cursor.execute(
                "SELECT point_id, at_us, value, quality FROM readings WHERE position > ? AND position <= ? ORDER BY position",
                [after, reached],
            ).fetchnumpy()
        numbers, index = np.unique(np.asarray(columns["point_id"], np.int32), return_inverse=True)
        points = tuple(self._last.name(number) for number in numbers.tolist())
        whole = _series(PointId("all/all/all"), columns)
        return reached, ReadingBatch(points, index.astype(np.int32), whole.at_us, whole.values, whole.quality)

    def frame_digests(self, edge: EdgeId, stream: Stream, start: datetime, end: datetime) -> list[HourDigest]:
        """Committed frame contents of every hour that meets [start, end), counted and hashed; skips are left out."""
        hour = timedelta(hours=1)
        with self._cursor() as cursor:
            rows = cursor.execute(
                "SELECT first_us, sha256, readings FROM frames "
                "WHERE edge = ? AND stream = ? AND first_us >= ? AND first_us < ?",
                [edge, stream.value, to_us(floor_to(start, hour)), to_us(ceil_to(end, hour))],
            ).fetchall()
        return by_hour(rows)

    def findings(self, point_like: str | None, rule: str | None, start: datetime, end: datetime, limit: int) -> list[Finding]:
        """Findings on readings measured in [start, end), newest first; ``point_like`` is a shell pattern."""
        with self._cursor() as cursor:
            rows = cursor.execute(
                "SELECT f.point_id, f.at_us, f.received_at_us, f.rule, f.value, f.bound FROM findings f "
                "JOIN points p ON p.id = f.point_id WHERE f.at_us >= ? AND f.at_us < ? AND f.rule = coalesce(?, f.rule) "
                "AND p.name GLOB coalesce(?, '*') ORDER BY f.at_us DESC, p.name, f.rule LIMIT ?",
                [to_us(start), to_us(end), rule, point_like, limit],
            ).fetchall()
        return [Finding(self._last.name(row[0]), from_us(row[1]), from_us(row[2]), *row[3:]) for row in rows]

    def misdated(self, point_like: str | None, limit: int) -> list[Misdated]:
        """Readings whose instant is not believed, newest arrival first."""
        with self._cursor() as cursor:
            rows = cursor.execute(
                "SELECT m.point_id, m.at_us, m.received_at_us, m.value, m.quality, m.rule FROM misdated m "
                "JOIN points p ON p.id = m.point_id WHERE p.name GLOB coalesce(?, '*') "
                "ORDER BY m.received_at_us DESC, m.at_us DESC, p.name LIMIT ?",
                [point_like, limit],
            ).fetchall()
        return [Misdated(self._last.name(row[0]), from_us(row[1]), from_us(row[2]), *row[3:]) for row in rows]

    def estimates(self, point: PointId, start: datetime, end: datetime) -> list[Estimate]:
        """Estimated values in [start, end), ascending."""
        number = self._last.number(point)
        with self._cursor() as cursor:
            rows = cursor.execute(
                "SELECT at_us, arg_max({'v': value, 'm': method}, number) AS newest FROM estimates "
                "WHERE point_id = ? AND at_us >= ? AND at_us < ? GROUP BY 1 ORDER BY 1",
                [-1 if number is None else number, to_us(start), to_us(end)],
            ).fetchall()
        return [Estimate(point, from_us(at_us), newest["v"], newest["m"]) for at_us, newest in rows]

    def statistics(self) -> StoreStatistics:
        """Sizes of what is kept."""
        counted = ("points", "readings", "frames", "events", "forecasts", "quarantine", "findings", "misdated", "estimates")
        each = ", ".join(f"(SELECT count(*) FROM {table})" for table in counted)  # noqa: S608 (tables of ours)
        rolled = " + ".join(f"(SELECT count(*) FROM {table})" for table in TABLES.values())  # noqa: S608 (tables of ours)
        with self._cursor() as cursor:
            rows = cursor.execute(f"SELECT {each}, {rolled}").fetchall()
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
