"""Worker processes for heavy arithmetic: spawned, one numeric thread each, never given the database."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import signal
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from types import TracebackType
from typing import Final, ParamSpec, Self, TypeVar

from tieline_core.errors import TransientError

_LOG = logging.getLogger(__name__)
A = ParamSpec("A")
R = TypeVar("R")
#: Read by OpenMP, OpenBLAS, MKL and numexpr when they are loaded: set before a worker is spawned.
THREADS: Final = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "NUMEXPR_MAX_THREADS": "1",
    "OMP_WAIT_POLICY": "PASSIVE",
}


class WorkerDiedError(TransientError):
    """A worker process ended in the middle of its work (killed, out of memory)."""


def limit_threads() -> None:
    """One numeric thread in this process and its workers; call it before a numeric library is loaded."""
    os.environ.update(THREADS)


def _begin() -> None:
    # Ctrl-C reaches the whole process group; the hub decides when its workers end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(5)


class WorkerPool:
    """A spawn pool that is started on first use and replaced when a worker dies."""

    def __init__(self, processes: int) -> None:
        self._processes = processes
        self._executor: ProcessPoolExecutor | None = None

    async def __aenter__(self) -> Self:
        limit_threads()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self._drop)

    def _drop(self) -> None:
        executor, self._executor = self._executor, None
        if executor is None:
            return
        workers = list(executor._processes.values())  # noqa: SLF001 (there is no public way to end a busy worker)
        executor.shutdown(wait=False, cancel_futures=True)
        for worker in workers:
            worker.terminate()
        for worker in workers:
            worker.join(timeout=5)

    async def call(self, function: Callable[A, R], *args: A.args, **kwargs: A.kwargs) -> R:
        """Run a picklable function in a worker.

        Raises:
            WorkerDiedError: When the process ended; the next call gets a new one.
        """
        if kwargs:
            raise TypeError("workers take positional arguments only")
        if self._executor is None:
            context = multiprocessing.get_context("spawn")
            self._executor = ProcessPoolExecutor(self._processes, mp_context=context, initializer=_begin)
        executor = self._executor
        try:
            return await asyncio.get_running_loop().run_in_executor(executor, function, *args)
        except BrokenProcessPool as error:
            if self._executor is executor:
                self._executor = None
                executor.shutdown(wait=False)
            _LOG.warning("A worker process died; the pool is started anew")
            raise WorkerDiedError("the worker process ended in the middle of its work (killed or out of memory)") from error
