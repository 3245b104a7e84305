"""Worker processes: one thread each, replaced when they die."""

from __future__ import annotations

import os
import signal

import pytest

from tieline_cloud.jobs.pool import WorkerDiedError, WorkerPool


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


async def test_a_worker_computes_with_one_thread_in_another_process() -> None:
    async with WorkerPool(1) as pool:
        assert await pool.call(os.getpid) != os.getpid()
        assert await pool.call(os.getenv, "OMP_NUM_THREADS") == "1"


async def test_a_dead_worker_is_said_and_the_next_call_works() -> None:
    async with WorkerPool(1) as pool:
        with pytest.raises(WorkerDiedError):
            await pool.call(die)
        assert await pool.call(max, 1, 2) == 2
