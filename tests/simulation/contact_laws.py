"""Laws of contactors: vital loads, classes, minimum times, dead bars, and who may switch at all."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from tests.simulation.field import Unit
from tests.simulation.scenario import VITAL
from tieline_edge.drivers.capabilities import Role, SwitchContact

if TYPE_CHECKING:
    from tests.simulation.oracle import Oracle

_SLACK_S: Final = 3.5
#: A load of a less important class must have been told to open this soon after one of a more important class.
_CLASS_S: Final = 30.0
#: Below this a load is not worth opening [W].
_WORTH_W: Final = 500.0
#: A load that failed is not counted on for a while, so nobody is blamed for leaving it.
_TRUSTED_S: Final = 900.0
_OPERATIONS: Final = 14
_HOUR_S: Final = 3600.0
#: An overload this long without any shedding is nobody's plan.
_PATIENCE_S: Final = 120.0


@dataclass(slots=True)
class Contact:
    """What is known of one contact.

    Attributes:
        opened_s: When it opened last, whoever did it.
        closed_s: When it closed last.
        told_open_s: When it was last told to open.
        ours: The last opening was told, not done by hand.
        safety: ... and an overload may have been the reason.
    """

    opened_s: float = -1e9
    closed_s: float = -1e9
    told_open_s: float = -1e9
    ours: bool = False
    safety: bool = False
    operations: deque[float] = field(default_factory=deque)


class ContactLaws:
    """Watches every switched load."""

    def __init__(self, oracle: Oracle) -> None:
        self._oracle = oracle
        self._contacts: dict[str, Contact] = {}
        self._due: list[tuple[float, Unit]] = []

    def _of(self, unit: Unit) -> Contact:
        return self._contacts.setdefault(str(unit.spec.device_id), Contact())

    def told(self, unit: Unit, action: SwitchContact) -> None:
        """A contactor was told something; called before it obeys."""
        contact, oracle = self._of(unit), self._oracle
        device = str(unit.spec.device_id)
        changes = action.closed != unit.closed
        if not action.closed:
            if device == VITAL:
                oracle.violated("vital", device, "a vital load was told to open")
            if changes and not oracle.just_thawed:
                self._opens(unit, contact)
            contact.told_open_s = oracle.now_s
        elif changes and not oracle.just_thawed:
            self._closes(unit, contact)
        if changes and not unit.faults.lies:
            self._changed(unit, contact, closed=action.closed)
            contact.ours = not action.closed

    def shedding(self, within_s: float) -> bool:
        """A load is shed, or was so little ago."""
        since_s = self._oracle.now_s - within_s
        return any(one.safety and (one.opened_s > one.closed_s or one.closed_s > since_s) for one in self._contacts.values())

    def moved(self, unit: Unit) -> None:
        """A hand or a timer has moved it."""
        contact = self._of(unit)
        if unit.closed:
            contact.closed_s = self._oracle.now_s
        else:
            contact.opened_s, contact.ours, contact.safety = self._oracle.now_s, False, False

    def _changed(self, unit: Unit, contact: Contact, *, closed: bool) -> None:
        now_s = self._oracle.now_s
        if closed:
            contact.closed_s = now_s
        else:
            contact.opened_s = now_s
        contact.operations.append(now_s)
        while contact.operations[0] < now_s - _HOUR_S:
            contact.operations.popleft()
        if len(contact.operations) > _OPERATIONS + 2 * self._oracle.orders_of(unit):
            self._oracle.violated("switching", str(unit.spec.device_id), f"{len(contact.operations)} operations within an hour")

    def _opens(self, unit: Unit, contact: Contact) -> None:
        oracle, device = self._oracle, str(unit.spec.device_id)
        ordered = oracle.standing.may_open(device)
        strained = oracle.strained(60.0)
        again = oracle.now_s - contact.told_open_s < _HOUR_S and contact.safety
        if not (ordered or strained or again):
            oracle.violated("I5", device, "told to open: nobody has ordered it, and nothing is overloaded")
        if not strained and not again and oracle.now_s - contact.closed_s < unit.spec.min_on_s - _SLACK_S:
            oracle.violated("I4", device, f"told to open {oracle.now_s - contact.closed_s:.1f} s after it closed")
        contact.safety = strained or again
        if strained and not ordered and not again:
            self._due.append((oracle.now_s + _CLASS_S, unit))

    def _closes(self, unit: Unit, contact: Contact) -> None:
        oracle, device = self._oracle, str(unit.spec.device_id)
        open_s = oracle.now_s - contact.opened_s
        if open_s < unit.spec.min_off_s - _SLACK_S:
            oracle.violated("I4", device, f"told to close {open_s:.1f} s after it opened, {unit.spec.min_off_s:g} s are needed")
        if oracle.bus_shown_dead:
            oracle.violated("dead bus", device, "told to close onto a busbar that is shown dead")
        ordered = oracle.standing.may_close(device)
        if not (ordered or contact.ours):
            oracle.violated("I5", device, "told to close although a hand had opened it")
        if contact.safety and oracle.overloaded_for_s > 5.0 + 2.0 * oracle.period_s:
            oracle.violated("restore", device, "a shed load was told to close in the middle of an overload")

    def cycle(self, units: list[Unit]) -> None:
        """A second has passed."""
        while self._due and self._due[0][0] <= self._oracle.now_s:
            self._classes(self._due.pop(0)[1], units)
        oracle = self._oracle
        if oracle.severe_for_s > _PATIENCE_S and oracle.agent_up_s > _PATIENCE_S:
            for unit in units:
                if self._could(unit, _PATIENCE_S):
                    text = f"overloaded for {oracle.severe_for_s:.0f} s, and it was never told to open"
                    oracle.violated("shedding", str(unit.spec.device_id), text)

    def _could(self, unit: Unit, since_s: float) -> bool:
        """This load could have been shed for as long, and was not told."""
        oracle, contact = self._oracle, self._of(unit)
        device = str(unit.spec.device_id)
        return (
            unit.spec.role is Role.LOAD
            and device != VITAL
            and oracle.steady(unit, _TRUSTED_S)
            and unit.closed
            and contact.closed_s < oracle.now_s - since_s - 60.0
            and contact.told_open_s < oracle.now_s - since_s - 60.0
            and (oracle.shown(unit, "p_w", at_least_s=since_s) or 0.0) > _WORTH_W
        )

    def _classes(self, shed: Unit, units: list[Unit]) -> None:
        oracle = self._oracle
        mine = max(oracle.classes(shed))
        if not oracle.agent_up_s > _CLASS_S + 10.0:
            return
        for unit in units:
            if (
                unit is not shed
                and unit.spec.role is Role.LOAD
                and min(oracle.classes(unit), default=0) > mine
                and self._could(unit, _CLASS_S)
            ):
                text = f"opened in an overload, while {unit.spec.device_id} of class {min(oracle.classes(unit))} stayed closed"
                oracle.violated("classes", str(shed.spec.device_id), text)
