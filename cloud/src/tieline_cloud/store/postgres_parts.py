"""Parts of rolled-up intervals as columns: made of readings, merged with each other, read from and written to tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from psycopg import sql

from tieline_cloud.store.postgres_chunks import Columns
from tieline_cloud.store.postgres_session import Connection
from tieline_cloud.store.rollup import Rollup, RollupLevel
from tieline_core.ids import PointId
from tieline_core.quantities import Quality
from tieline_core.timegrid import from_us

#: Table of each level.
TABLES: Final = {
    RollupLevel.MINUTE: "rollups_minute",
    RollupLevel.QUARTER: "rollups_quarter",
    RollupLevel.HOUR: "rollups_hour",
    RollupLevel.DAY: "rollups_day",
}
#: What PostgreSQL counts microseconds from, 2000-01-01, in microseconds since 1970.
_EPOCH_US: Final = 946_684_800_000_000
_COPY_HEADER: Final = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_COPY_END: Final = b"\xff\xff"
#: Columns of a table of roll-ups in binary form, in their order; the second row of letters where there is no number.
_FIELDS: Final = (
    ("start_at", ">i8"),
    ("last_at", ">i8"),
    ("minimum", ">f8"),
    ("maximum", ">f8"),
    ("total", ">f8"),
    ("good_total", ">f8"),
    ("last", ">f8"),
    ("point_id", ">i4"),
    ("count", ">i4"),
    ("good", ">i4"),
    ("quality", ">i2"),
)
_OPTIONAL: Final = ("last_at", "minimum", "maximum", "last")


@dataclass(frozen=True, slots=True)
class Parts:
    """What is known of intervals, columns of one length, ascending by number and start; where ``count`` is 0, ``minimum`` is
    infinite, ``maximum`` minus infinite, ``last`` NaN and ``last_us`` 0."""

    numbers: NDArray[np.int32]
    start_us: NDArray[np.int64]
    last_us: NDArray[np.int64]
    minimum: NDArray[np.float64]
    maximum: NDArray[np.float64]
    total: NDArray[np.float64]
    good_total: NDArray[np.float64]
    last: NDArray[np.float64]
    count: NDArray[np.int64]
    good: NDArray[np.int64]
    quality: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.start_us)

    def take(self, rows: NDArray[np.intp] | NDArray[np.bool_] | slice) -> Parts:
        """Some of the rows."""
        return Parts(*(getattr(self, field.name)[rows] for field in fields(self)))

    def of(self, number: int) -> Parts:
        """Those of one point."""
        # In the column's own type: with any other the whole column would be converted at each call.
        return self.take(slice(*np.searchsorted(self.numbers, np.array([number, number + 1], np.int32))))


def of_readings(rows: Columns, start_us: NDArray[np.int64]) -> Parts:
    """Parts of readings that are ascending by number and instant.

    Args:
        rows: The readings.
        start_us: Start of the interval each lies in.
    """
    if not len(rows):
        return merged([])
    firsts = np.flatnonzero(np.append(True, (np.diff(rows.numbers) != 0) | (np.diff(start_us) != 0)))
    number = ~np.isnan(rows.values)
    good = number & (rows.quality == Quality.GOOD)
    newest = np.maximum.reduceat(np.where(number, np.arange(len(rows)), -1), firsts)
    filled = newest >= 0
    return Parts(
        rows.numbers[firsts],
        start_us[firsts],
        np.where(filled, rows.at_us[newest], 0),
        np.minimum.reduceat(np.where(number, rows.values, np.inf), firsts),
        np.maximum.reduceat(np.where(number, rows.values, -np.inf), firsts),
        np.add.reduceat(np.where(number, rows.values, 0.0), firsts),
        np.add.reduceat(np.where(good, rows.values, 0.0), firsts),
        np.where(filled, rows.values[newest], np.nan),
        np.add.reduceat(number.astype(np.int64), firsts),
        np.add.reduceat(good.astype(np.int64), firsts),
        np.maximum.reduceat(rows.quality, firsts),
    )


def merged(parts: Sequence[Parts]) -> Parts:
    """One part an interval."""
    parts = [part for part in parts if len(part)]
    if not parts:
        none, whole = np.zeros(0), np.zeros(0, np.int64)
        return Parts(np.zeros(0, np.int32), whole, whole, none, none, none, none, none, whole, whole, np.zeros(0, np.uint8))
    if len(parts) == 1:
        return parts[0]
    every = Parts(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(Parts)))
    every = every.take(np.lexsort((every.last_us, every.start_us, every.numbers)))
    firsts = np.flatnonzero(np.append(True, (np.diff(every.numbers) != 0) | (np.diff(every.start_us) != 0)))
    newest = np.append(firsts[1:], len(every)) - 1
    return Parts(
        every.numbers[firsts],
        every.start_us[firsts],
        every.last_us[newest],
        np.minimum.reduceat(every.minimum, firsts),
        np.maximum.reduceat(every.maximum, firsts),
        np.add.reduceat(every.total, firsts),
        np.add.reduceat(every.good_total, firsts),
        every.last[newest],
        np.add.reduceat(every.count, firsts),
        np.add.reduceat(every.good, firsts),
        np.maximum.reduceat(every.quality, firsts),
    )


def rollup_of(point: PointId, parts: Parts) -> Rollup:
    """The roll-up of a point, of merged parts of it alone."""
    empty = parts.count == 0
    minimum, maximum = (np.where(empty, np.nan, column) for column in (parts.minimum, parts.maximum))
    mean = np.where(empty, np.nan, parts.total / np.maximum(parts.count, 1))
    return Rollup(point, parts.start_us, parts.count, parts.good, minimum, maximum, mean, parts.last, parts.quality)


def read(connection: Connection, level: RollupLevel, numbers: NDArray[np.int32], first_us: int, end_us: int) -> Parts:
    """What the table of a level holds of some points in [first, end)."""
    query = sql.SQL(
        "COPY (SELECT start_at, coalesce(last_at, '1970-01-01 00:00+00'), coalesce(minimum, 'Infinity'), "
        "coalesce(maximum, '-Infinity'), total, good_total, coalesce(last, 'NaN'), point_id, count, good, quality FROM {table} "
        "WHERE point_id = ANY({numbers}) AND start_at >= {first} AND start_at < {end} ORDER BY point_id, start_at) "
        "TO STDOUT (FORMAT BINARY)"
    ).format(
        table=sql.Identifier(TABLES[level]),
        numbers=sql.Literal(numbers.tolist()),
        first=sql.Literal(from_us(first_us)),
        end=sql.Literal(from_us(end_us)),
    )
    with connection.cursor().copy(query) as copy:
        raw = b"".join(bytes(block) for block in copy)
    rows = np.frombuffer(raw[len(_COPY_HEADER) : -len(_COPY_END)], _layout(numbers=True))
    return Parts(
        rows["point_id"].astype(np.int32),
        rows["start_at"].astype(np.int64) + _EPOCH_US,
        rows["last_at"].astype(np.int64) + _EPOCH_US,
        rows["minimum"].astype(np.float64),
        rows["maximum"].astype(np.float64),
        rows["total"].astype(np.float64),
        rows["good_total"].astype(np.float64),
        rows["last"].astype(np.float64),
        rows["count"].astype(np.int64),
        rows["good"].astype(np.int64),
        rows["quality"].astype(np.uint8),
    )


def write(connection: Connection, level: RollupLevel, parts: Parts) -> int:
    """Merge parts into the table of a level, one row an interval; returns the rows written."""
    if not len(parts):
        return 0
    connection.execute("CREATE TEMP TABLE IF NOT EXISTS arriving (LIKE rollups_hour) ON COMMIT DELETE ROWS")
    connection.execute("DELETE FROM arriving")
    with connection.cursor().copy("COPY arriving FROM STDIN (FORMAT BINARY)") as copy:
        copy.write(_COPY_HEADER)
        copy.write(_binary(parts.take(parts.count > 0), numbers=True))
        copy.write(_binary(parts.take(parts.count == 0), numbers=False))
        copy.write(_COPY_END)
    return connection.execute(
        sql.SQL(
            "INSERT INTO {table} AS t SELECT * FROM arriving ORDER BY point_id, start_at "
            "ON CONFLICT (point_id, start_at) DO UPDATE SET "
            "last = CASE WHEN t.last_at IS NULL OR excluded.last_at >= t.last_at THEN excluded.last ELSE t.last END, "
            "last_at = greatest(t.last_at, excluded.last_at), minimum = least(t.minimum, excluded.minimum), "
            "maximum = greatest(t.maximum, excluded.maximum), total = t.total + excluded.total, "
            "good_total = t.good_total + excluded.good_total, "
            "count = t.count + excluded.count, good = t.good + excluded.good, "
            "quality = greatest(t.quality, excluded.quality)"
        ).format(table=sql.Identifier(TABLES[level]))
    ).rowcount


def _binary(parts: Parts, *, numbers: bool) -> bytes:
    """Rows in the binary form of COPY."""
    table: NDArray[Any] = np.zeros(len(parts), _layout(numbers=numbers))
    table["fields"] = len(_FIELDS)
    for name, kind in _FIELDS:
        table[f"{name}_size"] = np.dtype(kind).itemsize if numbers or name not in _OPTIONAL else -1
    table["start_at"] = parts.start_us - _EPOCH_US
    table["total"], table["good_total"], table["point_id"] = parts.total, parts.good_total, parts.numbers
    table["count"], table["good"], table["quality"] = parts.count, parts.good, parts.quality
    if numbers:
        table["last_at"] = parts.last_us - _EPOCH_US
        table["minimum"], table["maximum"], table["last"] = parts.minimum, parts.maximum, parts.last
    return table.tobytes()


def _layout(*, numbers: bool) -> np.dtype[Any]:
    """Layout of a row in the binary form of COPY; without numbers the columns that cannot be told are null."""
    layout: list[tuple[str, str]] = [("fields", ">i2")]
    for name, kind in _FIELDS:
        layout.append((f"{name}_size", ">i4"))
        if numbers or name not in _OPTIONAL:
            layout.append((name, kind))
    return np.dtype(layout)
