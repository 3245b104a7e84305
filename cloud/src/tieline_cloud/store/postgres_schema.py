"""The schema in PostgreSQL: numbered, forward-only migrations under an advisory lock, and one partition of chunks a day."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import date, timedelta
from importlib.resources import files
from typing import Final

from psycopg import sql

from tieline_cloud.store.duckdb_file import StoreFormatError
from tieline_cloud.store.postgres_session import Connection, Sessions

_MIGRATION: Final = re.compile(r"(\d{4})_[a-z0-9_]+\.sql")
#: Keys of advisory locks, fixed for ever: two releases that start together must meet.
_MIGRATING, _PARTITIONING = 7_425_463_001, 7_425_463_002
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
    connection.execute("SELECT pg_advisory_xact_lock(%s)", [_PARTITIONING])
    name = f"chunks_{day_of(day):%Y%m%d}"
    if connection.execute("SELECT to_regclass(%s)", [name]).fetchall() != [(None,)]:
        return
    table, first, beyond = sql.Identifier(name), sql.Literal(day_of(day)), sql.Literal(day_of(day + 1))
    connection.execute(sql.SQL("CREATE TABLE {} (LIKE chunks INCLUDING DEFAULTS INCLUDING STORAGE)").format(table))
    # Chunks of a day that was far away when they came move over before the partition is attached.
    connection.execute(
        sql.SQL("WITH moved AS (DELETE FROM chunks_far WHERE day = {} RETURNING *) INSERT INTO {} SELECT * FROM moved").format(
            first, table
        )
    )
    connection.execute(
        sql.SQL("ALTER TABLE chunks ATTACH PARTITION {} FOR VALUES FROM ({}) TO ({})").format(table, first, beyond)
    )
