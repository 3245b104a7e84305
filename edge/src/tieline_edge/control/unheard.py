"""What a device holds that does not do as it was told: ramps and dead times go on from there. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from tieline_core.ids import DeviceId
from tieline_edge.control.effect import Written
from tieline_edge.control.facts import DeviceFacts, SiteFacts
from tieline_edge.control.memory import ArbiterMemory, ContactMemory, PowerMemory
from tieline_edge.drivers.capabilities import HoldPower, LimitGeneration, Release


@dataclass(frozen=True, slots=True)
class Unheard:
    """A device that does not do as it was told.

    Attributes:
        written: The last write that reached it: what and when, on the line that never steps; None = nothing since the start.
        reverts: The device ends an order by itself when it is not refreshed.
        missed_at: When its last order was refused, lost or without effect; None = only its timer has ended it.
        plant: What is held is a limit of generation, not a power.
        tried_at: When a later order went out last that was never answered; it may have arrived all the same.
    """

    written: Written | None
    reverts: bool
    missed_at: datetime | None = None
    plant: bool = False
    tried_at: datetime | None = None

    def over(self, now: datetime) -> bool:
        """The device's own timer has ended it; a limit, which nobody sees, is taken for ended when it must have been."""
        written = self.written
        if written is None or not self.reverts or not isinstance(written.action, HoldPower | LimitGeneration):
            return False
        since = max(written.at, self.tried_at) if self.plant and self.tried_at is not None else written.at
        return now >= since + timedelta(seconds=written.action.revert_s)


def as_held(memory: ArbiterMemory, unheard: Mapping[DeviceId, Unheard], now: datetime, facts: SiteFacts) -> ArbiterMemory:
    """The memory with the powers that such devices really hold, and with what contactors have missed.

    A device keeps its last order until its own timer ends it, and is then in its neutral state: a storage at rest, a plant
    without a limit. Without this a device that comes back would be sent at once where the ramp has meanwhile arrived, and a
    contactor would be opened when nobody wants it any more, for the minimum off time of an opening that never was.

    Args:
        memory: What was decided.
        unheard: Devices that do not do what was decided last.
        now: Present instant, of the line that never steps.
        facts: What the field shows: a storage that still delivers or charges has heard a later order than the last one known.
    """
    powers = {
        device: _held(memory.power[device], one, now, facts.of(device))
        for device, one in unheard.items()
        if device in memory.power
    }
    contacts = {
        device: replace(one, unheard_at=missed_at)
        for device, one in memory.contacts.items()
        if (missed_at := _missed_at(one, unheard.get(device))) != one.unheard_at
    }
    if not powers and not contacts:
        return memory
    return replace(memory, power={**memory.power, **powers}, contacts={**memory.contacts, **contacts})


def _missed_at(memory: ContactMemory, unheard: Unheard | None) -> datetime | None:
    return None if unheard is None or memory.settled else unheard.missed_at


def as_switched(memory: ArbiterMemory, device: DeviceId, closed: bool, now: datetime) -> ArbiterMemory:
    """The memory after a contactor has taken an order: its minimum times run from now, not from when it was decided.

    A contactor that was already seen in this position is only refreshed, and nothing changes.
    """
    contact = memory.contacts.get(device)
    if contact is None or contact.settled or contact.closed is not closed:
        return memory
    return replace(memory, contacts={**memory.contacts, device: replace(contact, switched_at=now)})


def _held(memory: PowerMemory, unheard: Unheard, now: datetime, known: DeviceFacts) -> PowerMemory:
    if unheard.written is None:
        # Nothing has reached it since the start: ramps and dead times begin where the field shows it, once it does. A plant
        # does not show its limit, so its ramp begins at the one that the run before left.
        return replace(memory, power_w=memory.left_w if unheard.plant else None, at=None, zero_since=None)
    action = unheard.written.action
    if isinstance(action, Release):
        # Only storages are released while the edge goes on; a plant's limit is lifted in so many words.
        return replace(memory, power_w=0.0, at=now, zero_since=memory.zero_since or unheard.written.at)
    if isinstance(action, HoldPower):
        ended_at = unheard.written.at + timedelta(seconds=action.revert_s)
        power_w = 0.0 if unheard.over(now) and not _goes_on(action.power_w, ended_at, now, known) else action.power_w
        sign = _sign(action.power_w) or memory.sign
        since = None if power_w else memory.zero_since or unheard.written.at
        if not power_w and action.power_w and memory.zero_since is None:
            since = ended_at
        return replace(memory, power_w=power_w, at=now, zero_since=since, sign=sign)
    if isinstance(action, LimitGeneration):
        return replace(memory, power_w=None if unheard.over(now) else action.min_power_w, at=now)
    return memory


def _goes_on(power_w: float, ended_at: datetime, now: datetime, known: DeviceFacts) -> bool:
    """It was seen at it after its timer must have ended it: a refresh without an answer has arrived."""
    if known.p_w is None or now - timedelta(seconds=known.ages_s.get("p_w", 0.0)) <= ended_at:
        return False
    return known.p_w * power_w > 0.0 and abs(known.p_w) >= abs(power_w) / 2.0


def _sign(power_w: float) -> int:
    return (power_w > 0) - (power_w < 0)
