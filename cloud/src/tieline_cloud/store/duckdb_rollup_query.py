"""Questions to roll-ups: what is folded, and what is not yet, in one answer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime
from typing import Any, Final
from zoneinfo import ZoneInfo

import duckdb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tieline_cloud.store.duckdb_parts import FINER, Bounds, calendar, merged, of_readings, of_table, positions_of
from tieline_cloud.store.duckdb_readings import registered
from tieline_cloud.store.last_values import LastValues
from tieline_cloud.store.rollup import GroupFunction, Rollup, RollupLevel, cover
from tieline_cloud.store.values import Series
from tieline_core.ids import PointId
from tieline_core.quantities import Quality

#: Up to so many points stand in the question as numbers, where zone maps see them; more come as a table.
_NAMED_POINTS: Final = 64
_VALUE: Final[Mapping[GroupFunction, str]] = {
    "sum": "sum(total / count)",
    "mean": "avg(total / count)",
    "min": "min(minimum)",
    "max": "max(maximum)",
}


def numbers_of(column: Any) -> NDArray[np.float64]:
    """A column of numbers, NaN where there is none."""
    return np.ma.filled(np.ma.asarray(column).astype(np.float64), np.nan)


class DuckDbRollupQuery:
    """Roll-up queries over an open connection; safe to call from any thread."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, last: LastValues, zone: ZoneInfo) -> None:
        self._root = connection
        self._last = last
        self._zone = zone

    @contextmanager
    def _cursor(self) -> Iterator[duckdb.DuckDBPyConnection]:
        cursor = self._root.cursor()
        try:
            yield cursor
        finally:
            cursor.close()

    @contextmanager
    def _rolled(
        self, level: RollupLevel, start: datetime, end: datetime, numbers: Sequence[int]
    ) -> Iterator[tuple[duckdb.DuckDBPyConnection, str]]:
        """A cursor and the SQL of the intervals of a level that start in [start, end), each once."""
        whole = cover(level, start, end, self._zone)
        span = (whole.first_us, whole.end_us)
        with self._cursor() as cursor, ExitStack() as stack:
            points = _among(numbers)
            if len(numbers) > _NAMED_POINTS:
                stack.enter_context(registered(cursor, "wanted", pa.table({"id": np.array(numbers, np.int32)})))
            if level is RollupLevel.DAY:
                stack.enter_context(registered(cursor, "calendar", calendar(*span, self._zone)))
            cursor.begin()  # positions and tables have to be of one moment
            positions = positions_of(cursor)
            parts = [of_table(level, Bounds(0, None, span, points))]
            coarser, finer = level, FINER[level]
            while finer is not None:
                parts.append(of_table(finer, Bounds(positions[coarser], None, span, points)))
                coarser, finer = finer, FINER[finer]
            parts.append(of_readings(RollupLevel.MINUTE, Bounds(positions[RollupLevel.MINUTE], None, span, points)))
            whole_sql = merged(RollupLevel.DAY, parts[1:]) + " UNION ALL " + parts[0] if level is RollupLevel.DAY else ""
            yield cursor, _regrouped(whole_sql) if whole_sql else merged(level, parts)

    def rollups(self, points: Sequence[PointId], level: RollupLevel, start: datetime, end: datetime) -> dict[PointId, Rollup]:
        """Roll-ups of the intervals that start in [start, end), of every point asked for."""
        numbers = {number: point for point in points if (number := self._last.number(point)) is not None}
        rows: dict[str, Any] = {}
        if numbers:
            with self._rolled(level, start, end, list(numbers)) as (cursor, intervals):
                rows = cursor.execute(f"SELECT * FROM ({intervals}) ORDER BY point_id, start_us").fetchnumpy()  # noqa: S608 (our own words)
        owners = np.asarray(rows.get("point_id", ()), np.int32)
        found = {point: slice(*np.searchsorted(owners, (number, number + 1)).tolist()) for number, point in numbers.items()}
        columns = _columns(rows)
        return {point: Rollup(point, *(column[found.get(point, slice(0))] for column in columns)) for point in points}

    def aggregate(
        self,
        groups: Mapping[str, Sequence[PointId]],
        level: RollupLevel,
        start: datetime,
        end: datetime,
        function: GroupFunction,
    ) -> dict[str, Series]:
        """One series a group: the points' means summed or averaged, or the extremes of their extremes."""
        named = [(name, tuple(dict.fromkeys(points))) for name, points in groups.items() if points]
        members = [
            (place, number)
            for place, (_, points) in enumerate(named)
            for point in points
            if (number := self._last.number(point)) is not None
        ]
        rows: dict[str, Any] = {}
        if members:
            table = np.array(members, np.int32)
            present = pa.table({"place": table[:, 0], "point_id": table[:, 1]})
            wanted = sorted({number for _, number in members})
            with (
                self._rolled(level, start, end, wanted) as (cursor, intervals),
                registered(cursor, "members", present),
            ):
                rows = cursor.execute(
                    f"SELECT place, start_us, count(*) AS present, {_VALUE[function]} AS value, max(quality) AS quality "  # noqa: S608 (our own words)
                    f"FROM ({intervals}) JOIN members USING (point_id) WHERE count > 0 GROUP BY 1, 2 ORDER BY 1, 2"
                ).fetchnumpy()
        owners = np.asarray(rows.get("place", ()), np.int32)
        result = {}
        for place, (name, points) in enumerate(named):
            here = slice(*np.searchsorted(owners, (place, place + 1)).tolist())
            if not rows:
                result[name] = Series(points[0], np.zeros(0, np.int64), np.zeros(0), np.zeros(0, np.uint8))
                continue
            short = np.asarray(rows["present"][here]) < len(points)
            quality = np.maximum(np.asarray(rows["quality"][here], np.uint8), np.where(short, Quality.UNCERTAIN, Quality.GOOD))
            at_us = np.asarray(rows["start_us"][here], np.int64)
            result[name] = Series(points[0], at_us, numbers_of(rows["value"][here]), quality.astype(np.uint8))
        return result


def _regrouped(days: str) -> str:
    """Days of which one part is folded and another is not, brought together."""
    return (
        "SELECT point_id, start_us, sum(count)::BIGINT AS count, sum(good)::BIGINT AS good, min(minimum) AS minimum, "  # noqa: S608 (our own words)
        "max(maximum) AS maximum, sum(total) AS total, sum(good_total) AS good_total, arg_max(last, last_us) AS last, "
        f"max(last_us) AS last_us, max(quality) AS quality FROM ({days}) GROUP BY 1, 2"
    )


def _among(numbers: Sequence[int]) -> str:
    if len(numbers) > _NAMED_POINTS:
        return f"point_id BETWEEN {min(numbers)} AND {max(numbers)} AND point_id IN (SELECT id FROM wanted)"  # noqa: S608 (numbers)
    return f"point_id IN ({', '.join(map(str, numbers))})" if len(numbers) != 1 else f"point_id = {numbers[0]}"


def _columns(rows: Mapping[str, Any]) -> tuple[NDArray[Any], ...]:
    """Columns of a roll-up in its order, of an answer or of none."""
    if not rows:
        return tuple(np.zeros(0, kind) for kind in (np.int64, np.int64, np.int64, float, float, float, float, np.uint8))
    count = np.asarray(rows["count"], np.int64)
    total = np.asarray(rows["total"], np.float64)
    mean = np.divide(total, count, out=np.full(len(count), np.nan), where=count > 0)
    return (
        np.asarray(rows["start_us"], np.int64),
        count,
        np.asarray(rows["good"], np.int64),
        numbers_of(rows["minimum"]),
        numbers_of(rows["maximum"]),
        mean,
        numbers_of(rows["last"]),
        np.asarray(rows["quality"], np.uint8),
    )
