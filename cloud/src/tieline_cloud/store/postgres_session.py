"""Connections to PostgreSQL: opened with every safety on, opened again with a bounded back-off, errors in our own words."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from tieline_cloud.store.duckdb_file import StoreFailedError, StoreFormatError, StoreRefusedError
from tieline_core.errors import BadInputError, TransientError

_log = logging.getLogger(__name__)
Connection = psycopg.Connection[tuple[Any, ...]]

#: Sessions that write carry this name: it is how one hub finds another one that froze inside a transaction.
WRITER: Final = "tieline-ledger"
READER: Final = "tieline-query"
#: Roll-ups and retention have a writing session beside that of the ledger.
FOLDER: Final = "tieline-folding"
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 5.0
_READERS: Final = 4
#: What makes a silent network loss visible, where the address does not say otherwise.
_NETWORK: Final = {
    "connect_timeout": "5",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "15000",
}
#: Classes of SQLSTATE after which the same may pass later.
_LOST: Final = ("08", "57P")
_LATER: Final = ("25006", "40", "53", "55P03", "57014", "58030")
_DAMAGED: Final = ("XX001", "XX002")


class StoreLostError(TransientError):
    """The server is away or the connection broke: nothing of the transaction was stored, and a later one may pass."""


class OutcomeUnknownError(StoreLostError):
    """The connection broke while the server was committing: whether it did is known from the watermarks only."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a writer waits for what another one holds.

    Attributes:
        lock_s: Before it gives up and the caller tries again.
        fence_s: Age of a transaction of another writer from which it counts as frozen and is ended.
    """

    lock_s: float = 5.0
    fence_s: float = 20.0


PATIENT: Final = Patience()


def checked_url(url: str) -> str:
    """The connection string of a URL.

    Raises:
        BadInputError: It is none, or carries a password.
    """
    try:
        parameters = conninfo_to_dict(url)
    except psycopg.ProgrammingError as error:
        raise BadInputError("store", "url", url, f"write it like 'postgresql://user@host:5432/database': {error}") from error
    if parameters.get("password"):
        shown = make_conninfo("", **{**parameters, "password": "..."})
        reason = "a password does not belong into a configuration; put it into the file PGPASSFILE names, or into PGPASSWORD"
        raise BadInputError("store", "url", shown, reason)
    if not parameters.get("dbname"):
        raise BadInputError("store", "url", url, "names no database; write it like 'postgresql://user@host:5432/database'")
    missing = {key: value for key, value in _NETWORK.items() if key not in parameters}
    return make_conninfo(url, **missing)


class Sessions:
    """One connection that writes, a few that read.

    Args:
        conninfo: From :func:`checked_url`.
        patience: How long to wait for locks.
    """

    def __init__(self, conninfo: str, patience: Patience) -> None:
        self.conninfo = conninfo
        self.patience = patience
        parameters = conninfo_to_dict(conninfo)
        self.name = f"{parameters.get('host', 'local')}/{parameters['dbname']}"
        self.reconnects = 0
        self._writing = {name: threading.Lock() for name in (WRITER, FOLDER)}
        self._writers: dict[str, Connection | None] = dict.fromkeys(self._writing)
        self._idle: list[Connection] = []
        self._guard = threading.Lock()
        self._slots = threading.BoundedSemaphore(_READERS)
        self._pause_s = 0.0
        self._not_before_s = 0.0

    def close(self) -> None:
        """Close all connections."""
        for name, turn in self._writing.items():
            with turn:
                connection = self._writers[name]
                if connection is not None:
                    connection.close()
                self._writers[name] = None
        with self._guard:
            for connection in self._idle:
                connection.close()
            self._idle = []

    @contextmanager
    def transaction(self, name: str = WRITER) -> Iterator[Connection]:
        """A writing connection inside a transaction that is durable when the block has ended; one thread at a time.

        Raises:
            StoreLostError: The server is away; nothing was stored.
            OutcomeUnknownError: The connection broke during the commit.
            StoreRefusedError: The server refused, for now.
        """
        with self._writing[name]:
            connection = self._writers[name] = self._usable(self._writers[name], name)
            try:
                yield connection
            except BaseException as error:
                self._withdraw(connection)
                if isinstance(error, psycopg.Error):
                    if error.sqlstate == "55P03":
                        self._fence(connection)
                    raise self._in_our_words(error, connection) from error
                raise
            try:
                connection.commit()
            except psycopg.Error as error:
                if connection.closed:
                    raise OutcomeUnknownError(f"{self.name}: the connection broke during a commit: {_first(error)}") from error
                self._withdraw(connection)
                raise self._in_our_words(error, connection) from error

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection for questions, with one view of the store from its first question to its last.

        Raises:
            StoreLostError: The server is away.
        """
        with self._slots:
            with self._guard:
                held = self._idle.pop() if self._idle else None
            connection = self._begun(held)
            try:
                yield connection
            except psycopg.Error as error:
                raise self._in_our_words(error, connection) from error
            finally:
                self._withdraw(connection)
                with self._guard:
                    if not connection.closed:
                        self._idle.append(connection)

    def _begun(self, held: Connection | None) -> Connection:
        """A reading connection in a transaction; one that died while it was idle is replaced and nobody notices."""
        connection = self._usable(held, READER)
        try:
            connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        except psycopg.Error as error:
            if connection is not held:
                connection.close()
                raise self._in_our_words(error, connection) from error
            connection.close()
            return self._begun(None)
        return connection

    def _usable(self, connection: Connection | None, name: str) -> Connection:
        if connection is not None and not connection.closed:
            return connection
        if time.monotonic() < self._not_before_s:
            raise StoreLostError(f"{self.name}: the server is away; it is tried again every {self._pause_s:g} s")
        try:
            fresh = self._connect(name)
        except psycopg.OperationalError as error:
            self._pause_s = min(max(2 * self._pause_s, _FIRST_PAUSE_S), _LONGEST_PAUSE_S)
            self._not_before_s = time.monotonic() + self._pause_s
            raise StoreLostError(f"{self.name}: cannot be reached: {_first(error)}") from error
        self._pause_s = self._not_before_s = 0.0
        self.reconnects += connection is not None
        return fresh

    def _connect(self, name: str) -> Connection:
        connection: Connection = psycopg.connect(self.conninfo, application_name=name, autocommit=True)
        try:
            connection.execute("SELECT set_config('lock_timeout', %s, false)", [f"{int(self.patience.lock_s * 1000)}ms"])
            connection.execute("SET idle_in_transaction_session_timeout = '60s'")
            self._require_durability(connection)
            connection.autocommit = name == READER
        except BaseException:
            connection.close()
            raise
        return connection

    def _require_durability(self, connection: Connection) -> None:
        """What an acknowledgement rests on: a commit is on the disk, and on the synchronous standby where there is one."""
        rows = connection.execute(
            "SELECT name, setting FROM pg_settings WHERE name IN ('synchronous_commit', 'fsync', 'full_page_writes')"
        ).fetchall()
        settings: dict[str, str] = {row[0]: row[1] for row in rows}
        for name in ("fsync", "full_page_writes"):
            if settings[name] == "off":
                raise StoreFormatError(f"{self.name}: the server runs with {name}=off: a commit would not be durable there")
        if settings["synchronous_commit"] not in ("on", "remote_apply"):
            connection.execute("SET synchronous_commit = on")

    def _fence(self, connection: Connection) -> None:
        """End writers that hold a transaction open for longer than any live one does: a frozen process keeps its locks."""
        with suppress(psycopg.Error):
            ended = connection.execute(
                "SELECT pid, pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() "
                "AND application_name = %s AND pid <> pg_backend_pid() "
                "AND xact_start < clock_timestamp() - make_interval(secs => %s)",
                [WRITER, self.patience.fence_s],
            ).fetchall()
            connection.commit()
            for pid, done in ended:
                _log.warning("Writer %s of %s held its transaction too long; ended: %s", pid, self.name, done)

    @staticmethod
    def _withdraw(connection: Connection) -> None:
        with suppress(psycopg.Error):
            connection.rollback()

    def _in_our_words(self, error: psycopg.Error, connection: Connection) -> Exception:
        state = error.sqlstate or ""
        text = f"{self.name}: {_first(error)}"
        if connection.closed or state.startswith(_LOST) or (not state and isinstance(error, psycopg.OperationalError)):
            return StoreLostError(f"{text}; nothing was stored")
        if state.startswith(_LATER):
            return StoreRefusedError(f"{text}; nothing was stored")
        if state in _DAMAGED:
            return StoreFailedError(text)
        return error


def _first(error: psycopg.Error) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
