"""A damaged history costs the past, never the forecast."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tieline_core.ids import PointId
from tieline_core.quantities import Reading
from tieline_edge.forecasting.history import HistoryStore

POINT = PointId("harbour/site/load_w")
START = datetime(2016, 12, 1, tzinfo=UTC)


async def fill(path: Path) -> None:
    async with HistoryStore(path) as history:
        for minute in range(0, 6000, 5):
            await history.add(Reading(POINT, float(minute), START + timedelta(minutes=minute)))


@pytest.mark.parametrize("page", [None, 0, 1, 2, 4])
async def test_the_store_opens_keeps_the_damaged_file_and_goes_on(tmp_path: Path, page: int | None) -> None:
    path = tmp_path / "history.sqlite"
    if page is None:
        path.write_bytes(b"this is no database" * 1000)
    else:
        await fill(path)
        data = bytearray(path.read_bytes())
        data[page * 4096 : (page + 1) * 4096] = random.Random(page).randbytes(4096)
        path.write_bytes(data)
    damaged = path.read_bytes()
    async with HistoryStore(path) as history:
        assert history.damage is not None
        assert "kept as history.sqlite.unreadable" in history.damage
        await history.add(Reading(POINT, 1.0, START))
    assert (tmp_path / "history.sqlite.unreadable").read_bytes() == damaged
    async with HistoryStore(path) as history:
        assert history.damage is None
