"""The hub's small durable memory beside the ledger: documents by kind and id, counters, prices. One SQLite file.

What the hub decided (jobs, plans, models, commands, desired states) is kept here, so that a restart loses nothing.
Every write is on the disk when the call returns. Calls take well under a few milliseconds and may come from any thread.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tieline_core.errors import TransientError
from tieline_core.timegrid import from_us, to_us

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS documents (
    kind TEXT NOT NULL, id TEXT NOT NULL, at_us INTEGER NOT NULL, body BLOB NOT NULL, PRIMARY KEY (kind, id)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS documents_by_time ON documents (kind, at_us);
CREATE TABLE IF NOT EXISTS counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS prices (start_us INTEGER PRIMARY KEY, eur_per_mwh REAL NOT NULL);
PRAGMA user_version = 1;
"""


@dataclass(frozen=True, slots=True)
class Price:
    """Energy price from ``start`` until the next price's start."""

    start: datetime
    eur_per_mwh: float


class DocumentStore:
    """Documents, counters and prices in one SQLite file (WAL, synchronous FULL).

    Raises:
        TransientError: When the disk refuses a change, which was not made then.
        sqlite3.Error: When the file cannot be opened or read.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.executescript(_SCHEMA)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; the store cannot be used afterwards."""
        with self._lock:
            self._db.close()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        with self._lock:
            try:
                yield
            except sqlite3.OperationalError as error:
                raise TransientError(f"the hub's memory cannot be written: {error}") from error

    def put(self, kind: str, key: str, body: bytes, at: datetime) -> None:
        """Keep a document, replacing the one of the same kind and id."""
        with self._writing():
            self._db.execute("INSERT OR REPLACE INTO documents VALUES (?, ?, ?, ?)", (kind, key, to_us(at), body))

    def get(self, kind: str, key: str) -> bytes | None:
        """The document, or None."""
        with self._lock:
            row = self._db.execute("SELECT body FROM documents WHERE kind = ? AND id = ?", (kind, key)).fetchone()
        return None if row is None else bytes(row[0])

    def newest(self, kind: str, limit: int = 1000) -> list[bytes]:
        """Documents of a kind, newest first."""
        with self._lock:
            rows = self._db.execute(
                "SELECT body FROM documents WHERE kind = ? ORDER BY at_us DESC, id DESC LIMIT ?", (kind, limit)
            ).fetchall()
        return [bytes(row[0]) for row in rows]

    def counter(self, name: str) -> int:
        """Value of a counter; 0 when it was never set."""
        with self._lock:
            row = self._db.execute("SELECT value FROM counters WHERE name = ?", (name,)).fetchone()
        return 0 if row is None else int(row[0])

    def raise_counter(self, name: str, value: int) -> None:
        """Store a counter; it never goes down."""
        with self._writing():
            self._db.execute(
                "INSERT INTO counters VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = max(value, excluded.value)",
                (name, value),
            )

    def put_prices(self, prices: Iterable[Price]) -> int:
        """Keep prices, replacing those of the same start; returns how many were handed in."""
        rows = [(to_us(price.start), price.eur_per_mwh) for price in prices]
        with self._writing(), self._db:
            self._db.execute("BEGIN")
            self._db.executemany("INSERT OR REPLACE INTO prices VALUES (?, ?)", rows)
        return len(rows)

    def prices(self, start: datetime, end: datetime) -> Sequence[Price]:
        """Prices that hold somewhere in [start, end), ascending: the last one before the start included."""
        with self._lock:
            rows = self._db.execute(
                "SELECT start_us, eur_per_mwh FROM prices WHERE start_us < ? AND start_us >= "
                "coalesce((SELECT max(start_us) FROM prices WHERE start_us <= ?), ?) ORDER BY start_us",
                (to_us(end), to_us(start), to_us(start)),
            ).fetchall()
        return [Price(from_us(row[0]), row[1]) for row in rows]
