"""Jobs by the hub's clock: as soon as everything needed is there, then at every interval."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

from tieline_cloud.jobs.runner import JobRunner
from tieline_core.clock import Clock
from tieline_core.errors import TransientError

_LOG = logging.getLogger(__name__)
_LOOK_S: Final = 60.0


def is_due(last: datetime | None, now: datetime, every: timedelta) -> bool:
    """True when it is time again: none yet, the interval is over, or the clock was set back."""
    return last is None or now - last >= every or now < last


class JobScheduler:
    """Posts jobs of one kind.

    Args:
        jobs: Where to.
        clock: By which clock.
        every_s: Interval.
        ready: Says whether what the job needs is there.
        last: Instant of the newest result, None when there is none.
        kind: Which job.
    """

    def __init__(
        self,
        jobs: JobRunner,
        clock: Clock,
        every_s: float,
        ready: Callable[[], bool],
        last: Callable[[], datetime | None],
        kind: str = "plan",
    ) -> None:
        self._jobs = jobs
        self._clock = clock
        self._every = timedelta(seconds=every_s)
        self._ready = ready
        self._last = last
        self._kind = kind
        self._tried: datetime | None = None

    async def run(self) -> None:
        """Look once a minute of the clock, for ever."""
        while True:
            self._look()
            await self._clock.sleep(_LOOK_S)

    def _look(self) -> None:
        now = self._clock.now()
        newest = max((at for at in (self._last(), self._tried) if at is not None), default=None)
        if not is_due(newest, now, self._every) or self._jobs.busy_with(self._kind) or not self._ready():
            return
        self._tried = now
        try:
            self._jobs.submit(self._kind, {})
        except TransientError as error:
            _LOG.warning("The scheduled job %s has to wait: %s", self._kind, error)
