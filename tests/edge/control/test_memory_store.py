"""Control's memory on a disk that hangs: the loop goes on, and the newest state is what reaches the disk."""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

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


class FullDisk(StateFile):
    """Refuses the next writes."""

    refuse = 0

    def write(self, text: str) -> None:
        if self.refuse:
            self.refuse -= 1
            raise OSError(errno.ENOSPC, "No space left on device")
        super().write(text)


async def at_once(call: Callable[..., None], /, *args: Any) -> None:
    call(*args)


async def test_what_the_disk_refused_is_written_as_soon_as_it_takes_it_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Otherwise a kill within the next minute would forget a switching, and with it a minimum time."""
    file = FullDisk(tmp_path / "control.json")
    store = MemoryStore(file, at_once)
    file.refuse = 3
    memory = ArbiterMemory(contacts={LOAD: ContactMemory(False, NOW, True)})
    with caplog.at_level(logging.INFO):
        for second in range(20):
            at = NOW + timedelta(seconds=second)
            await store.store(memory, dict, (), at, at, 1.0)
            if second == 8:
                assert store.read() is not None
    assert len(caplog.records) == 2, "told when it begins and when it is over"
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    stored = store.read()
    assert stored is not None
    assert (stored.at, stored.arbiter.contacts[LOAD].closed) == (NOW + timedelta(seconds=6), False)


async def test_a_disk_that_hangs_holds_up_no_cycle_that_has_nothing_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[object] = []
    wait = asyncio.wait

    async def counted(*args: Any, **rest: Any) -> Any:
        waits.append(args)
        return await wait(*args, **rest)

    monkeypatch.setattr(asyncio, "wait", counted)
    disk = SickDisk()
    store = MemoryStore(StateFile(tmp_path / "control.json"), disk)
    memory = ArbiterMemory(contacts={LOAD: ContactMemory(False, NOW, True)})
    for second in range(10):
        at = NOW + timedelta(seconds=second)
        await store.store(memory, dict, (), at, at, 1.0)
    assert len(waits) == 1
    disk.well.set()
    await store.close()
