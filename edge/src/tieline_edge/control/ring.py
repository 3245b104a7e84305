"""The trace's file: rows as they come in SQLite, packed by device into compressed blocks, bounded by bytes and age.

Rows of one device resemble each other, so a block of them takes a small part of their text. Reading is a matter of opening
the file: it works beside a running edge and after a dead one.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import zstandard

from tieline_core.errors import BadInputError

_LAYOUT: Final = 2
#: Rows of a device that are packed at once.
PACK_ROWS: Final = 192
_LEVEL: Final = 9
#: A block is not unpacked beyond this.
_MAX_BLOCK: Final = 32 * 1024 * 1024
_PAGE: Final = 4096
#: Events of the site stand under this name, which no device can have.
SITE_EVENTS: Final = ""
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS spec (id INTEGER PRIMARY KEY, body TEXT NOT NULL UNIQUE);
CREATE TABLE IF NOT EXISTS line (id INTEGER PRIMARY KEY, device TEXT NOT NULL, at_us INTEGER NOT NULL, kind TEXT NOT NULL,
    body TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS line_device ON line (device, at_us);
CREATE TABLE IF NOT EXISTS block (id INTEGER PRIMARY KEY, device TEXT NOT NULL, first_us INTEGER NOT NULL,
    last_us INTEGER NOT NULL, lines INTEGER NOT NULL, body BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS block_device ON block (device, first_us);
CREATE TABLE IF NOT EXISTS run (id INTEGER PRIMARY KEY, began_us INTEGER NOT NULL, seen_us INTEGER NOT NULL,
    ended INTEGER NOT NULL DEFAULT 0, software TEXT NOT NULL);
"""


@dataclass(frozen=True, slots=True)
class Line:
    """One row of the trace.

    Attributes:
        device: Whom it is about.
        at_us: When [us since 1970].
        kind: ``decision``, ``heartbeat``, ``write``, ``refreshed``, or ``event`` of :data:`SITE_EVENTS`.
        body: What is told.
        spec: The specification of the device as text, where the row has one.
    """

    device: str
    at_us: int
    kind: str
    body: dict[str, Any]
    spec: str | None = None


@dataclass(frozen=True, slots=True)
class Run:
    """One life of the agent: when it began, when it was last known to live, whether it ended by itself."""

    began_us: int
    seen_us: int
    ended: bool
    software: str


class Ring:
    """Writes the file. Methods may be called from any thread, one at a time.

    Args:
        connection: Open, with the schema in it.
        max_bytes: Size at which the oldest blocks go.
        max_age_us: Age at which they go in any case.
    """

    def __init__(self, connection: sqlite3.Connection, max_bytes: int, max_age_us: int) -> None:
        self._db = connection
        self._max_bytes, self._max_age_us = max_bytes, max_age_us
        self._lock = threading.Lock()
        self._specs: dict[str, int] = {}
        self._run: int | None = None
        self._loose: dict[str, int] = dict(connection.execute("SELECT device, count(*) FROM line GROUP BY device"))

    @classmethod
    def open(cls, path: Path, max_bytes: int, max_age_us: int) -> Self:
        """Open or make the file; one that is unreadable or of another layout is set aside: a trace never stops control."""
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            return cls(_connect(path), max_bytes, max_age_us)
        except sqlite3.DatabaseError:
            path.replace(path.with_name(path.name + ".unreadable"))
            for tail in ("-wal", "-shm"):
                path.with_name(path.name + tail).unlink(missing_ok=True)
            return cls(_connect(path), max_bytes, max_age_us)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()

    def alive(self, now_us: int, software: str, *, ended: bool = False) -> None:
        """Note that the agent lives, or ends by itself.

        Raises:
            sqlite3.Error: The disk refuses.
        """
        with self._lock, self._db:
            if self._run is None:
                row = self._db.execute(
                    "INSERT INTO run (began_us, seen_us, software) VALUES (?, ?, ?)", (now_us, now_us, software)
                )
                self._run = row.lastrowid
                self._db.execute("DELETE FROM run WHERE seen_us < ?", (now_us - self._max_age_us,))
            self._db.execute("UPDATE run SET seen_us = max(seen_us, ?), ended = ? WHERE id = ?", (now_us, ended, self._run))

    def keep(self, lines: Iterable[Line]) -> None:
        """Write rows, pack what has become long enough, and let the oldest go.

        Raises:
            sqlite3.Error: The disk refuses; nothing of these rows was kept.
        """
        with self._lock:
            rows = []
            with self._db:
                for line in lines:
                    body = line.body if line.spec is None else {**line.body, "spec": self._spec_id(line.spec)}
                    rows.append((line.device, line.at_us, line.kind, _text(body)))
                self._db.executemany("INSERT INTO line (device, at_us, kind, body) VALUES (?, ?, ?, ?)", rows)
            for device, *_ in rows:
                self._loose[device] = self._loose.get(device, 0) + 1
            full = [device for device in {row[0] for row in rows} if self._loose[device] >= PACK_ROWS]
            for device in full:
                self._pack(device)
            if full:
                self._trim(max(row[1] for row in rows))

    def _spec_id(self, text: str) -> int:
        known = self._specs.get(text)
        if known is None:
            self._db.execute("INSERT OR IGNORE INTO spec (body) VALUES (?)", (text,))
            known = int(self._db.execute("SELECT id FROM spec WHERE body = ?", (text,)).fetchone()[0])
            self._specs[text] = known
        return known

    def _pack(self, device: str) -> None:
        rows = self._db.execute(
            "SELECT id, at_us, kind, body FROM line WHERE device = ? ORDER BY at_us, id", (device,)
        ).fetchall()
        body = zstandard.ZstdCompressor(level=_LEVEL).compress(_columns(rows))
        with self._db:
            self._db.execute(
                "INSERT INTO block (device, first_us, last_us, lines, body) VALUES (?, ?, ?, ?, ?)",
                (device, rows[0][1], rows[-1][1], len(rows), body),
            )
            self._db.execute("DELETE FROM line WHERE device = ? AND id <= ?", (device, max(row[0] for row in rows)))
        self._loose[device] = 0

    def _trim(self, now_us: int) -> None:
        oldest_us = now_us - self._max_age_us
        with self._db:
            self._db.execute("DELETE FROM block WHERE last_us < ?", (oldest_us,))
            self._db.execute("DELETE FROM line WHERE at_us < ?", (oldest_us,))
        while self._used() > self._max_bytes:
            with self._db:
                # A tenth at a time: freed pages are used again, so the file stops growing.
                gone = self._db.execute(
                    "DELETE FROM block WHERE id IN (SELECT id FROM block ORDER BY last_us LIMIT "
                    "(SELECT max(1, count(*) / 10) FROM block))"
                ).rowcount
            if not gone:
                return

    def _used(self) -> int:
        pages, free = (int(self._db.execute(f"PRAGMA {name}").fetchone()[0]) for name in ("page_count", "freelist_count"))
        return (pages - free) * _PAGE


class RingReader:
    """Reads the file of a running or a stopped edge.

    Args:
        path: The file.

    Raises:
        BadInputError: When there is none, or it is not a trace.
    """

    def __init__(self, path: Path) -> None:
        if not path.exists():
            raise BadInputError(str(path), "", None, "there is no trace yet: has this edge ever run?")
        self._path = path
        self._db = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=1.0)
        try:
            layout = int(self._db.execute("PRAGMA user_version").fetchone()[0])
        except sqlite3.DatabaseError as error:
            self._db.close()
            raise BadInputError(str(path), "", None, f"is unreadable: {error}") from error
        if layout != _LAYOUT:
            self._db.close()
            raise BadInputError(str(path), "layout", layout, f"this version reads layout {_LAYOUT}; start the edge once")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._db.close()

    def devices(self) -> list[str]:
        """Every device something is kept about."""
        rows = self._db.execute("SELECT device FROM line UNION SELECT device FROM block ORDER BY 1")
        return [name for (name,) in rows if name != SITE_EVENTS]

    def runs(self) -> list[Run]:
        """Lives of the agent, oldest first."""
        rows = self._db.execute("SELECT began_us, seen_us, ended, software FROM run ORDER BY began_us, id")
        return [Run(began, seen, bool(ended), software) for began, seen, ended, software in rows]

    def span(self, device: str) -> tuple[int, int] | None:
        """First and last instant kept of a device [us]."""
        first, last = self._db.execute(
            "SELECT min(first_us), max(last_us) FROM (SELECT first_us, last_us FROM block WHERE device = ? "
            "UNION ALL SELECT at_us, at_us FROM line WHERE device = ?)",
            (device, device),
        ).fetchone()
        return None if first is None else (int(first), int(last))

    def before(self, device: str, at_us: int, blocks: int = 2) -> list[Line]:
        """The last rows of a device up to an instant, oldest first: those not packed yet and those of the last blocks."""
        found = self._blocks("device = ? AND first_us <= ? ORDER BY first_us DESC, id DESC LIMIT ?", (device, at_us, blocks))
        return sorted((line for line in (*found, *self._loose(device)) if line.at_us <= at_us), key=_at)

    def between(self, device: str, since_us: int, until_us: int, limit: int) -> list[Line]:
        """Rows of a device from an instant to another, both included, oldest first; no more than the first ``limit``."""
        found: list[Line] = []
        for (number,) in self._db.execute(
            "SELECT id FROM block WHERE device = ? AND last_us >= ? AND first_us <= ? ORDER BY first_us, id",
            (device, since_us, until_us),
        ).fetchall():
            found += [line for line in self._blocks("id = ?", (number,)) if since_us <= line.at_us <= until_us]
            if len(found) >= limit:
                return sorted(found, key=_at)[:limit]
        found += [line for line in self._loose(device) if since_us <= line.at_us <= until_us]
        return sorted(found, key=_at)[:limit]

    def spec(self, number: int) -> str:
        """A specification that a row refers to."""
        row = self._db.execute("SELECT body FROM spec WHERE id = ?", (number,)).fetchone()
        if row is None:
            raise BadInputError(str(self._path), "spec", number, "is not kept")
        return str(row[0])

    def _loose(self, device: str) -> list[Line]:
        rows = self._db.execute("SELECT at_us, kind, body FROM line WHERE device = ? ORDER BY at_us, id", (device,))
        return [Line(device, at_us, kind, json.loads(body)) for at_us, kind, body in rows]

    def _blocks(self, where: str, values: tuple[object, ...]) -> list[Line]:
        found: list[Line] = []
        for device, body in self._db.execute(f"SELECT device, body FROM block WHERE {where}", values):  # noqa: S608 - own text
            size = zstandard.frame_content_size(body)
            if not 0 <= size <= _MAX_BLOCK:
                raise BadInputError(str(self._path), "block", size, f"at most {_MAX_BLOCK} bytes are unpacked")
            found += _lines(device, zstandard.ZstdDecompressor().decompress(body, max_output_size=_MAX_BLOCK))
        return found


def _at(line: Line) -> int:
    return line.at_us


def _text(body: dict[str, Any]) -> str:
    return json.dumps(body, separators=(",", ":"))


def _columns(rows: list[tuple[int, int, str, str]]) -> bytes:
    """Differences of the instants first, then the rest: like stands beside like."""
    instants = [row[1] for row in rows]
    steps = [after - before for before, after in zip([0, *instants], instants, strict=False)]
    return "\n".join([json.dumps(steps), json.dumps([row[2] for row in rows]), *(row[3] for row in rows)]).encode()


def _lines(device: str, packed: bytes) -> list[Line]:
    head, kinds, *bodies = packed.decode().split("\n")
    at_us, found = 0, []
    for step, kind, body in zip(json.loads(head), json.loads(kinds), bodies, strict=True):
        at_us += step
        found.append(Line(device, at_us, kind, json.loads(body)))
    return found


def _refuse(wrong: bool, text: str) -> None:
    if wrong:
        raise sqlite3.DatabaseError(text)


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=1.0, check_same_thread=False)
    try:
        layout = int(connection.execute("PRAGMA user_version").fetchone()[0])
        tables = int(connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0])
        _refuse(layout != _LAYOUT and tables > 0, f"layout {layout}")
        connection.execute(f"PRAGMA page_size={_PAGE}")
        connection.execute("PRAGMA journal_mode=WAL")
        # The trace explains; it proves nothing to a counterparty, so it needs no fsync at each row.
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.executescript(_SCHEMA)
        connection.execute(f"PRAGMA user_version={_LAYOUT}")
    except sqlite3.DatabaseError:
        connection.close()
        raise
    return connection
