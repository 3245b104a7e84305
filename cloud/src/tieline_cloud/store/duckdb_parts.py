"""The SQL of roll-ups: parts of intervals folded from something finer, and the tables they lie in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final
from zoneinfo import ZoneInfo

import duckdb
import numpy as np
import pyarrow as pa

from tieline_cloud.store.duckdb_readings import registered, transaction
from tieline_cloud.store.rollup import LENGTH_US, QUARTER_US, RollupLevel, day_starts

TABLES: Final[Mapping[RollupLevel, str]] = MappingProxyType(
    {
        RollupLevel.MINUTE: "rollups_minute",
        RollupLevel.QUARTER: "rollups_quarter",
        RollupLevel.HOUR: "rollups_hour",
        RollupLevel.DAY: "rollups_day",
    }
)
#: What each level is folded from; None = readings.
FINER: Final[Mapping[RollupLevel, RollupLevel | None]] = MappingProxyType(
    {
        RollupLevel.MINUTE: None,
        RollupLevel.QUARTER: RollupLevel.MINUTE,
        RollupLevel.HOUR: RollupLevel.QUARTER,
        RollupLevel.DAY: RollupLevel.QUARTER,
    }
)
COLUMNS: Final = "point_id, start_us, count, good, minimum, maximum, total, good_total, last, last_us, quality"
_OF_READINGS: Final = (
    "count(value) AS count, count(value) FILTER (quality = 0) AS good, min(value) AS minimum, max(value) AS maximum, "
    "coalesce(sum(value), 0) AS total, coalesce(sum(value) FILTER (quality = 0), 0) AS good_total, "
    "arg_max(value, at_us) FILTER (value IS NOT NULL) AS last, max(at_us) FILTER (value IS NOT NULL) AS last_us, "
    "max(quality) AS quality"
)
_OF_PARTS: Final = (
    "sum(count)::BIGINT AS count, sum(good)::BIGINT AS good, min(minimum) AS minimum, max(maximum) AS maximum, "
    "sum(total) AS total, sum(good_total) AS good_total, arg_max(last, last_us) AS last, max(last_us) AS last_us, "
    "max(quality) AS quality"
)


#: How parts lie in a table: what follows from the other columns is null and takes no room, as in every part that is of a
#: single reading.
_PACKED: Final = (
    "point_id, start_us, count, good, CASE WHEN count > 1 THEN minimum END, CASE WHEN count > 1 THEN maximum END, total, "
    "CASE WHEN good NOT IN (0, count) THEN good_total END, CASE WHEN count > 1 THEN last END, "
    "CASE WHEN last_us <> start_us THEN last_us END, quality"
)
_UNPACKED: Final = (
    "point_id, start_us, count, good, CASE WHEN count = 1 THEN total ELSE minimum END AS minimum, "
    "CASE WHEN count = 1 THEN total ELSE maximum END AS maximum, total, "
    "CASE good WHEN 0 THEN 0 WHEN count THEN total ELSE good_total END AS good_total, "
    "CASE WHEN count = 1 THEN total ELSE last END AS last, "
    "CASE WHEN count > 0 THEN coalesce(last_us, start_us) END AS last_us, quality"
)


@dataclass(frozen=True, slots=True)
class Bounds:
    """Which rows of a table are meant.

    Attributes:
        above: Position they lie above.
        upto: Position they do not lie above; None = the newest.
        span_us: [first, end) of their instants; None = all.
        points: SQL condition on ``point_id``.
    """

    above: int
    upto: int | None = None
    span_us: tuple[int, int] | None = None
    points: str = "true"

    def condition(self, instant: str) -> str:
        """The same as SQL; every number in it is our own."""
        parts = [f"position > {self.above}"]
        if self.upto is not None:
            parts.append(f"position <= {self.upto}")
        if self.span_us is not None:
            parts.append(f"{instant} >= {self.span_us[0]} AND {instant} < {self.span_us[1]}")
        return " AND ".join([*parts, self.points])


def bucket(instant: str, length_us: int) -> str:
    """Start of the interval on the UTC grid, also before 1970."""
    return f"{instant} - (({instant} % {length_us}) + {length_us}) % {length_us}"


def of_readings(level: RollupLevel, bounds: Bounds) -> str:
    """Parts of a level on the UTC grid made of readings."""
    start = bucket("at_us", LENGTH_US[level])
    return (
        f"SELECT point_id, {start} AS start_us, {_OF_READINGS} FROM readings "  # noqa: S608 (table, column and number are ours)
        f"WHERE {bounds.condition('at_us')} GROUP BY 1, 2"
    )


def of_table(level: RollupLevel, bounds: Bounds) -> str:
    """Parts of the table of a level."""
    return f"SELECT {_UNPACKED} FROM {TABLES[level]} WHERE {bounds.condition('start_us')}"  # noqa: S608 (words and numbers of ours)


def merged(level: RollupLevel, parts: Sequence[str]) -> str:
    """Parts of a level or finer brought together, an interval a row; days ask for the table of :func:`calendar`."""
    source = " UNION ALL ".join(parts)
    if level is not RollupLevel.DAY:
        start = bucket("start_us", LENGTH_US[level])
        return f"SELECT point_id, {start} AS start_us, {_OF_PARTS} FROM ({source}) GROUP BY 1, 2"  # noqa: S608 (our own words)
    quarters = bucket("start_us", QUARTER_US)
    return (
        f"SELECT p.point_id, c.day_us AS start_us, {_OF_PARTS} FROM "  # noqa: S608 (our own words)
        f"(SELECT *, {quarters} AS quarter_us FROM ({source})) p JOIN calendar c ON c.quarter_us = p.quarter_us GROUP BY 1, 2"
    )


def calendar(first_us: int, end_us: int, zone: ZoneInfo) -> Any:
    """Arrow table of the local day of every quarter-hour that meets [first, end)."""
    quarters = np.arange(first_us - first_us % QUARTER_US, max(end_us, first_us + 1), QUARTER_US, dtype=np.int64)
    starts = day_starts(int(quarters[0]), int(quarters[-1]) + 1, zone)
    return pa.table({"quarter_us": quarters, "day_us": starts[np.searchsorted(starts, quarters, "right") - 1]})


def positions_of(cursor: duckdb.DuckDBPyConnection) -> dict[RollupLevel, int]:
    """How far each level is folded."""
    rows = cursor.execute("SELECT name, position FROM progress").fetchall()
    return {RollupLevel(name): position for name, position in rows if name != "last"}


def append(cursor: duckdb.DuckDBPyConnection, level: RollupLevel, parts: str, upto: int) -> int:
    """Add parts to the table of a level; returns how many. Sorted by point: a question about one reads few row groups."""
    rows = cursor.execute(
        f"INSERT INTO {TABLES[level]} SELECT {_PACKED}, {upto} FROM ({parts}) ORDER BY point_id, start_us"  # noqa: S608 (our own words)
    ).fetchall()
    return int(rows[0][0])


def append_days(cursor: duckdb.DuckDBPyConnection, quarters: str, zone: ZoneInfo, upto: int) -> int:
    """Add the days of quarter-hours; returns how many."""
    first, last = cursor.execute(f"SELECT min(start_us), max(start_us) FROM ({quarters})").fetchall()[0]  # noqa: S608 (our own words)
    if first is None:
        return 0
    with registered(cursor, "calendar", calendar(first, last + QUARTER_US, zone)):
        return append(cursor, RollupLevel.DAY, merged(RollupLevel.DAY, [quarters]), upto)


def adopt_zone(root: duckdb.DuckDBPyConnection, zone: ZoneInfo) -> None:
    """Make the days anew where they were made in another time zone, of the quarter-hours that are still there.

    A day some of whose quarter-hours are gone stays as it is, in the old zone.
    """
    with transaction(root) as cursor:
        known = cursor.execute("SELECT body FROM facts WHERE name = 'time_zone'").fetchall()
        if known == [(zone.key,)]:
            return
        cursor.execute("INSERT OR REPLACE INTO facts VALUES ('time_zone', ?)", [zone.key])
        first, last = cursor.execute("SELECT min(start_us), max(start_us) FROM rollups_quarter").fetchall()[0]
        if not known or first is None:
            return
        upto = positions_of(cursor)[RollupLevel.DAY]
        quarters = of_table(RollupLevel.QUARTER, Bounds(0, upto))
        with registered(cursor, "calendar", calendar(first, last + QUARTER_US, ZoneInfo(known[0][0]))):
            cursor.execute(
                "CREATE TEMP TABLE torn AS SELECT d.point_id, d.start_us FROM "  # noqa: S608 (our own words)
                "(SELECT point_id, start_us, sum(count) AS count FROM rollups_day GROUP BY 1, 2) d LEFT JOIN "
                f"({merged(RollupLevel.DAY, [quarters])}) q ON q.point_id = d.point_id AND q.start_us = d.start_us "
                "WHERE d.count > coalesce(q.count, 0)"
            )
            cursor.execute(
                "CREATE TEMP TABLE whole AS SELECT q.* "  # noqa: S608 (our own words)
                f"FROM ({quarters}) q JOIN calendar c ON c.quarter_us = q.start_us "
                "WHERE NOT EXISTS (SELECT 1 FROM torn t WHERE t.point_id = q.point_id AND t.start_us = c.day_us)"
            )
        cursor.execute(
            "DELETE FROM rollups_day WHERE NOT EXISTS "
            "(SELECT 1 FROM torn t WHERE t.point_id = rollups_day.point_id AND t.start_us = rollups_day.start_us)"
        )
        append_days(cursor, f"SELECT {COLUMNS} FROM whole", zone, upto)  # noqa: S608 (our own words)
        cursor.execute("DROP TABLE torn")
        cursor.execute("DROP TABLE whole")
