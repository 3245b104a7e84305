"""The table of stores: one line an adapter."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

from tieline_cloud.store.ports import Examiner, Store
from tieline_cloud.store.rollup import zone_of
from tieline_core.errors import BadInputError

#: What opens a store: the URL after its scheme, who examines readings (None = nobody), and the time zone of its days.
Adapter = Callable[[str, Examiner | None, str], Store]


def _duckdb(rest: str, examiner: Examiner | None, timezone: str) -> Store:
    from tieline_cloud.store.duckdb_store import DuckDbStore

    return DuckDbStore(Path(rest), examiner=examiner, timezone=timezone)


def _postgres(rest: str, examiner: Examiner | None, timezone: str) -> Store:
    try:
        from tieline_cloud.store.postgres_store import PostgresStore
    except ImportError as error:
        if (error.name or "psycopg").partition(".")[0] != "psycopg":
            raise
        reason = "needs psycopg 3, which the extra 'postgres' brings: install tieline-cloud[postgres]"
        raise BadInputError("store", "url", f"postgresql:{rest}", reason) from error
    return PostgresStore(f"postgresql:{rest}", examiner, timezone)


def _memory(_rest: str, examiner: Examiner | None, timezone: str) -> Store:
    from tieline_cloud.store.memory_store import MemoryStore

    return MemoryStore(examiner, timezone)


ADAPTERS: Final[Mapping[str, Adapter]] = MappingProxyType({"duckdb": _duckdb, "postgresql": _postgres, "memory": _memory})


def open_store(url: str, examiner: Examiner | None = None, timezone: str = "UTC") -> Store:
    """Open a store by its URL.

    Args:
        url: ``duckdb:///var/lib/tieline/hub.duckdb`` (absolute path), ``duckdb:var/hub.duckdb`` (relative),
            ``postgresql://user@host:5432/database`` or ``memory:``.
        examiner: Judges readings on arrival; None = nothing is examined.
        timezone: IANA name of the zone whose days are rolled up.

    Raises:
        BadInputError: Unknown scheme, missing path or unknown time zone.
        StoreBusyError: Another process holds the file.
        StoreLostError: The database server cannot be reached.
        StoreFormatError: It is no store, or one of a newer release.
    """
    scheme, colon, rest = url.partition(":")
    if not colon or scheme not in ADAPTERS:
        raise BadInputError("store", "url", url, f"known are {', '.join(f'{name}:' for name in ADAPTERS)}")
    path = rest if scheme == "postgresql" else rest.removeprefix("//")
    if scheme == "duckdb" and not path:
        raise BadInputError("store", "url", url, "names no file; write it like 'duckdb:///var/lib/tieline/hub.duckdb'")
    try:
        zone_of(timezone)
    except ValueError as error:
        raise BadInputError("store", "timezone", timezone, str(error)) from error
    return ADAPTERS[scheme](path, examiner, timezone)
