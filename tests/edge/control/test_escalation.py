"""F31: a device that echoes and does not act is escalated once."""

from __future__ import annotations

from datetime import UTC, datetime

from tieline_core.ids import DeviceId
from tieline_core.messages.command import CommandState
from tieline_edge.control.escalation import Escalation
from tieline_edge.control.executor import Outcome
from tieline_edge.drivers.capabilities import HoldPower

NOW = datetime(2016, 12, 7, 16, tzinfo=UTC)
BAT = DeviceId("bat1")


def codes(escalation: Escalation, *states: CommandState) -> list[str]:
    outcomes = (Outcome(BAT, state, HoldPower(1.0, 1.0), "plan", "no effect within 10 s", NOW) for state in states)
    return [event.code for outcome in outcomes for event in escalation.heard(outcome)]


def test_f31_three_writes_without_effect_are_escalated_once() -> None:
    """F31 (I9): echoes in between change nothing, further failures are not told again, and an effect ends it."""
    escalation = Escalation()
    echo, nothing = CommandState.CONFIRMED, CommandState.UNCONFIRMED
    assert codes(escalation, echo, nothing, echo, nothing) == []
    assert codes(escalation, echo, nothing) == ["device.not_acting"]
    assert escalation.not_acting == {BAT}
    assert codes(escalation, nothing, nothing) == []
    assert codes(escalation, CommandState.EFFECTIVE) == ["device.acts_again"]
    assert escalation.not_acting == frozenset()


def test_an_effect_in_between_starts_the_count_anew() -> None:
    nothing, effect = CommandState.UNCONFIRMED, CommandState.EFFECTIVE
    assert codes(Escalation(), nothing, nothing, effect, nothing, nothing) == []
