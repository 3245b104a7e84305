"""What a device can do, and what is asked of it. Callers ask for the capability, never for the vendor.

All powers are signed watts in load convention; a driver translates to the register's own sign at the rim.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Protocol, Self

from tieline_core.errors import PermanentError, TransientError
from tieline_core.ids import DeviceId
from tieline_core.quantities import Reading


class Role(StrEnum):
    """What a device is to the site."""

    TRANSFORMER = "transformer"
    METER = "meter"
    STORAGE = "storage"
    PV = "pv"
    LOAD = "load"


class Capability(Enum):
    """One thing a device can be asked to do."""

    MEASURE = "measure"
    HOLD_POWER = "hold_power"
    """Storage: hold a signed active power."""
    LIMIT_GENERATION = "limit_generation"
    """PV: deliver at most this much."""
    SWITCH = "switch"
    """Sheddable load: open or close its contactor."""


@dataclass(frozen=True, slots=True)
class DeviceSpec:
    """What the site configuration and the catalogue say about a device.

    Attributes:
        device_id: Unique within the edge.
        role: What it is to the site.
        capabilities: What it can be asked to do.
        priority_class: Shedding class of a sheddable load; None for everything else.
        p_min_w: Hard lower limit of signed power [W].
        p_max_w: Hard upper limit of signed power [W].
        energy_wh: Usable storage capacity [Wh]; None when it is no storage.
        soc_min_pct: Lower end of the state-of-charge window [%].
        soc_max_pct: Upper end of the state-of-charge window [%].
        soc_reserve_pct: Kept above the lower end for safety: plans and local schedules do not discharge it [%].
        reverts: True when the device has a reversion timer of its own that a write carries.
        off_timer: True when an opened contactor closes by itself after the written time; False means latched.
        safe_closed: Declared safe position of a contactor.
        ramp_w_per_s: Fastest change of setpoint; None = no limit.
        dead_time_s: Pause at 0 W before the sign of storage power changes [s].
        min_on_s: Shortest time closed [s].
        min_off_s: Shortest time open [s].
        switches_per_h: A contactor is told to switch at most so often within an hour; safety may open it once more.
        effect_s: Within this time a write must show its effect; None = the executor's own window [s].
    """

    device_id: DeviceId
    role: Role
    capabilities: frozenset[Capability]
    priority_class: int | None = None
    p_min_w: float = 0.0
    p_max_w: float = 0.0
    energy_wh: float | None = None
    soc_min_pct: float = 0.0
    soc_max_pct: float = 100.0
    soc_reserve_pct: float = 0.0
    reverts: bool = False
    off_timer: bool = False
    safe_closed: bool = True
    ramp_w_per_s: float | None = None
    dead_time_s: float = 0.0
    min_on_s: float = 0.0
    min_off_s: float = 0.0
    effect_s: float | None = None
    switches_per_h: int = 12


@dataclass(frozen=True, slots=True)
class HoldPower:
    """Hold this signed power; the device reverts to its neutral state after ``revert_s`` without a refresh."""

    power_w: float
    revert_s: float


@dataclass(frozen=True, slots=True)
class LimitGeneration:
    """Deliver at most this much: ``min_power_w`` <= 0 bounds the signed power from below; None lifts the limit."""

    min_power_w: float | None
    revert_s: float


@dataclass(frozen=True, slots=True)
class SwitchContact:
    """Open or close the contactor; ``off_timer_s`` is written where the device has one."""

    closed: bool
    off_timer_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Release:
    """Hand the device back to its own default."""


Action = HoldPower | LimitGeneration | SwitchContact | Release


@dataclass(frozen=True, slots=True)
class ReadBack:
    """What the device's own registers say after a write.

    Attributes:
        confirmed: The registers hold what was written.
        text: What was read, for the trace.
        remaining_s: What is left on the device's own reversion timer [s]; None when it does not say.
        runs_down: The timer did not restart with this write: the device will revert although it is refreshed.
    """

    confirmed: bool
    text: str
    remaining_s: float | None = None
    runs_down: bool = False

    @property
    def refresh_within_s(self) -> float:
        """When the action has to be written again at the latest [s]: while a third of the device's own timer is left.

        A timer that does not restart can be started again only once it has run out: then right after that.
        """
        if self.remaining_s is None:
            return math.inf
        return self.remaining_s + 1.0 if self.runs_down else self.remaining_s * 2.0 / 3.0


class DeviceTransientError(TransientError):
    """No answer, busy, connection gone: the poller backs off and tries again."""


class DeviceOfflineError(DeviceTransientError):
    """It is known not to be there: nothing was written."""


class DevicePermanentError(PermanentError):
    """The device says this can never work (illegal address, illegal value): a mistake in the configuration."""


class Driver(Protocol):
    """One connected device. Entering opens the connection, leaving closes it; it may be entered again."""

    @property
    def spec(self) -> DeviceSpec:
        """What the device is."""
        ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(self, *exc: object) -> None: ...

    async def read(self) -> Sequence[Reading]:
        """Poll once.

        Raises:
            DeviceTransientError: Nothing could be read now.
            DevicePermanentError: Nothing can ever be read with this configuration.
        """
        ...

    async def apply(self, action: Action) -> ReadBack:
        """Write and read back; refuses before the first byte what the device cannot do.

        Raises:
            DeviceTransientError: The write may or may not have arrived.
            DevicePermanentError: Refused, nothing was written.
        """
        ...
