"""Gates of contactors: minimum times, dead busbar, and respect for a hand on the switch. Pure functions."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from tieline_edge.control.claims import Band
from tieline_edge.control.facts import DeviceFacts
from tieline_edge.control.memory import ContactMemory
from tieline_edge.drivers.capabilities import DeviceSpec, SwitchContact

_HOUR_S: Final = 3600.0
#: An order whose answer was lost may still be followed for so long [s].
_LATE_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Request:
    """Everything the gates look at."""

    spec: DeviceSpec
    memory: ContactMemory
    known: DeviceFacts
    bus_live: bool | None
    now: datetime

    @property
    def since_switch_s(self) -> float:
        """Seconds since the last change of position; one that lies ahead was just now."""
        return max(0.0, (self.now - (self.memory.switched_at or self.now)).total_seconds())


@dataclass(frozen=True, slots=True)
class Result:
    """The gated action; None = leave the contactor alone."""

    action: SwitchContact | None
    memory: ContactMemory
    notes: tuple[str, ...] = ()


def switch(request: Request, wish: bool | None, band: Band | None, off_timer_s: float, *, keeps: bool = False) -> Result:
    """Position of a contactor.

    Args:
        request: The device and what is known of it.
        wish: Wanted position; None when nobody claims one.
        band: Who wants it.
        off_timer_s: Timer to write with an opening where the device has one [s].
        keeps: An open position is wanted only where it is open already.
    """
    request = replace(request, memory=_observed(request))
    if wish is None or band is None:
        return Result(None, request.memory)
    if wish:
        return _close(request, band)
    if keeps and request.memory.closed is True:
        # It was told to close, and may have done so: who goes off now is chosen among all that are on.
        return Result(None, request.memory, ("it was told to close before: that is neither repeated nor taken back",))
    # Who only keeps it open has no timer of his own: that of the opening runs on.
    timer_s = request.memory.off_timer_s if keeps else off_timer_s
    return _open(request, band, timer_s if request.spec.off_timer else 0.0)


def _observed(request: Request) -> ContactMemory:
    """The believed position after a look at the field; a position first seen counts as just switched."""
    memory, seen = request.memory, request.known.closed
    if memory.switched_at is None:
        return ContactMemory(seen, request.now, seen is not None)
    if seen is None:
        return memory
    measured_at = request.now - timedelta(seconds=request.known.ages_s.get("closed", 0.0))
    if memory.closed is None:
        ours, closing = memory.ours and not seen, memory.closing and not seen
        return replace(memory, closed=seen, switched_at=request.now, settled=True, ours=ours, closing=closing)
    if measured_at < memory.switched_at:
        return memory
    if seen == memory.closed:
        return memory if memory.settled else replace(memory, settled=True, closing=False)
    if memory.settled:
        # A hand, or the device's own timer, has moved it.
        return ContactMemory(seen, request.now, True, ordered=memory.ordered)
    return memory


def _open(request: Request, band: Band, timer_s: float) -> Result:
    memory, spec = request.memory, request.spec
    opening = SwitchContact(closed=False, off_timer_s=timer_s)
    if memory.closed is False:
        if not memory.ours:
            return Result(None, memory, ("it is open already, not by us",))
        return Result(opening, replace(memory, off_timer_s=timer_s))
    notes: tuple[str, ...] = ()
    rest_s = spec.min_on_s - request.since_switch_s
    if rest_s > 0:
        if band > Band.SAFETY:
            return Result(None, memory, (f"minimum on time: stays closed for another {rest_s:.0f} s",))
        notes = (f"minimum on time cut by {rest_s:.0f} s: {band.name.lower()} goes first",)
    ordered = _ordered(request)
    if band > Band.SAFETY and len(ordered) >= spec.switches_per_h:
        return Result(None, memory, (f"it was switched {len(ordered)} times within the hour: stays closed",))
    new = ContactMemory(False, request.now, ours=True, off_timer_s=timer_s, ordered=(*ordered, request.now))
    return Result(opening, new, notes)


def _ordered(request: Request) -> tuple[datetime, ...]:
    """When it was told to switch within the last hour."""
    return tuple(at for at in request.memory.ordered if (request.now - at).total_seconds() < _HOUR_S)


def _never_opened(request: Request) -> bool:
    """The contactor did not follow, and was seen closed after that was known: no time off runs that it would have to serve."""
    missed_at, age_s = request.memory.unheard_at, request.known.ages_s.get("closed", 0.0)
    if missed_at is None or request.known.closed is not True:
        return False
    return request.now - timedelta(seconds=age_s) > missed_at + timedelta(seconds=_LATE_S)


def _close(request: Request, band: Band) -> Result:
    memory, spec = request.memory, request.spec
    if memory.closed is True:
        if memory.settled:
            return Result(None, memory)
        if request.bus_live is not True:
            return Result(None, memory, ("the busbar died before the closing was seen: it is not repeated",))
        # The closing has not been seen yet: keep asking for it.
        return Result(SwitchContact(closed=True), memory)
    if _never_opened(request):
        note = "the opening was not carried out and is not wanted any more: it stays closed"
        return Result(None, ContactMemory(True, request.now, True, ordered=memory.ordered), (note,))
    stay = SwitchContact(closed=False, off_timer_s=memory.off_timer_s) if memory.ours else None
    if band is Band.DEFAULT and not memory.ours and not memory.closing:
        return Result(None, memory, ("it was not opened here, so it is not closed by default",))
    rest_s = spec.min_off_s - request.since_switch_s
    if rest_s > 0:
        return Result(stay, memory, (f"minimum off time: stays open for another {rest_s:.0f} s",))
    if request.bus_live is not True:
        state = "dead" if request.bus_live is False else "of unknown state"
        return Result(stay, memory, (f"the busbar is {state}: nothing closes onto it",))
    ordered = _ordered(request)
    if len(ordered) >= spec.switches_per_h:
        # Whoever wants it, an opening of safety comes through and a closing has time: the count of an hour is bounded.
        return Result(stay, memory, (f"it was switched {len(ordered)} times within the hour: stays open",))
    # Should it never be carried out, a restart would else leave open for ever what was opened here.
    closing = memory.ours or memory.closing
    new = ContactMemory(True, request.now, closing=closing, ordered=(*ordered, request.now))
    return Result(SwitchContact(closed=True), new)
