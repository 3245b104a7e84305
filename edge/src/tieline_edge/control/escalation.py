"""A device that says yes and does nothing: after some writes without effect somebody has to go there."""

from __future__ import annotations

from typing import Final

from tieline_core.ids import DeviceId
from tieline_core.messages.command import CommandState
from tieline_core.messages.telemetry import Severity
from tieline_edge.control.executor import Outcome
from tieline_edge.shedding.rule import RuleEvent

#: Writes without effect, one after the other, before it is escalated.
AFTER: Final = 3


class Escalation:
    """Counts writes without effect by device; escalates once, and says when the device acts again."""

    def __init__(self) -> None:
        self._without: dict[DeviceId, int] = {}

    @property
    def not_acting(self) -> frozenset[DeviceId]:
        """Devices that echo what they are told and do not act on it."""
        return frozenset(device for device, count in self._without.items() if count >= AFTER)

    def heard(self, outcome: Outcome) -> tuple[RuleEvent, ...]:
        """Take in what became of a write."""
        device, before = outcome.device, self._without.get(outcome.device, 0)
        if outcome.state is CommandState.EFFECTIVE:
            self._without.pop(device, None)
            if before >= AFTER:
                return (RuleEvent(Severity.COMPLIANT, "device.acts_again", f"{device} acts on what it is told again", device),)
            return ()
        if outcome.state is not CommandState.UNCONFIRMED:
            return ()
        self._without[device] = before + 1
        if before + 1 != AFTER:
            return ()
        text = f"{device} was told {AFTER} times and does not act on it: {outcome.text}"
        return (RuleEvent(Severity.ALARM, "device.not_acting", text[:500], device, {"writes": AFTER}),)
