"""What the arbiter remembers from one decision to the next: a frozen value, kept across restarts."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from tieline_core.ids import DeviceId
from tieline_edge.control.claims import Claim


@dataclass(frozen=True, slots=True)
class PowerMemory:
    """Last decided power of a storage, or last decided generation limit of a plant.

    Attributes:
        power_w: Setpoint or limit [W]; None = never decided, or no limit.
        at: When it was decided.
        sign: Sign of the last power that was not zero; 0 = there was none, None = not known (it may have been either).
        zero_since: Since when the setpoint is 0 W; None while it is not.
        at_end: End of its energy a storage stands at: -1 empty, +1 full, 0 neither; left only with a margin.
        bar: Side on which a limit of safety or network stood in the way last: +1 above, -1 below.
        bar_w: Where it stood [W].
        bar_at: When it did so last; None = not lately.
        safety_at: When safety asked for a setpoint last.
        at_reserve: It is down to the energy kept for safety.
        left_w: Limit that the run before left at a plant [W]; it may still hold where nothing has reached the plant since.
    """

    power_w: float | None = None
    at: datetime | None = None
    sign: int | None = None
    zero_since: datetime | None = None
    at_end: int = 0
    at_reserve: bool = False
    bar: int = 0
    bar_w: float = 0.0
    bar_at: datetime | None = None
    safety_at: datetime | None = None
    left_w: float | None = None


@dataclass(frozen=True, slots=True)
class ContactMemory:
    """Believed position of a contactor.

    Attributes:
        closed: Position; None = never seen.
        switched_at: When it changed last; a position first seen counts as just switched.
        settled: The field has shown this position since.
        ours: The last opening was ordered here, so that it may be undone here.
        off_timer_s: Timer that was written with that opening [s].
        ordered: When it was told to switch in the last hour, oldest first.
        closing: It was told to close after an opening of ours, and has not been seen closed since.
        unheard_at: When it was last known not to have followed the present order; None = it has, or may have.
    """

    closed: bool | None = None
    switched_at: datetime | None = None
    settled: bool = False
    ours: bool = False
    off_timer_s: float = 0.0
    ordered: tuple[datetime, ...] = ()
    unheard_at: datetime | None = None
    closing: bool = False


@dataclass(frozen=True, slots=True)
class ArbiterMemory:
    """Everything the arbiter needs to remember.

    Attributes:
        power: By storage and plant.
        contacts: By switchable load.
        limits: Limit claims heard that have a failsafe still ahead of them.
    """

    power: Mapping[DeviceId, PowerMemory] = field(default_factory=dict)
    contacts: Mapping[DeviceId, ContactMemory] = field(default_factory=dict)
    limits: tuple[Claim, ...] = ()


def after_restart(memory: ArbiterMemory, plants: Collection[DeviceId] = ()) -> ArbiterMemory:
    """What may still be believed after a time in which nobody looked; what is not known counts as just switched.

    Powers: the field is asked again where a storage stands, the ramp starts there, and the dead time runs anew; a plant
    shows no limit, so its last one is remembered. Contacts: a position the field has shown stays believed, with the time of
    its last change; one that was ordered but never seen may or may not have been carried out, so the device is read first.
    Limits go on until their failsafes are over.
    """
    power = {
        device: PowerMemory(
            power_w=one.power_w if device in plants else None,
            sign=one.sign,
            at_end=one.at_end,
            at_reserve=one.at_reserve,
            left_w=one.power_w if device in plants else None,
        )
        for device, one in memory.power.items()
    }
    contacts = {device: one if one.settled else replace(one, closed=None) for device, one in memory.contacts.items()}
    return ArbiterMemory(power, contacts, memory.limits)
