"""A mirror against a scripted target: refusals, absence, restarts, rebuilds."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass, field
from datetime import timedelta

import pytest

from tests.cloud.mirror.replay_log import START, MemoryLog, readings
from tieline_cloud.mirror.mirror import DOCUMENTS, Mirror
from tieline_cloud.mirror.ports import LinesRefusedError, TargetAwayError
from tieline_cloud.mirror.state import MirrorState
from tieline_cloud.settings import MirrorSettings
from tieline_core.clock import ManualClock


@dataclass
class ScriptedTarget:
    """Keeps lines; refuses those with a word, is away when told to."""

    lines: list[bytes] = field(default_factory=list)
    poison: bytes = b"\0"
    away: bool = False
    start: float | None = 1.0
    requests: int = 0

    def write(self, body: bytes) -> None:
        self.requests += 1
        if self.away:
            raise TargetAwayError("nobody is there")
        lines = body.splitlines()
        if any(self.poison in line for line in lines):
            raise LinesRefusedError("400 partial write: field type conflict")
        self.lines += lines

    def started_at(self) -> float | None:
        if self.away:
            raise TargetAwayError("nobody is there")
        return self.start


def mirror(log: MemoryLog, target: ScriptedTarget, clock: ManualClock | None = None, **changes: object) -> Mirror:
    values = {"name": "m", "url": "http://127.0.0.1:1", "batch_lines": 10, "replay_rows": 30}
    return Mirror(MirrorSettings.model_validate({**values, **changes}), log, target, clock or ManualClock(START))


def drain(one: Mirror) -> None:
    while one.round():
        pass


def test_everything_stored_reaches_the_target_and_the_position_follows() -> None:
    log, target = MemoryLog(), ScriptedTarget()
    for device in range(7):
        log.add(readings(25, f"m{device}"))
    drain(mirror(log, target))
    assert len(target.lines) == len(set(target.lines)) == 175
    assert MirrorState.read(log.documents(DOCUMENTS)["m"], START).position == 7


def test_lines_the_target_refuses_are_set_aside_one_by_one_and_the_others_arrive() -> None:
    log, target = MemoryLog(), ScriptedTarget(poison=b"p_w=13 ")
    log.add(readings(25))
    one = mirror(log, target)
    drain(one)
    assert len(target.lines) == 24
    assert one.counters.refused == 1
    (edge, topic, payload, reason), *others = log.aside
    assert (edge, topic, others) == ("harbour", "mirror/m", [])
    assert b"p_w=13 " in payload
    assert "field type conflict" in reason
    assert one.state is not None
    assert one.state.refused == 1


def test_a_target_that_refuses_everything_costs_a_bounded_number_of_requests() -> None:
    log, target = MemoryLog(), ScriptedTarget(poison=b"tieline")
    log.add(readings(5000))
    one = mirror(log, target, batch_lines=5000)
    drain(one)
    assert target.requests < 500
    assert one.counters.refused == 5000
    assert one.state is not None
    assert one.state.position == 1


def test_an_absent_target_loses_nothing_and_names_the_problem() -> None:
    log, target = MemoryLog(), ScriptedTarget(away=True)
    log.add(readings(5))
    one = mirror(log, target)
    with pytest.raises(TargetAwayError):
        one.round()
    target.away = False
    drain(one)
    assert len(target.lines) == 5


async def test_a_target_that_was_restarted_gets_the_overlap_again() -> None:
    clock = ManualClock(START)
    log, target = MemoryLog(), ScriptedTarget()
    one = mirror(log, target, clock, poll_s=1)
    task = asyncio.create_task(one.run())
    for minute in range(30):
        log.add(readings(2, f"m{minute}"))
        await turn(lambda want=2 * minute + 2: len(target.lines) == want, clock, 1)
        await clock.advance(59)
    target.away, target.lines = True, []
    one._probed_s = float("-inf")
    await turn(lambda: one.problem is not None, clock, 1)
    target.away, target.start = False, 2.0
    await turn(lambda: len(target.lines) >= 20, clock, 60)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert one.counters.steps_back == 1
    assert 20 <= len(target.lines) <= 26


async def turn(true: object, clock: ManualClock, seconds: float) -> None:
    assert callable(true)
    for _ in range(400):
        if true():
            return
        await asyncio.sleep(0.005)
        await clock.advance(seconds / 20)
    pytest.fail("it did not become true")


def test_a_hub_that_was_restarted_replays_the_overlap_again() -> None:
    log, target = MemoryLog(), ScriptedTarget()
    log.add(readings(5))
    drain(mirror(log, target))
    log.add(readings(5, "m2"))
    drain(mirror(log, target))
    assert len(target.lines) == 15
    assert len(set(target.lines)) == 10


def test_a_rebuild_replays_what_was_measured_since_and_then_goes_on() -> None:
    log, target = MemoryLog(), ScriptedTarget()
    log.add(readings(10))
    log.add(readings(10, start=START + timedelta(hours=1)))
    one = mirror(log, target, replay_rows=20)
    drain(one)
    target.lines.clear()
    one.rebuild(START + timedelta(hours=1, seconds=5))
    log.add(readings(3, "late", start=START - timedelta(days=1)))
    drain(one)
    assert sum(b"device=bat1" in line for line in target.lines) == 5
    assert sum(b"device=late" in line for line in target.lines) == 3
    assert one.state is not None
    assert one.state.rebuild is None


async def test_a_target_that_hangs_takes_no_thread_of_the_event_loop_and_a_stop_waits_only_for_its_request() -> None:
    entered, gate = threading.Event(), threading.Event()

    class HangingTarget(ScriptedTarget):
        def write(self, body: bytes) -> None:
            entered.set()
            assert gate.wait(60)
            super().write(body)

    log, target = MemoryLog(), HangingTarget()
    log.add(readings(25))
    task = asyncio.create_task(mirror(log, target, batch_lines=10).run())
    assert await asyncio.to_thread(entered.wait, 10)
    assert await asyncio.gather(*(asyncio.to_thread(int, "7") for _ in range(40))) == [7] * 40
    task.cancel()
    await asyncio.sleep(0.05)
    assert not task.done()
    gate.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(target.lines) == 10
