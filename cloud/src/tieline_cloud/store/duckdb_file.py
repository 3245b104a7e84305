"""Opening the DuckDB file: who holds it, and its schema brought up to date by numbered, forward-only migrations."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path
from typing import Final

import duckdb

from tieline_core.errors import PermanentError, TransientError

_MIGRATION: Final = re.compile(r"(\d{4})_[a-z0-9_]+\.sql")
_HOLDER: Final = re.compile(r"held in (?P<program>.+?) \(PID (?P<pid>\d+)\)")


class StoreBusyError(TransientError):
    """Another process holds the store.

    Attributes:
        path: The file.
        pid: Process that holds it, None when the system does not say.
    """

    def __init__(self, path: Path, pid: int | None, program: str) -> None:
        self.path = path
        self.pid = pid
        holder = f"process {pid} ({program})" if pid is not None else "another process"
        super().__init__(
            f"{path}: {holder} holds the store; one process at a time may open it. While the hub runs, its API does the work"
        )


class StoreFormatError(PermanentError):
    """The file is no store of ours, or one of a newer release."""


class StoreRefusedError(TransientError):
    """The disk or the memory is full: nothing of the transaction was stored, and a later one may pass."""


class StoreFailedError(PermanentError):
    """DuckDB has given the file up for this process; what was committed is safe, the process has to start anew."""


def migrations() -> list[tuple[int, str, str]]:
    """Number, name and SQL of every migration, ascending."""
    found = []
    for entry in files("tieline_cloud.store").joinpath("migrations").iterdir():
        match = _MIGRATION.fullmatch(entry.name)
        if match:
            found.append((int(match[1]), entry.name, entry.read_text(encoding="utf-8")))
    return sorted(found)


def connect(path: Path, memory_limit: str, threads: int = 1) -> duckdb.DuckDBPyConnection:
    """Open or create the file and bring its schema up to date.

    Raises:
        StoreBusyError: Another process holds the file.
        StoreFormatError: It is no DuckDB file, or its schema is newer than this release.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Nothing may be fetched or loaded behind our back: what we need is built in.
    config: dict[str, str | bool | int | float | list[str]] = {
        "threads": threads,
        "memory_limit": memory_limit,
        "autoinstall_known_extensions": False,
        "preserve_insertion_order": False,
    }
    try:
        connection = duckdb.connect(str(path), config=config)
    except duckdb.IOException as error:
        text = str(error)
        if "lock" in text:
            match = _HOLDER.search(text)
            raise StoreBusyError(path, int(match["pid"]) if match else None, match["program"] if match else "") from error
        raise StoreFormatError(f"{path}: cannot be opened: {text.splitlines()[0]}") from error
    try:
        _migrate(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def _migrate(connection: duckdb.DuckDBPyConnection, path: Path) -> None:
    connection.execute("CREATE TABLE IF NOT EXISTS schema_version (version INTEGER NOT NULL, name VARCHAR NOT NULL)")
    present = connection.execute("SELECT coalesce(max(version), 0) FROM schema_version").fetchall()[0][0]
    steps = migrations()
    newest = steps[-1][0]
    if present > newest:
        raise StoreFormatError(f"{path}: schema version {present}, this release knows up to {newest}; use a newer release")
    for number, name, sql in steps:
        if number > present:
            connection.begin()
            try:
                connection.execute(sql)
                connection.execute("INSERT INTO schema_version VALUES (?, ?)", [number, name])
                connection.commit()
            except BaseException:
                connection.rollback()
                raise
