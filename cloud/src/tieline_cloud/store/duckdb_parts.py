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
    """Parts as they lie in the table of a level."""
    return f"SELECT {COLUMNS} FROM {TABLES[level]} WHERE {bounds.condition('start_us')}"  # noqa: S608 (words and numbers of ours)


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
