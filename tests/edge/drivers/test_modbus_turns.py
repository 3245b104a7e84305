"""Who may use a bus next, and how long a silent unit is left alone."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tieline_edge.drivers.modbus.breaker import Breaker
from tieline_edge.drivers.modbus.turns import Turns, Urgency
from tieline_edge.sampling import Backoff


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_write_goes_next_whoever_waits_and_equals_keep_their_order() -> None:
    turns, order = Turns(), []

    async def use(name: str, urgency: Urgency) -> None:
        async with turns.turn(urgency):
            order.append(name)

    async with asyncio.TaskGroup() as group, turns.turn(Urgency.READ):
        for name in ("r1", "r2", "r3"):
            group.create_task(use(name, Urgency.READ))
        await settle()
        for name in ("w1", "w2"):
            group.create_task(use(name, Urgency.WRITE))
        await settle()
        assert turns.waiting == 5
        assert order == []
    assert order == ["w1", "w2", "r1", "r2", "r3"]
    assert turns.waiting == 0


async def test_nobody_overtakes_the_one_whose_turn_it_is() -> None:
    turns, order = Turns(), []

    async def use(name: str) -> None:
        async with turns.turn(Urgency.READ):
            order.append(name)

    async with asyncio.TaskGroup() as group:
        async with turns.turn(Urgency.READ):
            group.create_task(use("first"))
            await settle()
        # Freed and handed over in one step: a newcomer of the same moment queues.
        await use("second")
    assert order == ["first", "second"]


@given(st.lists(st.tuples(st.sampled_from(list(Urgency)), st.booleans()), min_size=1, max_size=12))
def test_whoever_is_cancelled_while_waiting_or_as_the_turn_comes_stops_nobody(waiters: list[tuple[Urgency, bool]]) -> None:
    async def scene() -> None:
        turns, served = Turns(), []

        async def use(number: int, urgency: Urgency) -> None:
            async with turns.turn(urgency):
                served.append(number)
                await asyncio.sleep(0)

        async with turns.turn(Urgency.READ):
            tasks = [asyncio.create_task(use(number, urgency)) for number, (urgency, _) in enumerate(waiters)]
            await settle()
        # The first has just been given its turn and has not run yet: cancelling it now must pass the turn on.
        for task, (_, cancelled) in zip(tasks, waiters, strict=True):
            if cancelled:
                task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        expected = [number for number, (_, cancelled) in enumerate(waiters) if not cancelled]
        assert sorted(served) == expected
        async with asyncio.timeout(1), turns.turn(Urgency.READ):
            assert turns.waiting == 0

    asyncio.run(scene())


def test_a_silent_unit_is_left_alone_for_longer_and_longer_until_it_answers() -> None:
    breaker, now, waits = Breaker(first_s=1.0, most_s=5.0), 100.0, []
    assert breaker.wait_s(now) == 0
    for _ in range(5):
        breaker.silent(now)
        waits.append(breaker.wait_s(now))
        now += waits[-1]
        assert breaker.wait_s(now) == 0, "one attempt goes through after the pause"
    assert waits == [1.0, 2.0, 4.0, 5.0, 5.0]
    breaker.answered()
    breaker.silent(now)
    assert breaker.wait_s(now) == 1.0


@pytest.mark.parametrize("failures", range(8))
def test_a_lone_pollers_next_attempt_always_goes_through(failures: int) -> None:
    class Shortest:
        def uniform(self, low: float, high: float) -> float:
            return low

    breaker = Breaker()
    for _ in range(failures + 1):
        breaker.silent(0.0)
    assert breaker.wait_s(Backoff().pause_s(failures, Shortest())) == 0  # type: ignore[arg-type]  # only uniform is asked
