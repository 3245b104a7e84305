"""Upkeep of the store while the hub serves: roll-ups every few seconds, retention once a day of the hub's clock."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, Final, TypeVar

from tieline_cloud.jobs.model import JobKind, JobParams, JobProgress
from tieline_cloud.jobs.runner import JobRunner
from tieline_cloud.jobs.scheduler import is_due
from tieline_cloud.store.ports import Ledger, RetentionPolicy, RollupProgress
from tieline_core.clock import Clock
from tieline_core.errors import TielineError, TransientError

_LOG = logging.getLogger(__name__)
RETAIN: Final = "retain"
_DAY: Final = timedelta(days=1)
_T = TypeVar("_T")


class RetainParams(JobParams):
    """None: what is kept how long stands in the hub's settings."""


def retain_kind(ledger: Ledger, policy: RetentionPolicy, clock: Clock) -> JobKind[RetainParams]:
    """The row of the table."""

    async def run(_params: RetainParams, progress: JobProgress) -> dict[str, Any]:
        progress.tell(0.1, "rolling up, then dropping what is past retention")
        return {"rows": await _to_the_end(lambda: ledger.retain(policy, clock.now()))}

    return JobKind(RETAIN, "drop readings and roll-ups that are past retention", RetainParams, run)


async def _to_the_end(work: Callable[[], _T]) -> _T:
    """Run blocking work in a thread; a cancellation waits for it, so that the store is not closed under it."""
    task = asyncio.create_task(asyncio.to_thread(work))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        raise


class StoreUpkeep:
    """Rolls up, and posts retention jobs.

    Args:
        ledger: Whose roll-ups.
        jobs: Where retention is posted.
        clock: By which clock a day ends and lag is counted.
        every_s: Wall seconds between roll-ups; each takes at most half of them.

    Attributes:
        progress: As of the last roll-up, None before it.
        failures: Roll-ups the store could not make.
    """

    def __init__(self, ledger: Ledger, jobs: JobRunner, clock: Clock, every_s: float) -> None:
        self._ledger = ledger
        self._jobs = jobs
        self._clock = clock
        self._every_s = every_s
        self._posted: datetime | None = None
        self.progress: RollupProgress | None = None
        self.failures = 0

    async def run(self) -> None:
        """Look after the store, for ever."""
        while True:
            await self.look()
            await asyncio.sleep(self._every_s)

    async def look(self) -> None:
        """Roll up what is due, and post a retention job when a day is over.

        Raises:
            PermanentError: The store cannot go on.
        """
        now = self._clock.now()
        try:
            self.progress = await _to_the_end(lambda: self._ledger.roll_up(now, self._every_s / 2))
        except TransientError as error:
            self.failures += 1
            _LOG.warning("Roll-ups have to wait: %s", error)
        if not is_due(self._last(), now, _DAY) or self._jobs.busy_with(RETAIN):
            return
        self._posted = now
        try:
            self._jobs.submit(RETAIN, {})
        except TielineError as error:
            _LOG.warning("Retention has to wait: %s", error)

    def _last(self) -> datetime | None:
        done = [job.created_at for job in self._jobs.newest(10_000) if job.kind == RETAIN]
        return max([*done, *([] if self._posted is None else [self._posted])], default=None)
