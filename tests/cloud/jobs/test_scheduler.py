"""Plans by the hub's clock."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from tests.cloud.rooms import NOW, Rooms
from tieline_cloud.jobs.model import JobKind, JobParams, JobProgress
from tieline_cloud.jobs.scheduler import JobScheduler, is_due

HOUR = timedelta(hours=1)


async def nothing(_params: JobParams, _progress: JobProgress) -> dict[str, Any]:
    return {}


def test_a_plan_is_due_when_there_is_none_when_it_is_old_and_when_the_clock_went_back() -> None:
    assert is_due(None, NOW, HOUR)
    assert not is_due(NOW - HOUR / 2, NOW, HOUR)
    assert is_due(NOW - HOUR, NOW, HOUR)
    assert is_due(NOW + HOUR, NOW, HOUR)


async def test_it_plans_once_when_ready_and_again_after_the_interval(tmp_path: Path) -> None:
    rooms = Rooms(tmp_path, kinds={"plan": JobKind("plan", "", JobParams, nothing)})
    ready = False
    planned: list[datetime] = []
    rooms.jobs.listen(lambda job: planned.append(job.created_at) if job.state == "queued" else None)
    scheduler = JobScheduler(rooms.jobs, rooms.clock, 3600.0, lambda: ready, lambda: None)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(scheduler.run()), group.create_task(rooms.jobs.run())]
        await rooms.clock.advance(300)
        assert planned == []
        ready = True
        await rooms.clock.advance(2 * 3600)
        for task in tasks:
            task.cancel()
    assert planned == [NOW + timedelta(minutes=6), NOW + timedelta(minutes=66)]
