"""A device that did not hear is ramped from what it really holds."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import MappingProxyType

import pytest

from tieline_core.ids import DeviceId
from tieline_edge.control.effect import Written
from tieline_edge.control.facts import DeviceFacts, SiteFacts
from tieline_edge.control.memory import ArbiterMemory, ContactMemory, PowerMemory
from tieline_edge.control.unheard import Unheard, as_held, as_switched
from tieline_edge.drivers.capabilities import HoldPower, LimitGeneration, Release, SwitchContact

BAT = DeviceId("bat1")
START = datetime(2016, 12, 7, 17, 30, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


NOTHING = SiteFacts({})


def held(decided: PowerMemory, unheard: Unheard, now_s: float, facts: SiteFacts = NOTHING) -> PowerMemory:
    return as_held(ArbiterMemory({BAT: decided}, {}, ()), {BAT: unheard}, at(now_s), facts).power[BAT]


DECIDED = PowerMemory(-40_000.0, at(99), sign=-1)


def test_until_its_timer_ends_it_keeps_its_last_order() -> None:
    memory = held(DECIDED, Unheard(Written(HoldPower(-10_000.0, 180.0), at(0), None), reverts=True), 100)
    assert (memory.power_w, memory.at, memory.zero_since, memory.sign) == (-10_000.0, at(100), None, -1)


def test_then_it_is_at_rest_since_its_timer_ended() -> None:
    memory = held(DECIDED, Unheard(Written(HoldPower(-10_000.0, 180.0), at(0), None), reverts=True), 200)
    assert (memory.power_w, memory.at, memory.zero_since, memory.sign) == (0.0, at(200), at(180), -1)
    again = held(memory, Unheard(Written(HoldPower(-10_000.0, 180.0), at(0), None), reverts=True), 201)
    assert again.zero_since == at(180)


def test_a_device_without_a_timer_never_ends_an_order() -> None:
    memory = held(DECIDED, Unheard(Written(HoldPower(-10_000.0, 180.0), at(0), None), reverts=False), 10_000)
    assert memory.power_w == -10_000.0


def test_a_device_that_was_told_to_rest_still_rests() -> None:
    memory = held(DECIDED, Unheard(Written(HoldPower(0.0, 180.0), at(0), None), reverts=True), 100)
    assert (memory.power_w, memory.zero_since, memory.sign) == (0.0, at(0), -1)


def test_a_storage_that_was_released_rests_until_it_hears_the_next_order() -> None:
    """It came back to a plan that had meanwhile been ramped to -50 kW in mind, and was sent there in one step."""
    memory = held(DECIDED, Unheard(Written(Release(), at(0), None), reverts=True, missed_at=at(98)), 100)
    assert (memory.power_w, memory.at, memory.zero_since, memory.sign) == (0.0, at(100), at(0), -1)
    rested = PowerMemory(0.0, at(99), zero_since=at(-60), sign=-1)
    assert held(rested, Unheard(Written(Release(), at(0), None), reverts=True), 100).zero_since == at(-60)


@pytest.mark.parametrize(("now_s", "limit_w"), [(100, -5000.0), (200, None)])
def test_a_plant_keeps_its_limit_until_its_timer_ends_it(now_s: float, limit_w: float | None) -> None:
    unheard = Unheard(Written(LimitGeneration(-5000.0, 180.0), at(0), None), reverts=True)
    assert held(PowerMemory(-1000.0, at(99)), unheard, now_s).power_w == limit_w


@pytest.mark.parametrize(
    ("shown_w", "age_s", "power_w"),
    [(-9_000.0, 1.0, -10_000.0), (-9_000.0, 60.0, 0.0), (-500.0, 1.0, 0.0), (9_000.0, 1.0, 0.0), (None, 0.0, 0.0)],
)
def test_a_storage_that_is_seen_to_go_on_has_heard_a_later_order(shown_w: float | None, age_s: float, power_w: float) -> None:
    """Its answers got lost, it was believed at rest, and its sign changed without a pause."""
    facts = SiteFacts({BAT: DeviceFacts(p_w=shown_w, ages_s=MappingProxyType({"p_w": age_s}))})
    unheard = Unheard(Written(HoldPower(-10_000.0, 180.0), at(0), None), reverts=True)
    memory = held(DECIDED, unheard, 200, facts)
    assert (memory.power_w, memory.zero_since is None) == (power_w, power_w != 0.0)


def test_a_limit_counts_until_the_last_order_that_may_have_arrived_must_have_ended() -> None:
    """A slow plant did not answer in time, had heard, and its limit was lifted in one step when its timer was thought over."""
    first = Written(LimitGeneration(0.0, 180.0), at(0), None)
    unheard = Unheard(first, reverts=True, missed_at=at(140), plant=True, tried_at=at(140))
    assert held(PowerMemory(0.0, at(199)), unheard, 200).power_w == 0.0
    assert held(PowerMemory(0.0, at(319)), unheard, 320).power_w is None


def test_a_plant_that_has_not_heard_since_the_start_opens_from_the_limit_of_the_run_before() -> None:
    """Its first order after a start got no answer, and the second one opened the limit at once."""
    unheard = Unheard(None, reverts=True, missed_at=at(99), plant=True)
    memory = held(PowerMemory(-3e3, at(99), left_w=0.0), unheard, 100)
    assert (memory.power_w, memory.at) == (0.0, None)
    assert held(PowerMemory(-3e3, at(99)), unheard, 100).power_w is None, "nobody limits a plant that was free"


def test_other_devices_are_left_alone() -> None:
    memory = ArbiterMemory({BAT: DECIDED}, {}, ())
    contact = Unheard(Written(SwitchContact(closed=False), at(0), None), reverts=True)
    assert as_held(memory, {}, at(1), NOTHING) is memory
    assert as_held(memory, {DeviceId("load01"): contact}, at(1), NOTHING) is memory
    assert as_held(memory, {BAT: contact}, at(1), NOTHING).power[BAT] == DECIDED


LOAD = DeviceId("load01")


@pytest.mark.parametrize(
    ("contact", "since_s"),
    [
        (ContactMemory(False, at(0), settled=False, ours=True), 50),
        (ContactMemory(False, at(0), settled=True, ours=True), 0),
        (ContactMemory(True, at(0), settled=False), 0),
    ],
)
def test_minimum_times_run_from_when_the_contactor_took_the_order(contact: ContactMemory, since_s: float) -> None:
    memory = as_switched(ArbiterMemory({}, {LOAD: contact}, ()), LOAD, False, at(50))
    assert memory.contacts[LOAD].switched_at == at(since_s)
    assert as_switched(memory, BAT, False, at(60)) is memory


@pytest.mark.parametrize(("settled", "missed_at"), [(False, at(40)), (True, None)])
def test_what_a_contactor_has_missed_is_remembered_until_the_field_shows_its_position(
    settled: bool, missed_at: datetime | None
) -> None:
    memory = ArbiterMemory({}, {LOAD: ContactMemory(False, at(0), settled=settled, ours=True)}, ())
    missed = as_held(memory, {LOAD: Unheard(None, reverts=False, missed_at=at(40))}, at(41), NOTHING)
    assert missed.contacts[LOAD].unheard_at == missed_at
    assert as_held(missed, {}, at(42), NOTHING).contacts[LOAD].unheard_at is None


def test_what_nothing_has_reached_since_the_start_is_ramped_from_where_it_shows_itself() -> None:
    memory = held(PowerMemory(15_000.0, at(99), zero_since=at(98), sign=-1, at_end=1), Unheard(None, reverts=True), 100)
    assert memory == PowerMemory(sign=-1, at_end=1)
