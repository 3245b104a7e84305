"""What tests of the stores share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cloud.store.postgres_frames import EDGE, T0
from tieline_cloud.store.postgres_store import PostgresStore


@pytest.fixture
def store(postgres: str) -> Iterator[PostgresStore]:
    with PostgresStore(postgres) as opened:
        opened.grant_epoch(EDGE, T0)
        yield opened
