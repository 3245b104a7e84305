"""Worker processes: one thread each, replaced when they die."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tieline_cloud.jobs.pool import WorkerDiedError, WorkerPool

_HUB = """
import asyncio, os, signal
from tieline_cloud.jobs.pool import WorkerPool

async def main():
    async with WorkerPool(1) as pool:
        await pool.call(os.getpid)
        os.kill(os.getpid(), signal.SIGKILL)

if __name__ == "__main__":
    asyncio.run(main())
"""


def test_workers_end_when_the_hub_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "hub.py"
    script.write_text(_HUB, encoding="utf-8")
    # The worker inherits the pipe: it is at its end only when the worker is gone, too.
    done = subprocess.run([sys.executable, str(script)], stdout=subprocess.PIPE, timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL


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
