"""Rows that go with readings: the readings themselves, positions, findings, misdated ones, estimates and last values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import duckdb
import numpy as np
import pyarrow as pa

from tieline_cloud.store.arriving import Arriving, Found
from tieline_cloud.store.examination import Arrival
from tieline_cloud.store.last_values import LastValues
from tieline_cloud.store.parquet import number_column
from tieline_cloud.store.values import Stored
from tieline_core.ids import PointId

#: Last values are written again once the newest position is this far ahead of them, or this much time has gone by.
_SAVE_AFTER_US: Final = 600_000_000


@contextmanager
def registered(connection: duckdb.DuckDBPyConnection, name: str, table: Any) -> Iterator[None]:
    """An Arrow table under a name while the block runs."""
    connection.register(name, table)
    try:
        yield
    finally:
        connection.unregister(name)


@contextmanager
def transaction(root: duckdb.DuckDBPyConnection) -> Iterator[duckdb.DuckDBPyConnection]:
    """A transaction on a cursor of its own, beside those of others."""
    with root.cursor() as cursor:
        cursor.begin()
        try:
            yield cursor
        except BaseException:
            cursor.rollback()
            raise
        cursor.commit()


def readings_table(rows: Stored) -> Any:
    """Arrow table of the columns of readings but the position."""
    return pa.table(
        {"point_id": rows.numbers, "at_us": rows.at_us, "value": number_column(rows.values), "quality": rows.quality}
    )


def insert_position(connection: duckdb.DuckDBPyConnection, position: int, stored_at_us: int, readings: int) -> None:
    """Note that a commit stored readings."""
    connection.execute("INSERT INTO positions VALUES (?, ?, ?)", [position, stored_at_us, readings])


def _with_times(arrival: Arrival, found: Found) -> dict[str, Any]:
    rows = found.rows
    return {
        "point_id": arrival.numbers[rows],
        "at_us": arrival.at_us[rows],
        "received_at_us": arrival.received_us[rows],
        "value": number_column(arrival.values[rows]),
        "rule": list(found.rules),
    }


def insert_findings(connection: duckdb.DuckDBPyConnection, arriving: Arriving) -> None:
    """Keep findings with the numbers as received."""
    found = arriving.found()
    if len(found):
        table = pa.table({**_with_times(arriving.arrival, found), "bound": number_column(found.limits)})
        with registered(connection, "found", table):
            connection.execute("INSERT INTO findings SELECT point_id, at_us, received_at_us, rule, value, bound FROM found")


def insert_misdated(connection: duckdb.DuckDBPyConnection, arriving: Arriving) -> None:
    """Keep readings whose instant is not believed, with the numbers and qualities as received."""
    found = arriving.set_aside()
    if len(found):
        table = pa.table({**_with_times(arriving.arrival, found), "quality": arriving.arrival.quality[found.rows]})
        with registered(connection, "found", table):
            connection.execute("INSERT INTO misdated SELECT point_id, at_us, received_at_us, value, quality, rule FROM found")


def insert_estimates(connection: duckdb.DuckDBPyConnection, arrival: Arrival, methods: Sequence[str], made_at_us: int) -> None:
    """Keep estimates; the newest of a point and instant counts."""
    table = pa.table({"point_id": arrival.numbers, "at_us": arrival.at_us, "value": arrival.values, "method": list(methods)})
    with registered(connection, "estimated", table):
        connection.execute(
            "INSERT INTO estimates (point_id, at_us, value, method, made_at_us) "
            "SELECT point_id, at_us, value, method, ? FROM estimated",
            [made_at_us],
        )


def load_last_values(connection: duckdb.DuckDBPyConnection, last: LastValues) -> int:
    """Fill points and last values of a store that was just opened; returns its newest position.

    Readings are read only above the position the table of last values was written at.
    """
    names = connection.execute("SELECT id, name FROM points ORDER BY id").fetchall()
    last.add(PointId(name) for _, name in names)
    newer = (
        "SELECT point_id, max(at_us) AS at_us, arg_max({'v': value, 'q': quality}, at_us).v AS value, "
        "arg_max({'v': value, 'q': quality}, at_us).q AS quality FROM readings WHERE position > ? GROUP BY 1"
    )
    for query, parameters in (
        ("SELECT point_id, at_us, value, quality FROM last_values", []),
        (newer, [_position_of_last(connection)]),
    ):
        rows = connection.execute(query, parameters).fetchnumpy()
        last.update(
            np.asarray(rows["point_id"], np.int32),
            np.asarray(rows["at_us"], np.int64),
            np.ma.filled(np.ma.asarray(rows["value"]).astype(np.float64), np.nan),
            np.asarray(rows["quality"], np.uint8),
        )
    newest = "SELECT greatest((SELECT coalesce(max(position), 0) FROM positions), (SELECT max(position) FROM progress))"
    return int(connection.execute(newest).fetchall()[0][0])


def _position_of_last(connection: duckdb.DuckDBPyConnection) -> int:
    return int(connection.execute("SELECT position FROM progress WHERE name = 'last'").fetchall()[0][0])


def save_last_values(root: duckdb.DuckDBPyConnection, last: LastValues, position: int, now_us: int) -> None:
    """Write last values for the next start, every ten minutes; ``position`` is one whose readings they hold."""
    with transaction(root) as cursor:
        before, at_us = cursor.execute("SELECT position, at_us FROM progress WHERE name = 'last'").fetchall()[0]
        if position == before or 0 <= now_us - at_us < _SAVE_AFTER_US:
            return
        columns = last.columns()
        with registered(cursor, "newest", readings_table(columns)):
            cursor.execute("DELETE FROM last_values")
            cursor.execute("INSERT INTO last_values SELECT point_id, at_us, value, quality FROM newest")
        cursor.execute("UPDATE progress SET position = ?, at_us = ? WHERE name = 'last'", [position, now_us])
