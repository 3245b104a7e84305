"""The table of stores: one line an adapter."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

from tieline_cloud.store.ports import Store
from tieline_core.errors import BadInputError


def _duckdb(rest: str) -> Store:
    from tieline_cloud.store.duckdb_store import DuckDbStore

    return DuckDbStore(Path(rest))


def _postgres(rest: str) -> Store:
    try:
        from tieline_cloud.store.postgres_store import PostgresStore
    except ImportError as error:
        if (error.name or "psycopg").partition(".")[0] != "psycopg":
            raise
        reason = "needs psycopg 3, which the extra 'postgres' brings: install tieline-cloud[postgres]"
        raise BadInputError("store", "url", f"postgresql:{rest}", reason) from error
    return PostgresStore(f"postgresql:{rest}")


def _memory(_rest: str) -> Store:
    from tieline_cloud.store.memory_store import MemoryStore

    return MemoryStore()


ADAPTERS: Final[Mapping[str, Callable[[str], Store]]] = MappingProxyType(
    {"duckdb": _duckdb, "postgresql": _postgres, "memory": _memory}
)


def open_store(url: str) -> Store:
    """Open a store by its URL.

    Args:
        url: ``duckdb:///var/lib/tieline/hub.duckdb`` (absolute path), ``duckdb:var/hub.duckdb`` (relative),
            ``postgresql://user@host:5432/database`` or ``memory:``.

    Raises:
        BadInputError: Unknown scheme or missing path.
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
    return ADAPTERS[scheme](path)
