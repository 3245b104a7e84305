"""The values of the thermal-overload rule: what it is told, what it sees, what it remembers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from tieline_core.ids import DeviceId
from tieline_core.shedding import ThermalOverloadParameters
from tieline_edge.control.facts import DeviceFacts
from tieline_edge.shedding.selection import Burden


@dataclass(frozen=True, slots=True)
class Sheddable:
    """A load the rule may open, its class and its shortest time open [s]."""

    priority: int
    min_off_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Parameters:
    """What the rule is told: levels and times, whom it may open and whom it may bar from charging."""

    levels: ThermalOverloadParameters
    loads: Mapping[DeviceId, Sheddable]
    storages: tuple[DeviceId, ...]


@dataclass(frozen=True, slots=True)
class View:
    """What the rule sees: one sample of the transformer and the loads.

    Attributes:
        now: Present instant.
        burden: The transformer; None when the loading is absent, bad or too old.
        measured_at: When the loading was measured; None exactly when ``burden`` is.
        good: Its quality is good, not merely usable.
        max_age_s: Age at which a loading stops counting, and longest gap inside a hold [s].
        loads: Facts of the loads.
    """

    now: datetime
    burden: Burden | None
    measured_at: datetime | None
    good: bool
    max_age_s: float
    loads: Mapping[DeviceId, DeviceFacts]

    def settled(self, since: datetime | None, settle_s: float) -> bool:
        """True when the loading was measured long enough after a switching to show its effect."""
        if self.measured_at is None:
            return False
        return since is None or self.measured_at >= since + timedelta(seconds=settle_s)


@dataclass(frozen=True, slots=True)
class Stretch:
    """An unbroken time above a level: its first sample, its last one, and how many good ones it holds."""

    since: datetime
    last_at: datetime
    samples: int


@dataclass(frozen=True, slots=True)
class ShedLoad:
    """A load kept open.

    Attributes:
        device: Which.
        priority: Its class.
        p_w: Its power when it was shed [W].
        at: When it was shed.
        min_off_s: Shortest time open [s].
        off_timer_s: Timer written with the opening [s].
    """

    device: DeviceId
    priority: int
    p_w: float
    at: datetime
    min_off_s: float
    off_timer_s: float


@dataclass(frozen=True, slots=True)
class Returning:
    """A load that was let go and has not been seen closed yet."""

    device: DeviceId
    since: datetime


@dataclass(frozen=True, slots=True)
class ThermalMemory:
    """Everything the rule remembers.

    Attributes:
        above: Time above the trip level.
        severe: Time above the severe level.
        shed: Loads kept open.
        active: A shedding whose effect has not been confirmed below the trip level.
        exhausted: Nothing is left to shed, and it was said.
        overloaded: Storages are barred from charging.
        blind: The loading is not known, and it was said.
        switched_at: Last shedding or restoring.
        below_since: Since when the next load would fit below the restore level.
        next_restore_at: Earliest next restoring.
        returning: The load restored last.
    """

    above: Stretch | None = None
    severe: Stretch | None = None
    shed: tuple[ShedLoad, ...] = ()
    active: bool = False
    exhausted: bool = False
    overloaded: bool = False
    blind: bool = False
    switched_at: datetime | None = None
    below_since: datetime | None = None
    next_restore_at: datetime | None = None
    returning: Returning | None = None
