"""The grid of cycles: kept through extra cycles, not starved by a fluttering point, not stopped by a clock that is set."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import pytest

from tieline_core.clock import ManualClock
from tieline_edge.control.pace import MOST_EXTRA, Pace, PaceStats
from tieline_edge.settings import CycleSettings

START = datetime(2016, 12, 7, 16, tzinfo=UTC)
SETTINGS = CycleSettings(period_s=1.0, floor_wall_s=0.1)


class Loop:
    """A control loop that only notes when its cycles began, in seconds since the start."""

    def __init__(self, clock: ManualClock, work: Callable[[], float] = lambda: 0.0) -> None:
        self.clock, self.work = clock, work
        self.crossed = asyncio.Event()
        self.stats = PaceStats()
        self.began: list[float] = []

    async def run(self) -> None:
        async with Pace(self.clock, SETTINGS, self.crossed, self.stats) as pace:
            while True:
                self.began.append((self.clock.now() - START).total_seconds())
                if (busy_s := self.work()) > 0:
                    await self.clock.sleep(busy_s)
                await pace.wait()

    async def cross(self) -> None:
        """A watched point goes beyond its level."""
        self.crossed.set()
        await self.clock.settle()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Loop]:
        task = asyncio.create_task(self.run())
        await self.clock.settle()
        try:
            yield self
        finally:
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert [one.get_name() for one in asyncio.all_tasks() if one is not asyncio.current_task()] == []


async def test_cycles_begin_on_a_grid_however_long_each_of_them_takes() -> None:
    async with Loop(ManualClock(START), lambda: 0.3).running() as loop:
        await loop.clock.advance(4.5)
        assert loop.began == [0.0, 1.0, 2.0, 3.0, 4.0]
        assert (loop.stats.late_max_ms, loop.stats.missed, loop.stats.extra) == (0.0, 0, 0)


async def test_a_crossing_calls_for_a_cycle_at_once_and_the_grid_stays() -> None:
    async with Loop(ManualClock(START)).running() as loop:
        await loop.clock.advance(2.4)
        await loop.cross()
        await loop.clock.advance(1.7)
        assert loop.began == [0.0, 1.0, 2.0, 2.4, 3.0, 4.0]
        assert loop.stats.extra == 1


async def test_a_fluttering_point_gets_no_more_extra_cycles_than_regular_ones_and_starves_none() -> None:
    async with Loop(ManualClock(START)).running() as loop:
        for _ in range(200):
            await loop.cross()
            await loop.clock.advance(0.05)
        assert [round(at, 2) for at in loop.began if at == int(at)][-1] == 10.0
        assert loop.stats.extra <= 10 + MOST_EXTRA
        assert loop.stats.late_max_ms == 0.0


async def test_a_crossing_while_no_extra_cycle_is_left_waits_for_the_regular_one() -> None:
    async with Loop(ManualClock(START)).running() as loop:
        await loop.cross()
        await loop.clock.advance(0.2)
        await loop.cross()
        await loop.clock.advance(0.5)
        assert loop.began == [0.0, 0.0]
        await loop.clock.advance(0.5)
        assert loop.began == [0.0, 0.0, 1.0]
        assert not loop.crossed.is_set()


async def test_a_cycle_that_overruns_is_late_and_counted_and_the_next_grid_begins_there() -> None:
    busy = iter([0.0, 2.5, *[0.0] * 10])
    async with Loop(ManualClock(START), lambda: next(busy)).running() as loop:
        await loop.clock.advance(6.0)
        assert loop.began == [0.0, 1.0, 3.6, 4.6, 5.6]
        assert loop.stats.missed == 1
        assert loop.stats.late_max_ms == pytest.approx(1600.0)
        assert loop.stats.quantile_ms(1.0) == pytest.approx(1600.0)


async def test_a_clock_that_is_set_neither_stops_the_loop_nor_makes_it_late() -> None:
    clock = ManualClock(START)
    async with Loop(clock).running() as loop:
        await clock.advance(1.5)
        for step_s in (-7200.0, 14400.0):
            clock.step(step_s)
            await clock.advance(2.0)
        assert len(loop.began) == 6
        assert (loop.stats.late_max_ms, loop.stats.missed) == (0.0, 0)


async def test_on_a_fast_clock_the_floor_rules_and_nothing_is_called_late() -> None:
    async with Loop(ManualClock(START, speed=90.0)).running() as loop:
        await loop.clock.advance(91.0)
        assert 10 <= len(loop.began) <= 12
        assert (loop.stats.late_max_ms, loop.stats.missed) == (0.0, 0)


def test_a_loop_that_has_not_begun_has_no_quantile() -> None:
    assert PaceStats().quantile_ms(0.99) == 0.0
