"""Jobs: queued, run, followed, failed, cancelled, remembered."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.cloud.rooms import Rooms

from tieline_cloud.jobs.model import Job, JobFailedError, JobKind, JobParams, JobProgress, JobState
from tieline_cloud.jobs.runner import MAX_WAITING, TooManyJobsError
from tieline_core.clock import ManualClock
from tieline_core.errors import BadInputError


class Words(JobParams):
    text: str = "hello"


async def echo(params: Words, progress: JobProgress) -> dict[str, Any]:
    progress.tell(0.5, "half way")
    await ManualClock.settle()
    return {"text": params.text}


async def refuse(_params: Words, _progress: JobProgress) -> dict[str, Any]:
    raise JobFailedError("there is no history to learn from")


async def crash(_params: Words, _progress: JobProgress) -> dict[str, Any]:
    raise ZeroDivisionError("by zero")


async def hang(_params: Words, _progress: JobProgress) -> dict[str, Any]:
    await asyncio.Event().wait()
    return {}


KINDS: dict[str, JobKind[Any]] = {run.__name__: JobKind(run.__name__, "", Words, run) for run in (echo, refuse, crash, hang)}


@asynccontextmanager
async def working(rooms: Rooms) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as group:
        task = group.create_task(rooms.jobs.run())
        yield
        task.cancel()


async def finished(rooms: Rooms, job: Job) -> Job:
    for _ in range(1000):
        now = rooms.jobs.get(job.job_id)
        assert now is not None
        if now.state.final:
            return now
        await asyncio.sleep(0)
    pytest.fail(f"{job.kind} did not end")


async def test_a_job_tells_its_progress_and_keeps_its_result(tmp_path: Path) -> None:
    rooms = Rooms(tmp_path, kinds=KINDS)
    seen: list[tuple[str, float]] = []
    rooms.jobs.listen(lambda job: seen.append((job.state.value, job.progress)))
    async with working(rooms):
        job = await finished(rooms, rooms.jobs.submit("echo", {"text": "ahoy"}))
    assert job.result == {"text": "ahoy"}
    assert seen == [("queued", 0.0), ("running", 0.0), ("running", 0.5), ("done", 1.0)]


@pytest.mark.parametrize(
    ("kind", "reason"), [("refuse", "there is no history to learn from"), ("crash", "ZeroDivisionError: by zero")]
)
async def test_a_job_that_fails_says_why_and_the_next_one_runs(tmp_path: Path, kind: str, reason: str) -> None:
    rooms = Rooms(tmp_path, kinds=KINDS)
    async with working(rooms):
        failed = await finished(rooms, rooms.jobs.submit(kind, {}))
        done = await finished(rooms, rooms.jobs.submit("echo", {}))
    assert (failed.state, failed.error) == (JobState.FAILED, reason)
    assert done.state is JobState.DONE


async def test_cancelling_ends_a_running_job_and_one_that_waits(tmp_path: Path) -> None:
    rooms = Rooms(tmp_path, kinds=KINDS)
    async with working(rooms):
        jobs = [rooms.jobs.submit("hang", {}) for _ in range(3)]
        await ManualClock.settle()
        states = [job.state for job in rooms.jobs.newest(3)]
        assert sorted(states) == ["queued", "running", "running"]
        for job in jobs:
            rooms.jobs.cancel(job.job_id)
        ended = [await finished(rooms, job) for job in jobs]
        after = await finished(rooms, rooms.jobs.submit("echo", {}))
    assert {job.state for job in ended} == {JobState.CANCELLED}
    assert after.state is JobState.DONE


async def test_a_wrong_parameter_is_named(tmp_path: Path) -> None:
    rooms = Rooms(tmp_path, kinds=KINDS)
    with pytest.raises(BadInputError, match=r"params\.word = 1: Extra inputs"):
        rooms.jobs.submit("echo", {"word": 1})
    with pytest.raises(BadInputError, match=r"there is no such job; kinds are .*echo.*import"):
        rooms.jobs.submit("dance", {})


async def test_a_full_queue_refuses(tmp_path: Path) -> None:
    rooms = Rooms(tmp_path, kinds=KINDS)
    for _ in range(MAX_WAITING):
        rooms.jobs.submit("echo", {})
    with pytest.raises(TooManyJobsError):
        rooms.jobs.submit("echo", {})


async def test_after_a_restart_what_waited_runs_and_what_ran_has_failed(tmp_path: Path) -> None:
    rooms = Rooms(tmp_path, kinds=KINDS)
    async with working(rooms):
        running = rooms.jobs.submit("hang", {})
        await ManualClock.settle()
        body = rooms.documents.get("job", running.job_id)
    waiting = rooms.jobs.submit("echo", {})
    assert body is not None
    rooms.documents.put("job", running.job_id, body, running.created_at)  # as a killed hub would have left it
    rooms.documents.close()
    again = Rooms(tmp_path, kinds=KINDS)
    async with working(again):
        assert (await finished(again, waiting)).state is JobState.DONE
    stopped = again.jobs.get(running.job_id)
    assert stopped is not None
    assert stopped.state is JobState.FAILED
    assert "restarted" in str(stopped.error)
