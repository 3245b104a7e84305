"""The SQLite file of the outbox: opening, checking, transactions, and what its errors mean.

WAL with ``synchronous=FULL``: a commit that returned survives kill -9 and power loss. Nothing else opens the file.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import aiosqlite

from tieline_core.errors import BadInputError, TransientError
from tieline_core.ids import EdgeId
from tieline_core.messages.telemetry import Stream
from tieline_edge.outbox.sqlite_pages import read_log

_VERSION: Final = 2
#: A newer release counts on by one; a number far beyond is no version.
_SENSIBLE_VERSION: Final = 1000
#: Reading through a large file stops after this long: the edge must be ready in seconds.
_CHECK_S: Final = 2.0
_CHECK_EVERY_STEPS: Final = 10_000
_NEVER: Final = 2**31 - 1
#: A log longer than this is left to SQLite.
_LOG_BYTES: Final = 64 * 1024 * 1024
_LOG_PAGES: Final = 256
_MOST_PAGES: Final = 2**32 - 2
_TABLES: Final = {"frames", "streams", "meta"}
_SCHEMA: Final = """
BEGIN;
CREATE TABLE IF NOT EXISTS frames (
  id INTEGER PRIMARY KEY, stream TEXT NOT NULL, epoch INTEGER NOT NULL, seq INTEGER NOT NULL, kind INTEGER NOT NULL,
  body BLOB NOT NULL, size INTEGER NOT NULL, sha256 TEXT NOT NULL, readings INTEGER NOT NULL, first_us INTEGER NOT NULL,
  created_us INTEGER NOT NULL, acked INTEGER NOT NULL DEFAULT 0, UNIQUE (stream, epoch, seq));
CREATE INDEX IF NOT EXISTS frames_by_age ON frames (acked, id, created_us, size);
CREATE TABLE IF NOT EXISTS streams (
  stream TEXT PRIMARY KEY, next_seq INTEGER NOT NULL, acked_seq INTEGER NOT NULL, acked_sha256 TEXT);
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value NOT NULL);
DROP INDEX IF EXISTS frames_waiting;
CREATE INDEX frames_waiting ON frames (acked, stream, size, readings, first_us);
CREATE INDEX IF NOT EXISTS frames_by_hour ON frames (stream, first_us, sha256, kind, readings);
PRAGMA user_version = 2;
COMMIT;
"""

_DAMAGE: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT})


class DamagedError(sqlite3.DatabaseError):
    """The file says something that cannot be; SQLite itself did not notice."""

    sqlite_errorcode = sqlite3.SQLITE_CORRUPT


def code_of(error: sqlite3.Error) -> int:
    """Primary result code of an error, 0 when SQLite gave none."""
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


def is_damage(error: sqlite3.Error) -> bool:
    """True when the file itself is wrong, so that no waiting and no other connection helps."""
    return code_of(error) in _DAMAGE


def _log_of(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")


def check_log(path: Path) -> None:
    """Look at the write-ahead log before SQLite does: it stops silently at the first page that is not whole.

    Raises:
        DamagedError: Committed pages follow a broken one.
    """
    log = _log_of(path)
    if log.exists() and log.stat().st_size <= _LOG_BYTES and read_log(log.read_bytes()).broken:
        raise DamagedError(f"{log}: committed pages follow a broken one")


class Database:
    """The file, open or waiting to be opened again. One piece of work at a time: all of it takes the same lock.

    Args:
        path: The file; it is made when it is missing.
        edge: Whose outbox it is.
        on_doubt: Called when a read or write has shown that the file may not be what was written.

    Attributes:
        doubt: What went wrong and is not settled yet; None = all is well.
    """

    def __init__(self, path: Path, edge: EdgeId, on_doubt: Callable[[], None] = lambda: None) -> None:
        self.path = path
        self.doubt: sqlite3.Error | None = None
        self._edge = edge
        self._on_doubt = on_doubt
        self._opened: aiosqlite.Connection | None = None
        self._lock = asyncio.Lock()

    @asynccontextmanager
    async def exclusively(self) -> AsyncIterator[None]:
        """Hold the lock, for :meth:`connect`, :meth:`disconnect` and :meth:`all_or_nothing`."""
        async with self._lock:
            yield

    async def connect(self) -> None:
        """Open, check and prepare the file; inside :meth:`exclusively`.

        Raises:
            sqlite3.Error: It is damaged (:func:`is_damage`), or the disk refuses.
            BadInputError: It belongs to another edge or to a newer release.
        """
        await asyncio.to_thread(check_log, self.path)
        opening = aiosqlite.connect(self.path, isolation_level=None)
        try:
            self._opened = await opening
            await self._opened.execute("PRAGMA journal_mode=WAL")
            await self._opened.execute("PRAGMA synchronous=FULL")
            # A short log: on a full disk it has to fit into the reserve when it is emptied into the file.
            await self._opened.execute(f"PRAGMA wal_autocheckpoint={_LOG_PAGES}")
            await self._opened.execute(f"PRAGMA journal_size_limit={_LOG_PAGES * 4096}")
            # What stands in the log is copied and synced before anything is built on it: a failed sync shows here again.
            await self._opened.execute_fetchall("PRAGMA wal_checkpoint(TRUNCATE)")
            await self._check()
            await self._prepare()
        except BaseException:
            # Cancelled in the middle of opening or refused: nobody else would close it.
            with contextlib.suppress(sqlite3.Error):
                await opening.close()
            self._opened = None
            raise

    async def disconnect(self) -> None:
        """Close the file; a disk that refuses even that is passed over."""
        opened, self._opened = self._opened, None
        if opened is not None:
            with contextlib.suppress(sqlite3.Error):
                await opened.close()

    async def _check(self) -> None:
        end_s = time.monotonic() + _CHECK_S
        await self._connection.set_progress_handler(lambda: int(time.monotonic() > end_s), _CHECK_EVERY_STEPS)
        try:
            rows = await self.rows("PRAGMA quick_check(1)")
        except sqlite3.OperationalError as error:
            if code_of(error) != sqlite3.SQLITE_INTERRUPT:
                raise
            rows = []  # so far nothing was wrong; what comes later shows when it is read
        finally:
            await self._connection.set_progress_handler(lambda: 0, _NEVER)
        if rows and rows[0][0] != "ok":
            raise DamagedError(f"{self.path}: {rows[0][0]}")

    async def _prepare(self) -> None:
        ((version,),) = await self.rows("PRAGMA user_version")
        if not 0 <= version <= _SENSIBLE_VERSION:
            raise DamagedError(f"{self.path}: version {version}")
        if version > _VERSION:
            reason = f"written by a newer release; this one reads {_VERSION}"
            raise BadInputError(str(self.path), "user_version", version, reason)
        if version < _VERSION:
            await self._connection.executescript(_SCHEMA)
        tables = {row[0] for row in await self.rows("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if not tables >= _TABLES:
            raise DamagedError(f"{self.path}: tables are missing: {', '.join(sorted(_TABLES - tables))}")
        async with self.all_or_nothing():
            await self.run_many("INSERT OR IGNORE INTO streams VALUES (?, 1, 0, NULL)", [(stream,) for stream in Stream])
            await self.run("INSERT OR IGNORE INTO meta VALUES ('edge_id', ?), ('epoch', 0), ('bytes', 0)", str(self._edge))
        ((owner,),) = await self.rows("SELECT value FROM meta WHERE key = 'edge_id'")
        if owner != self._edge:
            if not isinstance(owner, str) or not EdgeId.pattern.fullmatch(owner):
                raise DamagedError(f"{self.path}: it no longer says whose it is")
            raise BadInputError(str(self.path), "edge_id", owner, f"this outbox belongs to another edge, not {self._edge}")
        for key in ("epoch", "bytes"):
            await self.number(key)

    @property
    def _connection(self) -> aiosqlite.Connection:
        if self._opened is None:
            raise sqlite3.OperationalError(f"{self.path} is not open: {self.doubt}")
        return self._opened

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
        rows = await self.rows("SELECT value FROM meta WHERE key = ?", key)
        if len(rows) != 1 or not isinstance(rows[0][0], int):
            raise DamagedError(f"{self.path}: {key} is no number")
        return int(rows[0][0])

    async def empty_log(self) -> None:
        """Copy what stands in the log into the file and give its space back to the disk.

        Raises:
            sqlite3.Error: The disk refused.
        """
        async with self._lock:
            await self.rows("PRAGMA wal_checkpoint(TRUNCATE)")

    async def stop_growing(self) -> None:
        """Let the file become no larger than it is: on a full disk the log needs what space is left."""
        async with self._lock:
            ((pages,),) = await self.rows("PRAGMA page_count")
            await self.rows(f"PRAGMA max_page_count={int(pages)}")

    async def may_grow(self) -> None:
        """Take :meth:`stop_growing` back; inside a transaction."""
        await self.rows(f"PRAGMA max_page_count={_MOST_PAGES}")

    def doubted(self, error: sqlite3.Error) -> None:
        """Remember an error that asks for a look at the file."""
        if is_damage(error):
            self.doubt = error
            self._on_doubt()

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[None]:
        """Several reads of one committed state.

        Raises:
            TransientError: The disk refused, or what it gave is damaged; that is repaired meanwhile.
        """
        async with self._lock:
            try:
                yield
            except sqlite3.Error as error:
                self.doubted(error)
                raise TransientError(f"outbox: {error}") from error

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        """All or nothing; a failure inside leaves the file as it was.

        Raises:
            sqlite3.Error: The disk refused.
        """
        async with self._lock, self.all_or_nothing():
            yield

    @asynccontextmanager
    async def all_or_nothing(self) -> AsyncIterator[None]:
        """A transaction inside :meth:`exclusively`."""
        connection = self._connection
        try:
            await connection.execute("BEGIN IMMEDIATE")
            yield
            await connection.execute("COMMIT")
        except BaseException:
            # A cancelled statement, BEGIN too, still runs in the connection's thread: only what is queued behind it can
            # undo it, so asking whether a transaction is open would ask too early.
            with contextlib.suppress(sqlite3.Error):  # the error that led here says more
                await connection.execute("ROLLBACK")
            raise
