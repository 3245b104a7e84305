"""Every suite in this folder runs over every adapter of the table."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tieline_cloud.store.adapters import ADAPTERS, open_store
from tieline_cloud.store.ports import Store


@pytest.fixture(params=sorted(ADAPTERS))
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of an empty store; opening it again finds what was stored, but for the one in memory."""
    if request.param == "postgresql":
        url: str = request.getfixturevalue("postgres")
        return url
    return {"duckdb": f"duckdb:{tmp_path}/hub.duckdb", "memory": "memory:"}[request.param]


@pytest.fixture
def store(store_url: str) -> Iterator[Store]:
    """An empty store."""
    with open_store(store_url) as opened:
        yield opened
