"""Gates of contactors: minimum times, dead busbar, hands on the switch."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import MappingProxyType

import pytest

from tieline_core.ids import DeviceId
from tieline_edge.control.claims import Band
from tieline_edge.control.contacts import Request, Result, switch
from tieline_edge.control.facts import DeviceFacts
from tieline_edge.control.memory import ArbiterMemory, ContactMemory, after_restart
from tieline_edge.drivers.capabilities import DeviceSpec, Role, SwitchContact

NOW = datetime(2016, 12, 7, 16, tzinfo=UTC)
OPEN, CLOSE = SwitchContact(closed=False, off_timer_s=900.0), SwitchContact(closed=True)


class Contactor:
    """Drives the gate through time, second by second, with a field that may or may not follow."""

    def __init__(self, *, closed: bool | None = True, **spec: float) -> None:
        self.spec = DeviceSpec(DeviceId("load01"), Role.LOAD, frozenset(), priority_class=3, off_timer=True, **spec)  # type: ignore[arg-type]  # keyword times of a test
        self.memory = ContactMemory()
        self.field = closed
        self.bus: bool | None = True
        self.at = NOW

    def ask(
        self,
        wish: bool | None,
        band: Band = Band.SAFETY,
        *,
        after_s: float = 1.0,
        follows: bool = True,
        keeps: bool = False,
        timer_s: float = 900.0,
    ) -> Result:
        self.at += timedelta(seconds=after_s)
        known = DeviceFacts(closed=self.field, ages_s=MappingProxyType({"closed": 0.25}))
        result = switch(Request(self.spec, self.memory, known, self.bus, self.at), wish, band, timer_s, keeps=keeps)
        self.memory = result.memory
        if follows and result.action is not None:
            self.field = result.action.closed
        return result


def test_safety_opens_at_once_and_keeps_it_open_with_the_timer() -> None:
    load = Contactor()
    assert load.ask(False).action == OPEN
    assert load.ask(False).action == OPEN
    assert load.memory.settled


def test_default_closes_what_was_opened_here_and_then_is_quiet() -> None:
    load = Contactor()
    load.ask(False)
    load.ask(False)
    assert load.ask(True, Band.DEFAULT).action == CLOSE
    assert load.ask(True, Band.DEFAULT).action is None


def test_a_closing_the_field_has_not_shown_is_asked_for_again() -> None:
    load = Contactor()
    load.ask(False)
    load.ask(False)
    load.ask(True, Band.DEFAULT, follows=False)
    assert load.ask(True, Band.DEFAULT).action == CLOSE


def test_who_only_keeps_open_takes_no_closing_back_and_repeats_none() -> None:
    """A load that had just been told to close was opened again in an overload, in place of less important ones."""
    load = Contactor()
    load.ask(False)
    assert load.ask(False, keeps=True).action == OPEN, "what is open stays open"
    load.ask(True, Band.DEFAULT, follows=False)
    kept = load.ask(False, keeps=True)
    assert (kept.action, kept.memory.closed) == (None, True)
    assert "neither repeated nor taken back" in kept.notes[0]
    assert load.ask(True, Band.DEFAULT).action == CLOSE, "asked for again when nobody keeps it open"
    load.ask(None)
    assert load.ask(False, keeps=True).action is None, "what is closed is not opened"


def test_who_only_keeps_open_leaves_the_timer_of_the_opening() -> None:
    """Without it the load would stay off for as long as the edge that has died."""
    load = Contactor()
    load.ask(False)
    load.ask(False)
    assert load.ask(False, keeps=True, timer_s=0.0).action == OPEN
    assert load.ask(False, Band.OPERATOR, timer_s=0.0).action == SwitchContact(closed=False)


def restarted(load: Contactor) -> None:
    load.memory = after_restart(ArbiterMemory(contacts={load.spec.device_id: load.memory})).contacts[load.spec.device_id]


def test_a_closing_that_never_arrived_is_made_up_for_after_a_restart() -> None:
    """The mains went before it was seen, and the edge with them: nobody but the edge had opened it."""
    load = Contactor()
    load.ask(False)
    load.ask(False)
    load.ask(True, Band.DEFAULT, follows=False)
    load.ask(False, keeps=True)
    restarted(load)
    assert load.ask(False, keeps=True).action is None, "the closing may be on its way, and is not taken back"
    assert load.ask(True, Band.DEFAULT).action == CLOSE


def test_what_a_hand_opened_after_a_closing_was_seen_is_left_open_after_a_restart() -> None:
    load = Contactor()
    load.ask(False)
    load.ask(False)
    load.ask(True, Band.DEFAULT)
    load.ask(True, Band.DEFAULT)
    assert load.memory.closing is False, "stored at once, as every change of it"
    load.field = False
    restarted(load)
    assert load.ask(True, Band.DEFAULT).action is None


def test_what_a_hand_opened_is_left_open_by_default_and_by_safety() -> None:
    load = Contactor(closed=False)
    assert load.ask(True, Band.DEFAULT).action is None
    assert "not opened here" in load.ask(True, Band.DEFAULT).notes[0]
    assert load.ask(False).action is None
    assert load.ask(True, Band.OPERATOR).action == CLOSE


def test_a_hand_that_opens_later_counts_as_a_switching_by_somebody_else() -> None:
    load = Contactor(min_off_s=10)
    load.ask(True, Band.DEFAULT)
    load.field = False
    assert load.ask(True, Band.DEFAULT).action is None
    assert load.memory.ours is False
    assert "minimum off time" in load.ask(True, Band.OPERATOR).notes[0]
    assert load.ask(True, Band.OPERATOR, after_s=10).action == CLOSE


def test_a_shed_load_that_recloses_by_itself_is_opened_again() -> None:
    load = Contactor()
    load.ask(False)
    load.ask(False)
    load.field = True
    assert load.ask(False).action == OPEN
    assert load.memory.ours


@pytest.mark.parametrize("band", [Band.OPERATOR, Band.ENVELOPE, Band.PLAN])
def test_minimum_on_time_holds_for_everybody_below_safety(band: Band) -> None:
    load = Contactor(min_on_s=30)
    assert "stays closed" in load.ask(False, band).notes[0]
    assert load.ask(False, band, after_s=30).action == OPEN


@pytest.mark.parametrize("band", [Band.INTERLOCK, Band.SAFETY])
def test_safety_and_interlock_cut_minimum_on_time_and_say_so(band: Band) -> None:
    load = Contactor(min_on_s=30)
    result = load.ask(False, band)
    assert result.action == OPEN
    assert "minimum on time cut" in result.notes[0]


@pytest.mark.parametrize("band", list(Band))
def test_nothing_cuts_minimum_off_time(band: Band) -> None:
    load = Contactor(min_off_s=30)
    load.ask(False)
    load.ask(False)
    result = load.ask(True, band, after_s=10)
    assert result.action == OPEN
    assert "stays open" in result.notes[0]
    assert load.ask(True, band, after_s=30).action == CLOSE


@pytest.mark.parametrize(("bus", "word"), [(False, "dead"), (None, "unknown")])
def test_nothing_closes_onto_a_dead_or_unknown_busbar(bus: bool | None, word: str) -> None:
    load = Contactor()
    load.ask(False)
    load.ask(False)
    load.bus = bus
    result = load.ask(True, Band.OPERATOR)
    assert result.action == OPEN
    assert word in result.notes[0]
    load.bus = True
    assert load.ask(True, Band.OPERATOR).action == CLOSE


def test_an_unknown_position_counts_as_just_switched_but_safety_opens_all_the_same() -> None:
    load = Contactor(closed=None, min_off_s=30)
    assert "minimum off time" in load.ask(True, Band.OPERATOR).notes[0]
    load.field = True
    assert load.ask(False).action == OPEN
    blind = Contactor(closed=None)
    assert blind.ask(False, follows=False).action == OPEN


def test_nobody_speaking_means_hands_off() -> None:
    assert Contactor().ask(None).action is None


def test_a_sample_from_before_the_switching_proves_nothing() -> None:
    load = Contactor()
    load.ask(False, follows=False)
    result = load.ask(False, after_s=0.1, follows=False)
    assert result.action == OPEN
    assert not load.memory.settled
    load.field = None
    load.ask(False, follows=False)
    assert not load.memory.settled


@pytest.mark.parametrize(("missed_s", "told"), [(None, SwitchContact(closed=False, off_timer_s=900.0)), (10.0, None)])
def test_an_opening_that_was_never_carried_out_is_not_made_up_for_when_nobody_wants_it_any_more(
    missed_s: float | None, told: SwitchContact | None
) -> None:
    load = Contactor(min_off_s=120.0)
    assert load.ask(True, Band.DEFAULT).action is None
    assert load.ask(False, Band.OPERATOR, after_s=60.0, follows=False).action == OPEN
    if missed_s is not None:
        load.memory = replace(load.memory, unheard_at=load.at)
    # Too soon after the miss it may still follow, and then its time off has to be served.
    assert load.ask(True, Band.DEFAULT, after_s=3.0, follows=False).action == OPEN
    assert load.ask(True, Band.DEFAULT, after_s=7.0, follows=False).action == told
    assert load.memory.closed is (told is None)
    if told is None:
        assert load.ask(False, Band.SAFETY).action == OPEN
