"""The executor: when it writes, what it makes of failures, and how it sees an effect."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from types import MappingProxyType

import pytest

from tieline_core.clock import ManualClock
from tieline_core.ids import DeviceId
from tieline_core.messages.command import CommandState
from tieline_edge.control.arbiter import Decision
from tieline_edge.control.claims import Band, Claim
from tieline_edge.control.executor import Executor, Outcome, Timing
from tieline_edge.control.facts import DeviceFacts, SiteFacts
from tieline_edge.drivers.capabilities import (
    Action,
    DevicePermanentError,
    DeviceSpec,
    DeviceTransientError,
    HoldPower,
    LimitGeneration,
    ReadBack,
    Release,
    Role,
    SwitchContact,
)

NOW = datetime(2016, 12, 7, 16, tzinfo=UTC)
BAT, LOAD, PV = DeviceId("bat1"), DeviceId("load01"), DeviceId("pv1")
SPECS = {
    BAT: DeviceSpec(BAT, Role.STORAGE, frozenset(), p_min_w=-60e3, p_max_w=60e3, reverts=True),
    LOAD: DeviceSpec(LOAD, Role.LOAD, frozenset(), priority_class=3, off_timer=True),
    PV: DeviceSpec(PV, Role.PV, frozenset(), p_min_w=-50e3, reverts=True),
}


class Handle:
    """A device that records what it was told and fails on demand."""

    def __init__(self, device: DeviceId) -> None:
        self.spec = SPECS[device]
        self.told: list[Action] = []
        self.error: Exception | None = None
        self.confirmed = True
        self.timer: tuple[float | None, bool] = (None, False)
        self.gate: asyncio.Event | None = None

    async def apply(self, action: Action) -> ReadBack:
        if self.gate is not None:
            await self.gate.wait()
        if self.error is not None:
            raise self.error
        self.told.append(action)
        return ReadBack(self.confirmed, "registers", *self.timer)


class Bench:
    """An executor with a clock, three devices and an ear."""

    def __init__(self) -> None:
        self.clock = ManualClock(NOW)
        self.handles = {device: Handle(device) for device in SPECS}
        self.heard: list[Outcome] = []
        self.executor = Executor(self.handles, self.clock, Timing(60.0, 10.0, 1.0), self.hear)

    async def hear(self, outcome: Outcome) -> None:
        self.heard.append(outcome)

    async def cycle(
        self,
        device: DeviceId,
        action: Action | None,
        band: Band = Band.PLAN,
        *,
        after_s: float = 1.0,
        source: str = "plan",
        p_w: float | None = None,
        closed: bool | None = None,
    ) -> None:
        await self.clock.advance(after_s)
        claim = Claim(device, band, source, "r", setpoint_w=0.0, expires_at=self.clock.now())
        facts = SiteFacts({device: DeviceFacts(p_w, None, closed, MappingProxyType({"p_w": 0.1, "closed": 0.1}))})
        await self.executor.carry_out({device: Decision(device, action, claim)}, facts)
        await self.clock.settle()

    def states(self) -> list[CommandState]:
        return [outcome.state for outcome in self.heard]


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    made = Bench()
    async with made.executor:
        yield made


async def test_a_change_is_written_once_and_again_only_for_the_device_timer(bench: Bench) -> None:
    for _ in range(59):
        await bench.cycle(BAT, HoldPower(5e3, 180.0), p_w=5e3)
    assert bench.handles[BAT].told == [HoldPower(5e3, 180.0)]
    await bench.cycle(BAT, HoldPower(5e3, 180.0), after_s=3.0)
    assert len(bench.handles[BAT].told) == 2
    assert bench.heard[-1].refresh
    assert bench.heard[-1].state is CommandState.EFFECTIVE


@pytest.mark.parametrize(
    ("timer", "again_after_s"),
    [((None, False), 60), ((180.0, False), 60), ((45.0, False), 30), ((20.0, True), 21)],
)
async def test_a_device_whose_own_timer_is_shorter_is_refreshed_while_a_third_is_left_or_once_it_has_run_out(
    bench: Bench, timer: tuple[float | None, bool], again_after_s: int
) -> None:
    bench.handles[BAT].timer = timer
    await bench.cycle(BAT, HoldPower(5e3, 180.0), p_w=5e3)
    for _ in range(again_after_s - 1):
        await bench.cycle(BAT, HoldPower(5e3, 180.0), p_w=5e3)
    assert len(bench.handles[BAT].told) == 1
    await bench.cycle(BAT, HoldPower(5e3, 180.0), p_w=5e3)
    assert len(bench.handles[BAT].told) == 2


async def test_changes_inside_the_deadband_are_not_written_but_zero_is_exact(bench: Bench) -> None:
    for power in (5000.0, 5030.0, 4950.0, 10.0, 0.0):
        await bench.cycle(BAT, HoldPower(power, 180.0))
    # The deadband is a thousandth of 60 kW; 4950 W is 50 W away from what was written, 10 W far, and 0 W is exact.
    assert bench.handles[BAT].told == [HoldPower(power, 180.0) for power in (5000.0, 10.0, 0.0)]


async def test_a_write_becomes_confirmed_and_then_effective_when_the_power_has_moved(bench: Bench) -> None:
    await bench.cycle(BAT, HoldPower(-50e3, 180.0), p_w=0.0)
    assert bench.states() == [CommandState.CONFIRMED]
    await bench.cycle(BAT, HoldPower(-50e3, 180.0), p_w=-20e3)
    assert bench.states() == [CommandState.CONFIRMED]
    await bench.cycle(BAT, HoldPower(-50e3, 180.0), p_w=-36e3)
    assert bench.states() == [CommandState.CONFIRMED, CommandState.EFFECTIVE]
    assert bench.executor.states == {BAT: CommandState.EFFECTIVE}


async def test_no_effect_within_the_window_is_unconfirmed_and_tried_again(bench: Bench) -> None:
    for _ in range(14):
        await bench.cycle(BAT, HoldPower(-50e3, 180.0), p_w=0.0)
    assert bench.states()[:2] == [CommandState.CONFIRMED, CommandState.UNCONFIRMED]
    assert "no effect within 10 s" in bench.heard[1].text
    assert len(bench.handles[BAT].told) == 2


async def test_a_read_back_that_differs_is_unconfirmed(bench: Bench) -> None:
    bench.handles[BAT].confirmed = False
    await bench.cycle(BAT, HoldPower(5e3, 180.0))
    assert bench.states() == [CommandState.UNCONFIRMED]
    bench.handles[BAT].confirmed = True
    await bench.cycle(BAT, HoldPower(5e3, 180.0))
    assert bench.states() == [CommandState.UNCONFIRMED, CommandState.CONFIRMED]


async def test_a_dead_device_is_told_of_once_and_tried_with_growing_pauses(bench: Bench) -> None:
    bench.handles[BAT].error = DeviceTransientError("time-out")
    tries = 0
    for _ in range(30):
        before = bench.executor._lines[BAT].failures
        await bench.cycle(BAT, HoldPower(5e3, 180.0))
        tries += bench.executor._lines[BAT].failures - before
    assert tries == 5  # at 1, 2, 4, 8 and 16 s
    assert bench.states() == [CommandState.FAILED]
    assert "no answer" in bench.heard[0].text
    bench.handles[BAT].error = None
    await bench.cycle(BAT, HoldPower(5e3, 180.0), after_s=60.0)
    assert bench.states()[-1] is CommandState.CONFIRMED


async def test_what_safety_wants_is_tried_at_least_every_five_seconds(bench: Bench) -> None:
    bench.handles[LOAD].error = DeviceTransientError("time-out")
    for _ in range(30):
        await bench.cycle(LOAD, SwitchContact(closed=False, off_timer_s=9.0), Band.SAFETY)
    assert bench.executor._lines[LOAD].failures >= 7


async def test_a_new_wish_of_safety_does_not_wait_for_an_older_back_off(bench: Bench) -> None:
    bench.handles[LOAD].error = DeviceTransientError("time-out")
    for _ in range(12):
        await bench.cycle(LOAD, SwitchContact(closed=True), Band.OPERATOR, source="command 1")
    bench.handles[LOAD].error = None
    await bench.cycle(LOAD, SwitchContact(closed=False), Band.SAFETY, source="thermal-overload")
    assert bench.handles[LOAD].told == [SwitchContact(closed=False)]


@pytest.mark.parametrize(
    ("error", "word"), [(DevicePermanentError("illegal value"), "refused"), (KeyError("bug"), "driver defect")]
)
async def test_a_refusal_or_a_defect_fails_that_device_only(bench: Bench, error: Exception, word: str) -> None:
    bench.handles[BAT].error = error
    await bench.cycle(BAT, HoldPower(5e3, 180.0))
    await bench.cycle(LOAD, SwitchContact(closed=False))
    assert bench.states() == [CommandState.FAILED, CommandState.CONFIRMED]
    assert word in bench.heard[0].text
    assert bench.executor.states[BAT] is CommandState.FAILED


async def test_a_slow_device_has_one_write_under_way_and_delays_nobody(bench: Bench) -> None:
    gate = bench.handles[BAT].gate = asyncio.Event()
    await bench.cycle(BAT, HoldPower(5e3, 180.0))
    await bench.cycle(BAT, HoldPower(9e3, 180.0))
    assert bench.executor.busy
    await bench.cycle(LOAD, SwitchContact(closed=False))
    assert bench.handles[LOAD].told
    gate.set()
    await bench.clock.settle()
    await bench.cycle(BAT, HoldPower(9e3, 180.0))
    assert bench.handles[BAT].told == [HoldPower(5e3, 180.0), HoldPower(9e3, 180.0)]
    assert not bench.executor.busy


async def test_a_contact_is_effective_when_its_feedback_and_its_power_say_so(bench: Bench) -> None:
    opening = SwitchContact(closed=False, off_timer_s=900.0)
    await bench.cycle(LOAD, opening, Band.SAFETY, p_w=9e3, closed=True)
    await bench.cycle(LOAD, opening, Band.SAFETY, p_w=9e3, closed=False)
    assert bench.states() == [CommandState.CONFIRMED]
    await bench.cycle(LOAD, opening, Band.SAFETY, p_w=0.0, closed=False)
    assert bench.states() == [CommandState.CONFIRMED, CommandState.EFFECTIVE]


async def test_a_contact_that_recloses_by_itself_is_seen_and_written_again(bench: Bench) -> None:
    opening = SwitchContact(closed=False, off_timer_s=900.0)
    await bench.cycle(LOAD, opening, Band.SAFETY, p_w=9e3, closed=True)
    await bench.cycle(LOAD, opening, Band.SAFETY, p_w=0.0, closed=False)
    await bench.cycle(LOAD, opening, Band.SAFETY, p_w=9e3, closed=True, after_s=20.0)
    assert bench.states()[-1] is CommandState.UNCONFIRMED
    await bench.cycle(LOAD, opening, Band.SAFETY, p_w=9e3, closed=True, after_s=2.0)
    assert len(bench.handles[LOAD].told) == 2


async def test_an_off_timer_is_refreshed_and_a_closing_is_not(bench: Bench) -> None:
    opening = SwitchContact(closed=False, off_timer_s=900.0)
    await bench.cycle(LOAD, opening, p_w=0.0, closed=False)
    await bench.cycle(LOAD, opening, p_w=0.0, closed=False)
    await bench.cycle(LOAD, opening, p_w=0.0, closed=False, after_s=61.0)
    assert len(bench.handles[LOAD].told) == 2
    closing = SwitchContact(closed=True)
    for _ in range(3):
        await bench.cycle(LOAD, closing, closed=True, after_s=50.0)
    assert bench.handles[LOAD].told.count(closing) == 1


async def test_limits_of_generation_are_written_on_change_and_seen_in_the_power(bench: Bench) -> None:
    for limit in (None, -9e3, -9010.0, None):
        await bench.cycle(PV, LimitGeneration(limit, 180.0), p_w=-9e3)
    # "No limit" is what a plant does by itself: it is written only to take a limit back.
    told = [action.min_power_w for action in bench.handles[PV].told if isinstance(action, LimitGeneration)]
    assert told == [-9e3, None]
    assert CommandState.EFFECTIVE in bench.states()


async def test_nothing_is_written_where_nothing_is_wanted(bench: Bench) -> None:
    await bench.cycle(BAT, None)
    await bench.cycle(BAT, Release())
    await bench.executor.carry_out({DeviceId("fm1"): Decision(DeviceId("fm1"), None)}, SiteFacts({}))
    assert bench.handles[BAT].told == []
    assert bench.heard == []


async def test_at_the_end_storages_and_plants_are_released_and_shed_loads_stay(bench: Bench) -> None:
    await bench.cycle(BAT, HoldPower(5e3, 180.0))
    await bench.cycle(LOAD, SwitchContact(closed=False))
    await bench.cycle(PV, LimitGeneration(-5e3, 180.0))
    bench.handles[PV].error = DeviceTransientError("gone")
    await bench.executor.release_all()
    assert bench.handles[BAT].told[-1] == Release()
    assert bench.handles[LOAD].told == [SwitchContact(closed=False)]
    assert bench.handles[PV].told == [LimitGeneration(-5e3, 180.0)]


async def test_leaving_while_cancelled_cancels_the_write_under_way() -> None:
    made = Bench()
    made.handles[BAT].gate = asyncio.Event()

    async def run() -> None:
        async with made.executor:
            await made.cycle(BAT, HoldPower(5e3, 180.0))
            await asyncio.Event().wait()

    task = asyncio.create_task(run())
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert made.handles[BAT].told == []
    assert not made.executor.busy


def test_a_fast_clock_widens_window_and_back_off() -> None:
    timing = Timing(60.0, 10.0, 1.0, 2.0)
    assert timing.effect_at(1.0) == 10.0
    assert timing.effect_at(90.0) == 180.0
    assert timing.backoff_at(3, 60.0, 1.0) == 4.0
    assert timing.backoff_at(1, 60.0, 90.0) == 22.5


async def test_a_tag_ends_refreshes_and_judgements_and_everything_is_written_anew_afterwards(bench: Bench) -> None:
    held = HoldPower(5e3, 180.0)
    await bench.cycle(BAT, held, p_w=5e3)
    tag = Decision(BAT, None, Claim(BAT, Band.INTERLOCK, "tag", "work", hands_off=True))
    for _ in range(70):
        await bench.clock.advance(1.0)
        await bench.executor.carry_out({BAT: tag}, SiteFacts({BAT: DeviceFacts(p_w=0.0)}))
    await bench.executor.release_all()
    assert bench.handles[BAT].told == [held]
    assert bench.states()[-1] in (CommandState.CONFIRMED, CommandState.EFFECTIVE)
    await bench.cycle(BAT, held, p_w=0.0)
    assert bench.handles[BAT].told == [held, held]


async def test_a_device_not_heard_since_the_start_is_not_written_to_and_by_safety_only_after_a_while() -> None:
    bench = Bench()
    facts = SiteFacts({})
    claim = Claim(LOAD, Band.SAFETY, "thermal", "r", closed=False, expires_at=NOW)
    plan = Claim(BAT, Band.PLAN, "plan", "r", setpoint_w=5e3, expires_at=NOW)
    decisions = {
        LOAD: Decision(LOAD, SwitchContact(closed=False), claim),
        BAT: Decision(BAT, HoldPower(5e3, 180.0), plan),
    }
    async with bench.executor:
        for second in range(12):
            await bench.executor.carry_out(decisions, facts)
            await bench.clock.settle()
            assert bool(bench.handles[LOAD].told) == (second >= 10)
            await bench.clock.advance(1.0)
    assert bench.handles[BAT].told == []


async def test_a_value_of_before_the_start_is_no_reading(bench: Bench) -> None:
    old = SiteFacts({BAT: DeviceFacts(5e3, ages_s=MappingProxyType({"p_w": 30.0}))})
    claim = Claim(BAT, Band.PLAN, "plan", "r", setpoint_w=5e3, expires_at=NOW)
    await bench.executor.carry_out({BAT: Decision(BAT, HoldPower(5e3, 180.0), claim)}, old)
    await bench.clock.settle()
    assert bench.handles[BAT].told == []


async def test_a_contactor_that_stands_where_it_should_is_found_not_written(bench: Bench) -> None:
    await bench.cycle(LOAD, SwitchContact(closed=False), Band.OPERATOR, source="command c1", closed=False)
    assert bench.handles[LOAD].told == []
    assert [(one.state, one.source) for one in bench.heard] == [(CommandState.EFFECTIVE, "command c1")]
    assert "found in place" in bench.heard[0].text
    await bench.cycle(LOAD, SwitchContact(closed=True), Band.DEFAULT, closed=False)
    assert bench.handles[LOAD].told == [SwitchContact(closed=True)]


async def test_an_opening_with_a_device_timer_is_written_again_whatever_is_found(bench: Bench) -> None:
    await bench.cycle(LOAD, SwitchContact(closed=False, off_timer_s=600.0), Band.SAFETY, closed=False)
    assert bench.handles[LOAD].told == [SwitchContact(closed=False, off_timer_s=600.0)]


async def test_a_slow_device_has_its_own_window_and_is_told_once() -> None:
    slow = replace(SPECS[BAT], effect_s=90.0)
    bench = Bench()
    bench.handles[BAT].spec = slow
    async with bench.executor:
        for second in range(60):
            await bench.cycle(BAT, HoldPower(-50e3, 180.0), p_w=-50e3 * second / 60.0)
    assert len(bench.handles[BAT].told) == 1
    assert bench.states() == [CommandState.CONFIRMED, CommandState.EFFECTIVE]


async def test_a_device_that_acts_late_after_a_retry_acts_once(bench: Bench) -> None:
    for second in range(80):
        await bench.cycle(BAT, HoldPower(-50e3, 180.0), p_w=0.0 if second < 40 else -50e3)
    assert set(bench.handles[BAT].told) == {HoldPower(-50e3, 180.0)}, "every try asks for the same absolute power"
    assert bench.states()[-1] is CommandState.EFFECTIVE
    assert len(bench.handles[BAT].told) <= 6


async def test_no_setting_of_the_clock_cuts_a_pause_or_a_refresh(bench: Bench) -> None:
    await bench.cycle(BAT, HoldPower(5e3, 180.0), p_w=5e3)
    for step_s in (7200.0, -7200.0):
        bench.clock.step(step_s)
        for _ in range(29):
            await bench.cycle(BAT, HoldPower(5e3, 180.0), p_w=5e3)
    assert len(bench.handles[BAT].told) == 1
    for _ in range(5):
        await bench.cycle(BAT, HoldPower(5e3, 180.0), p_w=5e3)
    assert len(bench.handles[BAT].told) == 2, "the device timer was refreshed when a minute had passed, not two hours later"


async def test_another_set_of_devices_keeps_what_is_known_of_those_that_stay(bench: Bench) -> None:
    await bench.cycle(BAT, HoldPower(5e3, 180.0), p_w=5e3)
    await bench.cycle(LOAD, SwitchContact(closed=False), Band.SAFETY, closed=True)
    bench.executor.take_handles({BAT: bench.handles[BAT], PV: bench.handles[PV]})
    await bench.cycle(BAT, HoldPower(5e3, 180.0), p_w=5e3)
    await bench.cycle(LOAD, SwitchContact(closed=True), Band.SAFETY, closed=False)
    assert len(bench.handles[BAT].told) == 1
    assert len(bench.handles[LOAD].told) == 1, "it is gone"
    assert set(bench.executor.states) == {BAT}


async def test_i6_a_device_without_a_timer_is_let_go_once_after_a_start(bench: Bench) -> None:
    """I6: a run that was killed cannot release; without a device timer the next run does it."""
    bench.handles[PV].spec = replace(SPECS[PV], reverts=False)
    for _ in range(3):
        await bench.cycle(PV, LimitGeneration(None, 180.0), p_w=-5e3)
        await bench.cycle(BAT, Release(), p_w=-5e3)
    assert bench.handles[PV].told == [LimitGeneration(None, 180.0)]
    assert bench.handles[BAT].told == []
