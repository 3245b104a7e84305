"""The SQLite file of the outbox: opening, checking, transactions.

WAL with ``synchronous=FULL``: a commit that returned survives kill -9 and power loss. Nothing else opens the file.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Final

import aiosqlite

from tieline_core.errors import BadInputError
from tieline_core.ids import EdgeId
from tieline_core.messages.telemetry import Stream

_VERSION: Final = 1
#: Larger files are not read through at the start: the edge must be ready in seconds.
_CHECKED_BYTES: Final = 64 * 1024 * 1024
_SCHEMA: Final = """
BEGIN;
CREATE TABLE frames (
  id INTEGER PRIMARY KEY, stream TEXT NOT NULL, epoch INTEGER NOT NULL, seq INTEGER NOT NULL, kind INTEGER NOT NULL,
  body BLOB NOT NULL, sha256 TEXT NOT NULL, readings INTEGER NOT NULL, first_us INTEGER NOT NULL,
  created_us INTEGER NOT NULL, acked INTEGER NOT NULL DEFAULT 0, UNIQUE (stream, epoch, seq));
CREATE INDEX frames_by_age ON frames (acked, id);
CREATE TABLE streams (stream TEXT PRIMARY KEY, next_seq INTEGER NOT NULL, acked_seq INTEGER NOT NULL, acked_sha256 TEXT);
CREATE TABLE meta (key TEXT PRIMARY KEY, value NOT NULL);
PRAGMA user_version = 1;
COMMIT;
"""


def move_aside(path: Path, now: datetime) -> Path:
    """Rename an unreadable database and its journals; returns the new name."""
    aside = path.with_name(f"{path.name}.damaged-{now:%Y%m%dT%H%M%S%fZ}")
    for suffix in ("", "-wal", "-shm"):
        source = path.with_name(path.name + suffix)
        if source.exists():
            source.rename(aside.with_name(aside.name + suffix))
    return aside


def _small(path: Path) -> bool:
    return path.exists() and path.stat().st_size <= _CHECKED_BYTES


class Database:
    """An open file. One piece of work at a time: transactions and reads take the same lock."""

    def __init__(self, connection: aiosqlite.Connection, path: Path) -> None:
        self._connection = connection
        self._path = path
        self._lock = asyncio.Lock()

    @classmethod
    @asynccontextmanager
    async def open(cls, path: Path, edge: EdgeId) -> AsyncIterator[Database]:
        """Open or create the file.

        Raises:
            sqlite3.DatabaseError: It is damaged; move it aside.
            BadInputError: It belongs to another edge or to a newer release.
        """
        checked = _small(path)
        async with aiosqlite.connect(path, isolation_level=None) as connection:
            await connection.execute("PRAGMA journal_mode=WAL")
            await connection.execute("PRAGMA synchronous=FULL")
            database = cls(connection, path)
            if checked and (rows := await database.rows("PRAGMA quick_check(1)")) and rows[0][0] != "ok":
                raise sqlite3.DatabaseError(f"{path}: {rows[0][0]}")
            await database._prepare(edge)
            yield database

    async def _prepare(self, edge: EdgeId) -> None:
        ((version,),) = await self.rows("PRAGMA user_version")
        if version > _VERSION:
            reason = f"written by a newer release; this one reads {_VERSION}"
            raise BadInputError(str(self._path), "user_version", version, reason)
        if version < _VERSION:
            await self._connection.executescript(_SCHEMA)
        async with self.transaction():
            await self.run_many("INSERT OR IGNORE INTO streams VALUES (?, 1, 0, NULL)", [(stream,) for stream in Stream])
            await self.run("INSERT OR IGNORE INTO meta VALUES ('edge_id', ?), ('epoch', 0), ('bytes', 0)", str(edge))
        ((owner,),) = await self.rows("SELECT value FROM meta WHERE key = 'edge_id'")
        if owner != edge:
            raise BadInputError(str(self._path), "edge_id", owner, f"this outbox belongs to another edge, not {edge}")

    async def rows(self, sql: str, *values: object) -> list[sqlite3.Row]:
        """All rows of a statement."""
        return list(await self._connection.execute_fetchall(sql, values))

    async def run(self, sql: str, *values: object) -> int:
        """Run a statement; returns the number of rows it changed."""
        cursor = await self._connection.execute(sql, values)
        return cursor.rowcount

    async def run_many(self, sql: str, values: Iterable[Sequence[object]]) -> None:
        """Run a statement once for each row of values."""
        await self._connection.executemany(sql, values)

    async def number(self, key: str) -> int:
        """A number of the meta table."""
        ((value,),) = await self.rows("SELECT value FROM meta WHERE key = ?", key)
        return int(value)

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[None]:
        """Several reads of one committed state."""
        async with self._lock:
            yield

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        """All or nothing; a failure inside leaves the file as it was.

        Raises:
            sqlite3.Error: The disk refused.
        """
        async with self._lock:
            await self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                await self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    await self._connection.execute("ROLLBACK")
                raise
