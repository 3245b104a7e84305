"""Laws of contactors: vital loads, classes, minimum times, dead bars, and who may switch at all."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from tests.simulation.field import Unit
from tests.simulation.scenario import VITAL
from tieline_edge.drivers.capabilities import Role, SwitchContact

if TYPE_CHECKING:
    from tests.simulation.oracle import Oracle

_SLACK_S: Final = 3.5
#: Loads that are shed in one cycle are all told so within this time, where nothing is wrong with them [s].
_WAVE_S: Final = 10.0
#: Orders of one decision come within this time of each other [s].
_ONE_S: Final = 1.5
#: What is enough must be enough by so much, before a load that was shed all the same counts as needless.
_ENOUGH: Final = 1.01
#: Agent and load must have been well for so long before a shedding, or nobody knows when it was decided and on what [s].
_CLEAR_S: Final = 30.0
#: ... and its contact must have been let alone for so long [s].
_REST_S: Final = 60.0
#: Below this a load is not worth opening [W].
_WORTH_W: Final = 500.0
#: Above this multiple of its rating a load's power is not believed, and what is not believed cannot be counted on.
_BELIEVED: Final = 1.4
#: A load that failed to go off is not counted on for ``failed_s``, so nobody is blamed for leaving it [s].
_FAILED_S: Final = 660.0
#: An overload so little ago may still have somebody waiting to see a load go [s].
_AFTER_S: Final = 180.0
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
        shed: It was told to open in an overload, and not to close since.
        moved_s: When a hand or its timer has moved it last.
        shed_until_s: When the last shedding of it was over.
        first_told_s: When it was told so first, of the orders that say the same.
        doubt_s: When it was last in a state in which an agent that sheds it may see that it does not obey.
        unshown: What was known before its last change, until an answer has shown that and a cycle has looked at it.
        shown_s: When an answer has shown the last change first.
        seen_closed_s: When an answer has shown it closed last.
    """

    opened_s: float = -1e9
    closed_s: float = -1e9
    told_open_s: float = -1e9
    ours: bool = False
    safety: bool = False
    shed: bool = False
    moved_s: float = -1e9
    shed_until_s: float = -1e9
    first_told_s: float = -1e9
    doubt_s: float = -1e9
    unshown: Unshown | None = None
    shown_s: float = math.inf
    seen_closed_s: float = -1e9
    operations: deque[float] = field(default_factory=deque)


@dataclass(frozen=True, slots=True)
class Unshown:
    """What was known of a contact before a change that no answer has shown yet; ``hand``: nobody had told it to change."""

    opened_s: float
    closed_s: float
    ours: bool
    safety: bool
    hand: bool


@dataclass(frozen=True, slots=True)
class Shedding:
    """A load was told to open in an overload; the verdict waits until everybody must have been told.

    Attributes:
        before: Loads of less important classes that could have gone, and so must have gone as well.
        least_w: What each load of a less important class took off at least, by the last two answers [W].
        need_w: The most that can have been needed, help of batteries not counted [W].
    """

    at_s: float
    shed: Unit
    before: tuple[Unit, ...]
    least_w: dict[str, float]
    need_w: float


class ContactLaws:
    """Watches every switched load."""

    def __init__(self, oracle: Oracle) -> None:
        self._oracle = oracle
        self._contacts: dict[str, Contact] = {}
        self._sheddings: list[Shedding] = []

    def _of(self, unit: Unit) -> Contact:
        return self._named(str(unit.spec.device_id))

    def _named(self, device: str) -> Contact:
        return self._contacts.setdefault(device, Contact())

    def told(self, unit: Unit, action: SwitchContact) -> None:
        """A contactor was told something; called before it obeys."""
        contact, oracle = self._of(unit), self._oracle
        device = str(unit.spec.device_id)
        changes = action.closed != unit.closed
        believed = self._unseen(contact)
        if believed is not None and believed.hand:
            if changes and not unit.faults.lies:
                # It repeats what stands as far as anybody knows.
                self._turns(contact, hand=False)
            elif not changes:
                # A hand was there first, and nobody knows: whoever told it so takes it for his doing.
                contact.unshown, contact.ours = None, not action.closed
            changes = False
        if not action.closed:
            if device == VITAL:
                oracle.violated("vital", device, "a vital load was told to open")
            if changes and not oracle.just_thawed:
                self._opens(unit, contact)
            contact.told_open_s = oracle.now_s
            if not contact.shed and (oracle.strained(60.0) or oracle.resuming):
                contact.shed, contact.first_told_s = True, oracle.now_s
        elif changes and not oracle.just_thawed:
            self._closes(unit, contact)
        if action.closed and contact.shed:
            contact.shed, contact.shed_until_s = False, oracle.now_s
        if changes and not unit.faults.lies:
            self._turns(contact, hand=False)
            self._changed(unit, contact, closed=action.closed)
            contact.ours = not action.closed

    def shedding(self, within_s: float) -> bool:
        """A load is shed, or was so little ago."""
        since_s = self._oracle.now_s - within_s
        return any(
            one.shed_until_s > since_s or ((one.safety or one.shed) and (one.opened_s > one.closed_s or one.closed_s > since_s))
            for one in self._contacts.values()
        )

    def moved(self, unit: Unit) -> None:
        """A hand or a timer has moved it."""
        contact = self._of(unit)
        contact.moved_s = self._oracle.now_s
        if contact.safety or contact.shed:
            contact.shed_until_s = contact.closed_s if contact.closed_s > contact.opened_s else self._oracle.now_s
        if self._turns(contact, hand=True):
            return
        if unit.closed:
            contact.closed_s = self._oracle.now_s
        else:
            contact.opened_s, contact.ours, contact.safety = self._oracle.now_s, False, False

    def showed(self, unit: Unit, closed: float | None) -> None:
        """An answer has carried its position to the agent."""
        contact = self._of(unit)
        if closed:
            contact.seen_closed_s = self._oracle.now_s
        if closed == float(unit.closed):
            contact.shown_s = min(contact.shown_s, self._oracle.now_s)

    def _unseen(self, contact: Contact) -> Unshown | None:
        """What the agent still believes: between two cycles an answer may be followed by another one."""
        return contact.unshown if self._oracle.now_s - contact.shown_s < self._oracle.period_s + _ONE_S else None

    def _turns(self, contact: Contact, *, hand: bool) -> bool:
        """Note a change of position; returns whether it takes the last one back before any answer has shown that.

        Where one of the two was done by hand, nobody can tell the pair from a contactor that stood still.
        """
        last = self._unseen(contact)
        contact.shown_s = math.inf
        if last is None or not (hand or last.hand):
            contact.unshown = Unshown(contact.opened_s, contact.closed_s, contact.ours, contact.safety, hand)
            return False
        contact.opened_s, contact.closed_s, contact.ours, contact.safety = last.opened_s, last.closed_s, last.ours, last.safety
        contact.unshown = None
        return True

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
        strained = oracle.strained(60.0) or oracle.resuming
        again = oracle.now_s - contact.told_open_s < _HOUR_S and contact.safety
        if not (ordered or strained or again):
            oracle.violated("I5", device, "told to open: nobody has ordered it, and nothing is overloaded")
        if not strained and not again and oracle.now_s - contact.closed_s < unit.spec.min_on_s - _SLACK_S:
            oracle.violated("I4", device, f"told to open {oracle.now_s - contact.closed_s:.1f} s after it closed")
        contact.safety = strained or again
        if strained and not (ordered or contact.shed):
            self._sheds(unit)

    def _closes(self, unit: Unit, contact: Contact) -> None:
        oracle, device = self._oracle, str(unit.spec.device_id)
        open_s = oracle.now_s - contact.opened_s
        if open_s < unit.spec.min_off_s - _SLACK_S:
            oracle.violated("I4", device, f"told to close {open_s:.1f} s after it opened, {unit.spec.min_off_s:g} s are needed")
        if oracle.bus_shown_dead:
            oracle.violated("dead bus", device, "told to close onto a busbar that is shown dead")
        ordered = oracle.standing.may_close(device)
        # Who was to open it, got no answer, and sees it open, may take it for his own doing.
        meant = oracle.standing.opening_ordered_s(device) > contact.seen_closed_s
        if not (ordered or contact.ours or meant):
            oracle.violated("I5", device, "told to close although a hand had opened it")
        if contact.safety and oracle.overloaded_for_s > 5.0 + 2.0 * oracle.period_s:
            oracle.violated("restore", device, "a shed load was told to close in the middle of an overload")

    def cycle(self, units: list[Unit]) -> None:
        """A second has passed."""
        oracle = self._oracle
        while self._sheddings and self._sheddings[0].at_s + _WAVE_S <= oracle.now_s:
            self._judge(self._sheddings.pop(0))
        self._doubt(units)
        if oracle.severe_for_s > _PATIENCE_S and oracle.agent_up_s > _PATIENCE_S:
            for unit in units:
                if self._ready(unit, _PATIENCE_S):
                    text = f"overloaded for {oracle.severe_for_s:.0f} s, and it was never told to open"
                    oracle.violated("shedding", str(unit.spec.device_id), text)

    def _doubt(self, units: list[Unit]) -> None:
        """An agent may have seen a load not obey when the load, or the agent itself, was unwell during a shedding."""
        oracle = self._oracle
        if not (oracle.strained(_AFTER_S) or self.shedding(0.0)):
            return
        unwell = oracle.agent_up_s < 5.0
        for unit in units:
            if unit.spec.role is Role.LOAD and (unwell or unit.faults.any):
                self._of(unit).doubt_s = oracle.now_s

    def _ready(self, unit: Unit, for_s: float) -> bool:
        """For so long nobody could have doubted that this load is there, closed, obedient, and worth shedding."""
        oracle = self._oracle
        if unit.spec.role is not Role.LOAD or str(unit.spec.device_id) == VITAL or not unit.closed:
            return False
        contact, now_s = self._of(unit), oracle.now_s
        rested = max(contact.closed_s, contact.told_open_s, contact.moved_s) < now_s - for_s - _REST_S
        obedient = not contact.shed and contact.doubt_s < now_s - _FAILED_S
        if not (rested and obedient and oracle.steady(unit, for_s)):
            return False
        powers = oracle.last_two(unit, "p_w")
        most_w = _BELIEVED * unit.spec.p_max_w
        return len(powers) == 2 and all(_WORTH_W < power < most_w for power in (*powers, unit.power_w))

    def _sheds(self, shed: Unit) -> None:
        """Note who should have gone before a load that is told to open now: the loads of less important classes.

        Classes go in whole, the highest number first. So a load is shed either because all above its class together are
        not enough, and then they go with it, or it has no business to be shed. Help of batteries and relief that is on its
        way make the need smaller, the meter's dead band lets a small one pass: none of them sends anybody off.
        """
        oracle = self._oracle
        if not oracle.steady(shed, _CLEAR_S) or oracle.now_s - self._of(shed).moved_s < _REST_S:
            return
        mine = max(oracle.classes(shed))
        lesser = [unit for unit in oracle.units if unit is not shed and min(oracle.classes(unit), default=0) > mine]
        before = tuple(unit for unit in lesser if self._ready(unit, _CLEAR_S))
        least_w = {str(unit.spec.device_id): min(oracle.last_two(unit, "p_w"), default=0.0) for unit in lesser}
        if lesser:
            oracle.judges("classes", shed)
            self._sheddings.append(Shedding(oracle.now_s, shed, before, least_w, oracle.most_excess_w()))

    def _judge(self, one: Shedding) -> None:
        oracle, device = self._oracle, str(one.shed.spec.device_id)
        for unit in one.before:
            contact = self._of(unit)
            told = contact.told_open_s >= one.at_s - _WAVE_S
            if told or not unit.closed or contact.moved_s >= one.at_s or not oracle.steady(unit, _CLEAR_S + _WAVE_S):
                continue
            text = f"shed in an overload, while {unit.spec.device_id} of class {min(oracle.classes(unit))} stayed closed"
            oracle.violated("classes", device, text)
        with_it = [name for name in one.least_w if abs(self._named(name).first_told_s - one.at_s) <= _ONE_S]
        relief_w = sum(one.least_w[name] for name in with_it)
        if relief_w >= _ENOUGH * one.need_w and with_it:
            names = ", ".join(with_it)
            text = f"shed although {names} of higher classes took {relief_w:.0f} W off and {one.need_w:.0f} W were needed"
            oracle.violated("classes", device, text)
