"""The schema in PostgreSQL: numbered, forward-only migrations under an advisory lock, and one partition of chunks a day."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import date, timedelta
from importlib.resources import files
from typing import Final

from psycopg import sql

from tieline_cloud.store.duckdb_file import StoreFormatError
from tieline_cloud.store.postgres_session import FOLDER, Connection, Sessions

_MIGRATION: Final = re.compile(r"(\d{4})_[a-z0-9_]+\.sql")
#: Keys of advisory locks, fixed for ever: two releases that start together must meet.
_MIGRATING, _PARTITIONING = 7_425_463_001, 7_425_463_002
_MOVE: Final = (
    "WITH moved AS (DELETE FROM {default} WHERE {column} >= {first} AND {column} < {beyond} RETURNING *) "
    "INSERT INTO {table} SELECT * FROM moved"
)
_DAY_ZERO: Final = date(1970, 1, 1)
#: Days around the day of receipt that get a partition of their own; what lies outside shares one.
_PAST_DAYS, _FUTURE_DAYS = 1500, 3


def migrations() -> list[tuple[int, str, str]]:
    """Number, name and SQL of every migration, ascending."""
    found = []
    for entry in files("tieline_cloud.store").joinpath("migrations_postgres").iterdir():
        match = _MIGRATION.fullmatch(entry.name)
        if match:
            found.append((int(match[1]), entry.name, entry.read_text(encoding="utf-8")))
    return sorted(found)


def migrate(sessions: Sessions, steps: Iterable[tuple[int, str, str]] | None = None) -> None:
    """Bring the schema up to date; hubs that start together do it once.

    Raises:
        StoreFormatError: The schema is of a newer release, or the server is too old.
    """
    todo = migrations() if steps is None else list(steps)
    newest = todo[-1][0]
    with sessions.transaction() as connection:
        if connection.info.server_version < 140_000:
            raise StoreFormatError(
                f"{sessions.name}: PostgreSQL {connection.info.server_version // 10_000}; 14 or newer needed"
            )
        connection.execute("SET LOCAL lock_timeout = '60s'")
        connection.execute("SELECT pg_advisory_xact_lock(%s)", [_MIGRATING])
        connection.execute("CREATE TABLE IF NOT EXISTS schema_version (version integer PRIMARY KEY, name text NOT NULL)")
        rows = connection.execute("SELECT coalesce(max(version), 0) FROM schema_version").fetchall()
        present: int = rows[0][0]
        if present > newest:
            text = f"schema version {present}, this release knows up to {newest}; use a newer release"
            raise StoreFormatError(f"{sessions.name}: {text}")
        for number, name, body in todo:
            if number > present:
                connection.execute(body.encode())
                connection.execute("INSERT INTO schema_version VALUES (%s, %s)", [number, name])


def day_of(number: int) -> date:
    """The UTC day of a number of days since 1970."""
    return _DAY_ZERO + timedelta(days=number)


class DayPartitions:
    """Knows which days have their partition of chunks, and makes those that are missing."""

    def __init__(self) -> None:
        self._known: set[int] = set()

    def ensure(self, sessions: Sessions, days: set[int], today: int) -> None:
        """Make missing partitions, each in a transaction of its own, before any lock of a commit is held."""
        for day in sorted(days - self._known):
            if today - _PAST_DAYS <= day <= today + _FUTURE_DAYS:
                with sessions.transaction() as connection:
                    _make_partition(connection, day)
                self._known.add(day)

    def forget(self) -> None:
        """Look again, because partitions were dropped."""
        self._known.clear()


def _make_partition(connection: Connection, day: int) -> None:
    span = (day_of(day), day_of(day + 1))
    _attach(connection, "chunks", "day", f"chunks_{span[0]:%Y%m%d}", span)


def make_months(sessions: Sessions, table: str, days: set[int], today: int) -> None:
    """Make missing partitions a month of a table of roll-ups, which TimescaleDB looks after by itself where it is present.

    A local day may begin in the month before.
    """
    near = {day for day in days if today - _PAST_DAYS <= day <= today + _FUTURE_DAYS}
    for first in sorted({day_of(day + offset).replace(day=1) for day in near for offset in (-1, 0)}):
        beyond = (first + timedelta(days=31)).replace(day=1)
        with sessions.transaction(FOLDER) as connection:
            kind = connection.execute("SELECT relkind FROM pg_class WHERE oid = %s::regclass", [table]).fetchall()
            if kind in ([("p",)], [(b"p",)]):
                _attach(connection, table, "start_at", f"{table}_{first:%Y%m}", (first, beyond))


def has_table(connection: Connection, name: str) -> bool:
    """Whether a table is there; asked of the table of tables, whose view no cache can make stale."""
    return bool(connection.execute("SELECT 1 FROM pg_class WHERE relname = %s AND pg_table_is_visible(oid)", [name]).fetchall())


def _attach(connection: Connection, parent: str, column: str, name: str, span: tuple[date, date]) -> None:
    """Make a partition where there is none; rows of it that the default partition holds move over before it is attached."""
    if has_table(connection, name):
        return
    connection.execute("SELECT pg_advisory_xact_lock(%s)", [_PARTITIONING])
    if has_table(connection, name):
        return
    suffix = "" if column == "day" else " 00:00+00"
    words = {
        "parent": sql.Identifier(parent),
        "default": sql.Identifier(f"{parent}_far"),
        "table": sql.Identifier(name),
        "column": sql.Identifier(column),
        "first": sql.Literal(f"{span[0]:%Y-%m-%d}{suffix}"),
        "beyond": sql.Literal(f"{span[1]:%Y-%m-%d}{suffix}"),
    }
    for statement in (
        "CREATE TABLE {table} (LIKE {parent} INCLUDING DEFAULTS INCLUDING STORAGE)",
        _MOVE,
        "ALTER TABLE {parent} ATTACH PARTITION {table} FOR VALUES FROM ({first}) TO ({beyond})",
    ):
        connection.execute(sql.SQL(statement).format(**words))
