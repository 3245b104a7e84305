"""Upkeep of the store while the hub serves: roll-ups every few seconds, retention once a day of the hub's clock."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final, TypeVar

from tieline_cloud.jobs.model import JobKind, JobParams, JobProgress
from tieline_cloud.jobs.runner import JobRunner
from tieline_cloud.jobs.scheduler import JobScheduler
from tieline_cloud.store.ports import Ledger, RetentionPolicy, RollupProgress
from tieline_core.allocator import give_back
from tieline_core.clock import Clock
from tieline_core.errors import TransientError

_LOG = logging.getLogger(__name__)
RETAIN: Final = "retain"
_DAY_S: Final = 86_400.0
_T = TypeVar("_T")


class RetainParams(JobParams):
    """None: what is kept how long stands in the hub's settings."""


def retain_kind(ledger: Ledger, policy: RetentionPolicy, clock: Clock) -> JobKind[RetainParams]:
    """The row of the table."""

    async def run(_params: RetainParams, progress: JobProgress) -> dict[str, Any]:
        progress.tell(0.1, "rolling up, then dropping what is past retention")
        return {"rows": await _to_the_end(lambda: ledger.retain(policy, clock.now()))}

    return JobKind(RETAIN, "drop readings and roll-ups that are past retention", RetainParams, run)


def retention(jobs: JobRunner, clock: Clock) -> JobScheduler:
    """Posts a retention job once a day of the clock, also when the hub was started anew meanwhile."""

    def last() -> datetime | None:
        return max((job.created_at for job in jobs.newest(10_000) if job.kind == RETAIN), default=None)

    return JobScheduler(jobs, clock, _DAY_S, lambda: True, last, RETAIN)


async def _to_the_end(work: Callable[[], _T]) -> _T:
    """Run blocking work in a thread; a cancellation waits for it, so that the store is not closed under it."""
    task = asyncio.create_task(asyncio.to_thread(work))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        raise


class StoreUpkeep:
    """Rolls up.

    Args:
        ledger: Whose roll-ups.
        clock: By which clock lag is counted.
        every_s: Wall seconds between roll-ups; each takes at most half of them.

    Attributes:
        progress: As of the last roll-up, None before it.
        failures: Roll-ups the store could not make.
    """

    def __init__(self, ledger: Ledger, clock: Clock, every_s: float) -> None:
        self._ledger = ledger
        self._clock = clock
        self._every_s = every_s
        self.progress: RollupProgress | None = None
        self.failures = 0

    async def run(self) -> None:
        """Look after the store, for ever."""
        while True:
            await self.look()
            await asyncio.sleep(self._every_s)

    async def look(self) -> None:
        """Roll up what is due.

        Raises:
            PermanentError: The store cannot go on.
        """
        now = self._clock.now()
        try:
            self.progress = await _to_the_end(lambda: self._ledger.roll_up(now, self._every_s / 2))
            await _to_the_end(give_back)
        except TransientError as error:
            self.failures += 1
            _LOG.warning("Roll-ups have to wait: %s", error)
