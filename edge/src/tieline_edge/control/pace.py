"""When cycles begin: on a grid of the clock, and at once when a watched point has crossed its level.

An extra cycle is a cycle like any other: the same arbiter, the same gates, all of which go by time and not by how often
they are asked. It does not move the grid, and there are only so many: each regular cycle earns one, a few may be saved. A
point that flutters about its level can therefore neither starve the grid nor more than double the number of cycles; what
crosses when none is left waits for the next regular cycle.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Self

from tieline_core.clock import Clock
from tieline_edge.settings import CycleSettings

#: Extra cycles that may be saved up.
MOST_EXTRA: Final = 3
_KEPT: Final = 2000


@dataclass(slots=True)
class PaceStats:
    """How punctual cycles are; lateness in milliseconds, taken only while the clock runs at its natural speed.

    Attributes:
        late_ms: Of the newest regular cycles.
        late_max_ms: Of all since the start.
        missed: Whole periods in which no regular cycle began.
        extra: Cycles that a crossing called for.
    """

    late_ms: deque[float] = field(default_factory=lambda: deque(maxlen=_KEPT))
    late_max_ms: float = 0.0
    missed: int = 0
    extra: int = 0

    def began(self, late_s: float, period_s: float) -> None:
        """Note the start of a regular cycle."""
        late_ms = max(0.0, 1000.0 * late_s)
        self.late_ms.append(late_ms)
        self.late_max_ms = max(self.late_max_ms, late_ms)
        self.missed += int(late_s // period_s) if late_s > 0 else 0

    def quantile_ms(self, share: float) -> float:
        """Quantile of the newest latenesses; 0 before the first."""
        ranked = sorted(self.late_ms)
        return ranked[min(len(ranked) - 1, int(share * len(ranked)))] if ranked else 0.0


class Pace:
    """Waits for the next cycle. Entering begins the grid now; leaving ends what waits.

    Args:
        clock: Whose grid it is.
        settings: Period and its floor in wall time.
        crossed: Set by the process image when a watched point has crossed its level.
        stats: Where punctuality is noted.
    """

    def __init__(self, clock: Clock, settings: CycleSettings, crossed: asyncio.Event, stats: PaceStats) -> None:
        self._clock, self._settings, self._crossed, self._stats = clock, settings, crossed, stats
        self._due_s = clock.elapsed_s()
        self._spare = 1
        self._regular: asyncio.Task[None] | None = None
        self._tasks = asyncio.TaskGroup()

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        self._due_s = self._clock.elapsed_s()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._regular is not None:
            self._regular.cancel()
        await self._tasks.__aexit__(kind, error, trace)

    async def wait(self) -> None:
        """Return when the next cycle is to begin, regular or extra."""
        if self._regular is None:
            self._regular = self._tasks.create_task(self._until_due(), name="cycle due")
        if self._spare > 0:
            called = self._tasks.create_task(self._crossed.wait(), name="cycle called")
            try:
                await asyncio.wait([self._regular, called], return_when=asyncio.FIRST_COMPLETED)
            finally:
                called.cancel()
        else:
            await asyncio.wait([self._regular])
        self._crossed.clear()
        if self._regular.done():
            self._regular = None
            self._spare = min(self._spare + 1, MOST_EXTRA)
        else:
            self._spare -= 1
            self._stats.extra += 1

    async def _until_due(self) -> None:
        period_s = self._settings.period_s
        due_s = self._due_s + period_s
        await self._clock.sleep(due_s - self._clock.elapsed_s(), at_least_wall_s=self._settings.floor_wall_s)
        now_s = self._clock.elapsed_s()
        if self._clock.speed() == 1.0:
            self._stats.began(now_s - due_s, period_s)
        # A little late keeps the grid; a whole period late begins a new one.
        self._due_s = due_s if now_s - due_s < period_s else now_s
