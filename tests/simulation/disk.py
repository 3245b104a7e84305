"""The disk: real files and real SQLite, with the errors and the power cuts of a bad one at the seams above them.

Small files are written, synced and renamed through ``os``; the simulation watches those three. What was renamed and not
yet synced with its folder is undone by a power cut, and what was renamed before it was synced itself is torn. SQLite runs in
line on a connection of the simulation's own: a commit that returned has reached the disk (the outbox asks for that with
``synchronous=FULL``), one that failed may have reached it all the same.
"""

from __future__ import annotations

import errno
import fcntl
import os
import random
import sqlite3
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from tests.simulation.timeline import KilledError

_Done = TypeVar("_Done")
_real_connect = sqlite3.connect
_real_replace = os.replace
_real_flock = fcntl.flock


@dataclass(slots=True)
class Renamed:
    """A rename whose folder has not been synced yet."""

    old: bytes | None
    synced: bool


@dataclass(slots=True)
class Disk:
    """What the disk does to whoever writes.

    Attributes:
        refuses: Error numbers each write draws from while it is not empty.
        share: Share of the writes that meet one.
        operation: Told of every write; may kill the process.
        dead: The process is gone: nothing it still tries has an effect.
    """

    rng: random.Random
    refuses: tuple[int, ...] = ()
    share: float = 1.0
    operation: Callable[[str], None] = lambda _what: None
    log: Callable[[str, str], None] = lambda _kind, _detail: None
    failures: int = 0
    dead: bool = False
    _connections: list[sqlite3.Connection] = field(default_factory=list)
    _renamed: dict[str, Renamed] = field(default_factory=dict)
    _synced: set[str] = field(default_factory=set)
    _locked: list[int] = field(default_factory=list)

    def trouble(self) -> int | None:
        """An error number when this write meets one."""
        if self.refuses and self.rng.random() < self.share:
            self.failures += 1
            code = self.rng.choice(self.refuses)
            self.log("disk", errno.errorcode[code])
            return code
        return None

    def fsync(self, descriptor: int) -> None:
        """In place of ``os.fsync``."""
        self._ensure_alive()
        self.operation("fsync")
        code = self.trouble()
        if code is not None:
            raise OSError(code, os.strerror(code))
        path = str(Path(f"/proc/self/fd/{descriptor}").readlink())
        self._synced.add(path)
        for target in [one for one in self._renamed if str(Path(one).parent) == path]:
            del self._renamed[target]

    def replace(self, source: Any, target: Any, **_rest: Any) -> None:
        """In place of ``os.replace``."""
        self._ensure_alive()
        self.operation("rename")
        name = str(target)
        if name not in self._renamed:
            try:
                old: bytes | None = Path(name).read_bytes()
            except FileNotFoundError:
                old = None
            self._renamed[name] = Renamed(old, str(source) in self._synced)
        self._synced.discard(str(source))
        _real_replace(source, target)

    def flock(self, descriptor: int, operation: int) -> None:
        """In place of ``fcntl.flock``: a dead process holds nothing."""
        _real_flock(descriptor, operation)
        self._locked.append(descriptor)

    def _ensure_alive(self) -> None:
        if self.dead:
            raise OSError(errno.EIO, "the process is dead")

    def kill(self, *, power_cut: bool) -> None:
        """The process dies; with the power what was not synced may go, too."""
        self.dead = True
        for connection in self._connections:
            connection.close()
        self._connections.clear()
        for descriptor in self._locked:
            with suppress(OSError):  # it was closed in good order
                _real_flock(descriptor, fcntl.LOCK_UN)
        self._locked.clear()
        if power_cut:
            for name, renamed in sorted(self._renamed.items()):
                path = Path(name)
                if self.rng.random() < 0.5:
                    continue
                if not renamed.synced and path.exists():
                    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
                elif renamed.old is None:
                    path.unlink(missing_ok=True)
                else:
                    path.write_bytes(renamed.old)
        self._renamed.clear()
        self._synced.clear()

    def revive(self) -> None:
        """A new process starts."""
        self.dead = False

    def connect(self, database: Any, *args: Any, **rest: Any) -> sqlite3.Connection:
        """In place of ``sqlite3.connect``."""
        if self.dead:
            raise sqlite3.OperationalError("the process is dead")
        connection: sqlite3.Connection = _real_connect(database, *args, **rest)
        self._connections.append(connection)
        return connection

    def connect_async(self, database: Any, **rest: Any) -> InlineConnection:
        """In place of ``aiosqlite.connect``."""
        return InlineConnection(self, database, rest)


class InlineConnection:
    """As much of aiosqlite's connection as the edge uses, without a thread."""

    def __init__(self, disk: Disk, database: Any, options: dict[str, Any]) -> None:
        self._disk = disk
        self._database = database
        self._options = options
        self._db: sqlite3.Connection | None = None

    def __await__(self) -> Generator[Any, None, InlineConnection]:
        return self._open().__await__()

    async def _open(self) -> InlineConnection:
        if self._disk.trouble() is not None:
            raise _error("unable to open database file", sqlite3.SQLITE_CANTOPEN)
        self._db = self._disk.connect(self._database, check_same_thread=False, **self._options)
        return self

    async def __aenter__(self) -> InlineConnection:
        return await self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    @property
    def _open_db(self) -> sqlite3.Connection:
        if self._db is None:
            raise ValueError("no active connection")
        return self._db

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open."""
        return self._open_db.in_transaction

    async def execute(self, sql: str, values: Iterable[Any] = ()) -> sqlite3.Cursor:
        """Run a statement."""
        return self._run(sql, tuple(values))

    async def execute_fetchall(self, sql: str, values: Iterable[Any] = ()) -> list[Any]:
        """Run a statement and give its rows."""
        return self._run(sql, tuple(values)).fetchall()

    async def executemany(self, sql: str, rows: Iterable[Sequence[Any]]) -> sqlite3.Cursor:
        """Run a statement for each row."""
        return self._open_db.executemany(sql, rows)

    async def executescript(self, sql: str) -> sqlite3.Cursor:
        """Run a script."""
        return self._open_db.executescript(sql)

    async def set_progress_handler(self, handler: Callable[[], int], steps: int) -> None:
        """There is nothing to watch: no check takes long here."""

    async def commit(self) -> None:
        """Commit."""
        self._commit(self._open_db.commit)

    async def rollback(self) -> None:
        """Roll back."""
        self._open_db.rollback()

    async def close(self) -> None:
        """Close the file."""
        if self._db is not None:
            self._db.close()
            self._db = None

    def _run(self, sql: str, values: tuple[Any, ...]) -> sqlite3.Cursor:
        if sql == "COMMIT":
            return self._commit(lambda: self._open_db.execute(sql))
        if sql == "PRAGMA journal_mode=WAL":
            # Nobody else opens the file while the agent runs, and nobody has to be told so with every transaction.
            self._open_db.execute("PRAGMA locking_mode=EXCLUSIVE")
        if sql == "PRAGMA synchronous=FULL":
            # The files of a simulation outlive no power cut, so waiting for them would only cost time.
            sql = "PRAGMA synchronous=OFF"
        return self._open_db.execute(sql, values)

    def _commit(self, commit: Callable[[], _Done]) -> _Done:
        if self._disk.dead:
            raise sqlite3.OperationalError("the process is dead")
        self._disk.operation("commit")
        code = self._disk.trouble()
        if code is None:
            done = commit()
            self._disk.operation("committed")
            return done
        if code == errno.ENOSPC:
            raise _error("database or disk is full", sqlite3.SQLITE_FULL)
        if self._disk.rng.random() < 0.5:
            commit()
        raise _error("disk I/O error", sqlite3.SQLITE_IOERR)


def _error(text: str, code: int) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError(text)
    error.sqlite_errorcode = code
    return error


__all__ = ["Disk", "InlineConnection", "KilledError"]
