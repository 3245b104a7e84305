"""A state file that is written beside the loop: a disk that hangs or refuses holds up nobody who does not wait for it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, Final, Protocol

from tieline_edge.control.state_file import StateFile

_LOG = logging.getLogger(__name__)
#: What the disk refused is offered to it again after this time of the clock.
RETRY_S: Final = 2.0
#: A disk that has not answered by then is left to itself at the end [wall s].
_FAREWELL_S: Final = 2.0


class Offload(Protocol):
    """Runs a blocking call beside the loop; :func:`asyncio.to_thread` in production."""

    async def __call__(self, call: Callable[..., None], /, *args: Any) -> None: ...


class StateWriter:
    """Brings a state to its file; one write at a time, and of several states that wait only the newest.

    Args:
        file: Where it is kept.
        text: Gives the state as it is when a write begins.
        offload: Runs the write.
    """

    def __init__(self, file: StateFile, text: Callable[[], str], offload: Offload = asyncio.to_thread) -> None:
        self.file = file
        self._text = text
        self._offload = offload
        #: Counted states: the newest there is, the newest on the disk, the newest that the disk has refused.
        self._newest = self._kept = self._refused = 0
        self._error: OSError | None = None
        self._task: asyncio.Task[None] | None = None
        #: Done when the write under way has ended, well or badly; what has changed since is the next one's.
        self._turn: asyncio.Future[None] | None = None
        self._begun_at: datetime | None = None

    @property
    def refused(self) -> bool:
        """True while the disk takes nothing."""
        return self._error is not None

    def touch(self) -> None:
        """The state has changed; :meth:`push` or :meth:`flush` will write it."""
        self._newest += 1

    def push(self, now: datetime, speed: float = 1.0) -> asyncio.Task[None] | None:
        """Begin to write what has changed, and what the disk refused a while ago.

        Args:
            now: Present instant of a line that never steps.
            speed: Speed of the clock.

        Returns:
            The write under way, for whoever wants to wait for it; None when there is none.
        """
        if self._kept >= self._newest or self._writing():
            return self._task if self._writing() else None
        wait = timedelta(seconds=RETRY_S * speed)
        if self._refused >= self._newest and self._begun_at is not None and abs(now - self._begun_at) < wait:
            return None
        self._begun_at = now
        return self._begin()

    async def flush(self, within_s: float) -> None:
        """Write the state as it is now, and wait for it; what changes meanwhile is written too and not waited for.

        Raises:
            OSError: The disk refused it; TimeoutError when it has not answered in time.
        """
        self._newest += 1
        wanted = self._newest
        async with asyncio.timeout(within_s):
            while self._kept < wanted:
                task = self._task if self._task is not None and self._writing() else self._begin()
                await asyncio.wait([one for one in (task, self._turn) if one is not None], return_when=asyncio.FIRST_COMPLETED)
                if self._kept < wanted <= self._refused and self._error is not None:
                    raise OSError(self._error.errno, self._error.strerror) from self._error

    async def close(self) -> None:
        """Write what is left, unless the disk does not want it."""
        if self._kept < self._newest or self._writing():
            with suppress(OSError):
                await self.flush(_FAREWELL_S)

    def _writing(self) -> bool:
        if self._task is None:
            return False
        if not self._task.done():
            return True
        # Only a defect is left in it: what the disk refuses is caught.
        self._task.result()
        return False

    def _begin(self) -> asyncio.Task[None]:
        self._turned()
        self._task = asyncio.create_task(self._write(), name=f"store-{self.file.path.stem}")
        return self._task

    async def _write(self) -> None:
        while self._kept < self._newest:
            state, text = self._newest, self._text()
            try:
                await self._offload(self.file.write, text)
            except OSError as error:
                if self._error is None:
                    _LOG.warning("%s is not stored, and is tried again: %s", self.file.path.name, error)
                self._refused, self._error = state, error
                self._turned()
                return
            if self._error is not None:
                _LOG.info("%s is stored again", self.file.path.name)
            self._kept, self._error = state, None
            self._turned()

    def _turned(self) -> None:
        if self._turn is not None:
            self._turn.set_result(None)
        self._turn = asyncio.get_running_loop().create_future()
