"""One clock: it follows a published schedule, and stands still in tests."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tieline_core.clock import FollowedClock, ManualClock, SystemClock
from tieline_core.errors import BadInputError

NOON = datetime(2016, 12, 7, 12, tzinfo=UTC).timestamp()


class Wall:
    """A hand on the wall clock and on the published text."""

    def __init__(self, *segments: tuple[float, float, float]) -> None:
        self.now = 0.0
        self.text: str | None = None
        self.publish(*segments)

    def publish(self, *segments: tuple[float, float, float]) -> None:
        rows = [{"wall_unix_s": wall, "sim_unix_s": sim, "speed": speed} for wall, sim, speed in segments]
        self.text = json.dumps({"version": 1, "segments": rows})

    def follow(self) -> FollowedClock:
        return FollowedClock(lambda: self.text, "clock.json", wall=lambda: self.now, monotonic=lambda: self.now)


def test_simulated_time_runs_at_the_published_speed() -> None:
    wall = Wall((0.0, NOON, 90.0))
    clock = wall.follow()
    wall.now = 10.0
    assert clock.now() == datetime(2016, 12, 7, 12, 15, tzinfo=UTC)
    assert clock.speed() == 90.0


def test_a_change_announced_ahead_takes_effect_at_its_instant() -> None:
    wall = Wall((0.0, NOON, 1.0))
    clock = wall.follow()
    wall.now = 1.0
    wall.publish((0.0, NOON, 1.0), (2.0, NOON + 2, 90.0))
    assert clock.now().timestamp() == NOON + 1
    wall.now = 3.0
    assert clock.now().timestamp() == NOON + 92


def test_it_keeps_running_while_the_publisher_is_away() -> None:
    wall = Wall((0.0, NOON, 2.0))
    clock = wall.follow()
    wall.text = None
    wall.now = 50.0
    assert clock.now().timestamp() == NOON + 100


@pytest.mark.parametrize("torn", ['{"segm', "", "[]"])
def test_a_torn_publication_leaves_the_last_schedule_running(torn: str) -> None:
    wall = Wall((0.0, NOON, 1.0))
    clock = wall.follow()
    wall.text, wall.now = torn, 1.0
    assert clock.now().timestamp() == NOON + 1
    wall.publish((0.0, NOON, 1.0), (1.0, NOON + 1, 10.0))
    wall.now = 2.0
    assert clock.now().timestamp() == NOON + 11


@pytest.mark.parametrize("text", ['{"segments": []}', '{"segments": [{"wall_unix_s": 0, "sim_unix_s": 0, "speed": 0}]}', "[]"])
def test_a_clock_without_a_running_segment_is_refused(text: str) -> None:
    with pytest.raises(BadInputError):
        FollowedClock(lambda: text, "clock.json")


def test_a_missing_file_is_refused_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="no clock is published"):
        FollowedClock.of_file(tmp_path / "clock.json")


async def test_sleep_follows_the_schedule(tmp_path: Path) -> None:
    path = tmp_path / "clock.json"
    path.write_text(json.dumps({"segments": [{"wall_unix_s": 0, "sim_unix_s": 0, "speed": 20.0}]}), encoding="utf-8")
    clock = FollowedClock.of_file(path)
    before = clock.now()
    await clock.sleep(1)
    assert timedelta(seconds=1) <= clock.now() - before < timedelta(seconds=100)


async def test_a_wait_on_a_fast_clock_ends_when_the_clock_slows_down_and_its_floor_has_passed() -> None:
    wall = Wall((0.0, NOON, 90.0))
    clock = wall.follow()
    woken = asyncio.create_task(clock.sleep(1.0, at_least_wall_s=0.5))
    await ManualClock.settle()
    wall.now = 0.2
    wall.publish((0.0, NOON, 90.0), (0.2, NOON + 18, 1.0))
    await asyncio.sleep(0.25)
    assert not woken.done()
    wall.now = 0.6
    await asyncio.wait_for(woken, 1.0)


async def test_a_manual_clock_wakes_sleepers_in_order() -> None:
    clock = ManualClock(datetime(2016, 12, 7, tzinfo=UTC))
    woken: list[tuple[str, float]] = []
    start = clock.now()

    async def sleeper(name: str, seconds: float) -> None:
        await clock.sleep(seconds)
        woken.append((name, (clock.now() - start).total_seconds()))

    async with asyncio.TaskGroup() as group:
        group.create_task(sleeper("late", 9))
        group.create_task(sleeper("early", 3))
        await clock.settle()
        await clock.advance(5)
        assert woken == [("early", 3.0)]
        await clock.advance(5)
    assert woken == [("early", 3.0), ("late", 9.0)]


async def test_the_system_clock_is_aware_and_runs_at_one() -> None:
    clock = SystemClock()
    before = clock.now()
    await clock.sleep(0.001)
    assert clock.now() > before
    assert (clock.speed(), before.tzinfo) == (1.0, UTC)


def test_elapsed_time_follows_the_speed_and_no_step() -> None:
    wall = Wall((0.0, NOON, 60.0))
    clock = wall.follow()
    began = clock.elapsed_s()
    wall.now = 10.0
    assert clock.elapsed_s() - began == pytest.approx(600.0)
    wall.publish((0.0, NOON - 7200.0, 60.0))
    wall.now = 11.0
    assert clock.now() < datetime.fromtimestamp(NOON, UTC), "the publisher has set it back"
    assert clock.elapsed_s() - began == pytest.approx(660.0)
    wall.publish((0.0, NOON - 7200.0, 60.0), (11.5, NOON - 7200.0 + 690.0, 1.0))
    wall.now = 12.0
    assert clock.elapsed_s() - began == pytest.approx(690.5), "a change of speed is no step"


async def test_setting_a_manual_clock_elapses_nothing_and_wakes_nobody() -> None:
    clock = ManualClock(datetime(2016, 12, 7, tzinfo=UTC))
    sleeper = asyncio.create_task(clock.sleep(5.0))
    await clock.settle()
    clock.step(7200.0)
    await clock.advance(4.0)
    assert not sleeper.done()
    assert clock.now() == datetime(2016, 12, 7, 2, 0, 4, tzinfo=UTC)
    await clock.advance(1.0)
    assert sleeper.done()
    assert clock.elapsed_s() == 5.0


async def test_the_system_clock_counts_what_elapses() -> None:
    clock = SystemClock()
    began = clock.elapsed_s()
    await clock.sleep(0.01)
    assert clock.elapsed_s() > began
