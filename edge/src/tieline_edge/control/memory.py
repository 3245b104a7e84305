"""What the arbiter remembers from one decision to the next: a frozen value, kept across restarts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from tieline_core.ids import DeviceId
from tieline_edge.control.claims import Claim


@dataclass(frozen=True, slots=True)
class PowerMemory:
    """Last decided power of a storage, or last decided generation limit of a plant.

    Attributes:
        power_w: Setpoint or limit [W]; None = never decided, or no limit.
        at: When it was decided.
        sign: Sign of the last power that was not zero.
        zero_since: Since when the setpoint is 0 W; None while it is not.
    """

    power_w: float | None = None
    at: datetime | None = None
    sign: int = 0
    zero_since: datetime | None = None


@dataclass(frozen=True, slots=True)
class ContactMemory:
    """Believed position of a contactor.

    Attributes:
        closed: Position; None = never seen.
        switched_at: When it changed last; a position first seen counts as just switched.
        settled: The field has shown this position since.
        ours: The last opening was ordered here, so that it may be undone here.
        off_timer_s: Timer that was written with that opening [s].
    """

    closed: bool | None = None
    switched_at: datetime | None = None
    settled: bool = False
    ours: bool = False
    off_timer_s: float = 0.0


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
