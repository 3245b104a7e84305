"""A client of the real application over rooms in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from tests.cloud.rooms import Rooms

from tieline_cloud.api.app import create_app


@pytest.fixture
def rooms(tmp_path: Path) -> Rooms:
    """A hub's rooms in memory."""
    return Rooms(tmp_path)


@pytest.fixture
async def client(rooms: Rooms) -> AsyncIterator[httpx.AsyncClient]:
    """Talks to the application without a socket."""
    transport = httpx.ASGITransport(create_app(rooms.services()), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://hub") as session:
        yield session
