"""Control's memory on a disk that hangs: the loop goes on, and the newest state is what reaches the disk."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tieline_core.ids import DeviceId
from tieline_edge.control.memory import ArbiterMemory, ContactMemory
from tieline_edge.control.memory_store import MemoryStore
from tieline_edge.control.state_file import StateFile

NOW = datetime(2016, 12, 7, 16, tzinfo=UTC)
LOAD = DeviceId("load01")


class SickDisk:
    """Hangs until it is well again."""

    def __init__(self) -> None:
        self.well = asyncio.Event()
        self.writes = 0

    async def __call__(self, call: Callable[..., None], /, *args: Any) -> None:
        await self.well.wait()
        self.writes += 1
        call(*args)


async def test_a_disk_that_hangs_over_several_switchings_holds_up_none_of_them(tmp_path: Path) -> None:
    disk, file = SickDisk(), StateFile(tmp_path / "control.json")
    store = MemoryStore(file, disk)
    async with asyncio.timeout(30.0):
        for number in range(4):
            at = NOW + timedelta(seconds=number)
            memory = ArbiterMemory(contacts={LOAD: ContactMemory(number % 2 == 0, at, True)})
            await store.store(memory, dict, (), at, at, 1.0)
        assert disk.writes == 0
        disk.well.set()
        await store.close()
    stored = store.read()
    assert stored is not None
    assert stored.arbiter.contacts[LOAD].switched_at == NOW + timedelta(seconds=3)
    assert disk.writes == 2, "the one that hung, and the newest"
