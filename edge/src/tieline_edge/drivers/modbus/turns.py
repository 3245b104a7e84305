"""Who may use a bus next: the most urgent of those who wait, within one urgency whoever came first."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import IntEnum


class Urgency(IntEnum):
    """Lower goes first."""

    WRITE = 0
    """An order with its read-back."""
    READ = 1
    """A poll, a discovery, an attempt at a device that was silent."""


class Turns:
    """A lock that serves the urgent first: a write waits for the request in flight at most, never for polls that queue."""

    def __init__(self) -> None:
        self._held = False
        self._waiting: dict[Urgency, deque[asyncio.Future[None]]] = {urgency: deque() for urgency in Urgency}

    @property
    def waiting(self) -> int:
        """How many wait."""
        return sum(len(line) for line in self._waiting.values())

    @asynccontextmanager
    async def turn(self, urgency: Urgency) -> AsyncIterator[None]:
        """Wait for a turn and hold it for the body; a cancelled wait leaves the queue."""
        await self.take(urgency)
        try:
            yield
        finally:
            self.pass_on()

    async def take(self, urgency: Urgency) -> None:
        """Wait for a turn; who got it must :meth:`pass_on`. :meth:`turn` does both."""
        if not self._held:
            self._held = True
            return
        mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        line = self._waiting[urgency]
        line.append(mine)
        try:
            await mine
        except asyncio.CancelledError:
            if mine.done() and not mine.cancelled():
                # The turn came in the same moment as the cancellation: it belongs to the next one.
                self.pass_on()
            else:
                line.remove(mine)
            raise

    def pass_on(self) -> None:
        """Give the turn to the next one."""
        # The turn is handed over, not freed: nobody who comes now overtakes those who wait.
        for urgency in Urgency:
            line = self._waiting[urgency]
            while line:
                following = line.popleft()
                if not following.done():
                    following.set_result(None)
                    return
        self._held = False
