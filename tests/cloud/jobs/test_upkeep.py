"""The store is looked after while the hub serves."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from tests.cloud.rooms import NOW, Rooms
from tieline_cloud.jobs.model import JobState
from tieline_cloud.jobs.upkeep import RETAIN, StoreUpkeep, retain_kind, retention
from tieline_cloud.store.memory_store import MemoryStore
from tieline_cloud.store.ports import RetentionPolicy, RollupProgress
from tieline_core.clock import ManualClock
from tieline_core.errors import PermanentError, TransientError
from tieline_core.frame import ReadingBatch
from tieline_core.ids import PointId
from tieline_core.quantities import Quality, Reading

POINT = PointId("harbour/site/load_w")


@dataclass
class Book(MemoryStore):
    """Notes its upkeep."""

    error: Exception | None = None
    budgets: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def roll_up(self, now: datetime, budget_s: float) -> RollupProgress:
        self.budgets.append(budget_s)
        if self.error is not None:
            raise self.error
        return RollupProgress(3, 2, 1.5)


async def test_it_rolls_up_within_half_the_interval(tmp_path: Path) -> None:
    store = Book()
    upkeep = StoreUpkeep(store, ManualClock(NOW), 5.0)
    for _ in range(3):
        await upkeep.look()
    assert store.budgets == [2.5] * 3
    assert upkeep.progress == RollupProgress(3, 2, 1.5)


async def test_retention_is_done_once_a_day_also_by_a_hub_that_was_started_anew(tmp_path: Path) -> None:
    store, rooms = MemoryStore(), Rooms(tmp_path)
    for days in (0, 9):
        store.import_readings(ReadingBatch.of([Reading(POINT, 1.0, NOW - timedelta(days=days), Quality.GOOD)]), "x", NOW)
    rooms.jobs.kinds = {
        RETAIN: retain_kind(store, RetentionPolicy(raw_days=3, minute_days=None, quarter_days=None), rooms.clock)
    }
    done = asyncio.Event()
    rooms.jobs.listen(lambda job: done.set() if job.state.final else None)
    for expected in (1, 1, 2):
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(retention(rooms.jobs, rooms.clock).run()), group.create_task(rooms.jobs.run())]
            await done.wait()
            await rooms.clock.advance(40_000)
            for task in tasks:
                task.cancel()
        assert len(rooms.jobs.newest(10)) == expected
    job = rooms.jobs.newest(10)[-1]
    assert (job.state, job.result) == (JobState.DONE, {"rows": 1})
    assert store.statistics().readings == 1


async def test_a_full_disk_is_waited_for_and_a_broken_store_is_not(tmp_path: Path) -> None:
    store = Book(error=TransientError("the disk is full"))
    upkeep = StoreUpkeep(store, ManualClock(NOW), 5.0)
    await upkeep.look()
    assert (upkeep.failures, upkeep.progress) == (1, None)
    store.error = PermanentError("the store has to be opened again")
    with pytest.raises(PermanentError, match="opened again"):
        await upkeep.look()
