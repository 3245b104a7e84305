"""What the executor knows of orders that devices have missed, or may have heard without an answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from tests.edge.control.test_executor import LOAD, NOW, PV, Bench
from tieline_core.messages.command import CommandState
from tieline_edge.drivers.capabilities import (
    DeviceOfflineError,
    DevicePermanentError,
    DeviceTransientError,
    LimitGeneration,
    SwitchContact,
)


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    made = Bench()
    async with made.executor:
        yield made


async def test_a_refused_opening_is_known_as_missed_until_it_is_taken_and_not_while_it_is_on_its_way(bench: Bench) -> None:
    load = bench.handles[LOAD]
    load.error = DevicePermanentError("illegal value")
    await bench.cycle(LOAD, SwitchContact(closed=False), closed=True)
    missed = bench.executor.unheard()[LOAD]
    assert (missed.written, missed.missed_at) == (None, NOW + timedelta(seconds=1))
    load.error, load.gate = None, asyncio.Event()
    await bench.cycle(LOAD, SwitchContact(closed=False), after_s=2.0, closed=True)
    assert bench.executor.unheard()[LOAD].missed_at is None
    load.gate.set()
    await bench.clock.settle()
    assert LOAD not in bench.executor.unheard()


async def test_an_opening_without_effect_is_known_as_missed(bench: Bench) -> None:
    for after_s in (1.0, 5.0, 6.0):
        await bench.cycle(LOAD, SwitchContact(closed=False), after_s=after_s, p_w=5e3, closed=True)
    assert bench.states()[-1] is CommandState.UNCONFIRMED
    assert bench.executor.unheard()[LOAD].missed_at == NOW + timedelta(seconds=12)


@pytest.mark.parametrize(
    ("error", "tried_s"), [(DeviceTransientError("time-out"), 2), (DeviceOfflineError("offline; nothing was written"), None)]
)
async def test_an_order_without_an_answer_may_have_arrived_unless_nothing_was_written(
    bench: Bench, error: Exception, tried_s: float | None
) -> None:
    await bench.cycle(PV, LimitGeneration(-9e3, 180.0))
    bench.handles[PV].error = error
    await bench.cycle(PV, LimitGeneration(-4e3, 180.0))
    missed = bench.executor.unheard()[PV]
    assert missed.tried_at == (None if tried_s is None else NOW + timedelta(seconds=tried_s))
    assert missed.plant


async def test_what_read_back_otherwise_is_where_the_ramp_waits_until_it_is_tried_again(bench: Bench) -> None:
    """The ramp went on meanwhile, and the next try opened the limit of a plant in one step."""
    plant = bench.handles[PV]
    plant.confirmed = False
    await bench.cycle(PV, LimitGeneration(-9e3, 180.0))
    held = bench.executor.unheard()[PV]
    assert held.written is not None
    assert held.written.action == LimitGeneration(-9e3, 180.0)
    plant.confirmed = True
    await bench.cycle(PV, LimitGeneration(-9e3, 180.0), after_s=2.0)
    assert PV not in bench.executor.unheard()
