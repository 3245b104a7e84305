"""Claims: what rules, operators, plans and the site's own limits want of a device.

A claim speaks for one device in one band and wants exactly one thing: a setpoint, a contact position, a limit, or that
nobody touches the device. Limits are closed intervals of signed watts, positive = drawn from the grid. ``NO_LIMIT`` and a
limit of 0 W are different things.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import IntEnum
from typing import ClassVar, Final

from pydantic import ConfigDict

from tieline_core.ids import DeviceId


class Band(IntEnum):
    """Who speaks; a smaller number is heard first."""

    INTERLOCK = 1
    SAFETY = 2
    OPERATOR = 3
    ENVELOPE = 4
    PLAN = 5
    DEFAULT = 6


@dataclass(frozen=True, slots=True)
class Interval:
    """Closed interval of signed active power [W]; infinite ends mean no limit on that side.

    Raises:
        ValueError: When it is empty, an end is NaN, or it lies at infinity.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(ser_json_inf_nan="strings")

    lo: float = -math.inf
    hi: float = math.inf

    def __post_init__(self) -> None:
        if math.isnan(self.lo) or math.isnan(self.hi) or self.lo > self.hi or self.lo == math.inf or self.hi == -math.inf:
            raise ValueError(f"[{self.lo}, {self.hi}] W is no interval")

    def meet(self, other: Interval) -> Interval | None:
        """Intersection, or None when the two exclude each other."""
        lo, hi = max(self.lo, other.lo), min(self.hi, other.hi)
        return Interval(lo, hi) if lo <= hi else None

    def clamp(self, value_w: float) -> float:
        """The point of the interval nearest to the value."""
        return min(max(value_w, self.lo), self.hi)

    def holds(self, value_w: float) -> bool:
        """True when the value lies inside."""
        return self.lo <= value_w <= self.hi

    def __str__(self) -> str:
        if self == NO_LIMIT:
            return "no limit"
        low = "-∞" if self.lo == -math.inf else f"{self.lo:g}"
        high = "∞" if self.hi == math.inf else f"{self.hi:g}"
        return f"[{low}, {high}] W"


NO_LIMIT: Final = Interval()


def _told(value: float | None) -> tuple[float, float]:
    return (0.0, 0.0) if value is None else (1.0, value)


def _ends(limit: Interval | None) -> tuple[float, float, float]:
    return (0.0, 0.0, 0.0) if limit is None else (1.0, limit.lo, limit.hi)


@dataclass(frozen=True, slots=True)
class Failsafe:
    """What a limit becomes when it expires, and for how long."""

    limit: Interval
    hold_s: float


@dataclass(frozen=True, slots=True)
class Claim:
    """One wish for one device.

    Attributes:
        device: Whom it is about.
        band: Who speaks.
        source: Stable name of the speaker inside the band: a rule, a command id, a plan id.
        reason: Why, in words for the trace.
        setpoint_w: Signed power to hold [W].
        closed: Contact position.
        limit: Allowed signed power.
        expires_at: First instant at which it no longer counts; only interlocks go without.
        failsafe: What an expired limit becomes; every limit below the interlock band declares it.
        off_timer_s: With ``closed=False``: timer written into devices that reclose by themselves [s].
        keeps: With ``closed=False``: what is open stays open, and nothing is opened.
        hands_off: Nothing at all is written to the device (a tag "do not operate"); interlocks only.

    Raises:
        ValueError: When it wants nothing or several things, or lacks its expiry or failsafe.
    """

    device: DeviceId
    band: Band
    source: str
    reason: str
    setpoint_w: float | None = None
    closed: bool | None = None
    limit: Interval | None = None
    expires_at: datetime | None = None
    failsafe: Failsafe | None = None
    off_timer_s: float = 0.0
    keeps: bool = False
    hands_off: bool = False

    def __post_init__(self) -> None:
        wishes = [self.setpoint_w is not None, self.closed is not None, self.limit is not None, self.hands_off]
        if sum(wishes) != 1:
            raise ValueError(f"{self.source} on {self.device}: exactly one of setpoint_w, closed, limit, hands_off")
        if self.keeps and self.closed is not False:
            raise ValueError(f"{self.source} on {self.device}: only what is open can be kept open")
        if self.hands_off and self.band is not Band.INTERLOCK:
            raise ValueError(f"{self.source} on {self.device}: only an interlock takes all hands off a device")
        if self.setpoint_w is not None and not math.isfinite(self.setpoint_w):
            raise ValueError(f"{self.source} on {self.device}: {self.setpoint_w} W is no setpoint")
        if self.band is not Band.INTERLOCK and self.expires_at is None:
            raise ValueError(f"{self.source} on {self.device}: a claim of band {self.band.name} must expire")
        if self.limit is not None and self.band is not Band.INTERLOCK and self.failsafe is None:
            raise ValueError(f"{self.source} on {self.device}: a limit of band {self.band.name} must declare its failsafe")

    @property
    def key(self) -> tuple[str, int, str]:
        """Who speaks about whom; a new limit of the same key replaces the old one."""
        return self.device, self.band, self.source

    @property
    def order(self) -> tuple[str, int, str, tuple[float, ...], str]:
        """A total order, so that no result depends on who spoke first; asked for every claim in every cycle."""
        failsafe = self.failsafe
        wish = (
            *_told(self.setpoint_w),
            *_told(self.closed),
            *_ends(self.limit),
            *_ends(None if failsafe is None else failsafe.limit),
            0.0 if failsafe is None else failsafe.hold_s,
            self.off_timer_s,
            self.keeps,
            self.hands_off,
            math.inf if self.expires_at is None else self.expires_at.timestamp(),
        )
        return self.device, self.band, self.source, wish, self.reason

    def moved(self, by: timedelta) -> Claim:
        """The same claim on a time line that is ahead by so much."""
        return replace(self, expires_at=self.expires_at + by) if by and self.expires_at is not None else self

    def live(self, now: datetime) -> bool:
        """True while it has not expired."""
        return self.expires_at is None or now < self.expires_at

    def limit_at(self, now: datetime) -> Interval | None:
        """The limit in force: its own, its failsafe after expiry, None when both are over."""
        if self.limit is None or self.live(now):
            return self.limit
        if self.failsafe is None or self.expires_at is None:
            return None
        return self.failsafe.limit if now < self.expires_at + timedelta(seconds=self.failsafe.hold_s) else None

    @property
    def wish(self) -> str:
        """What it wants, in words."""
        if self.setpoint_w is not None:
            return f"hold {self.setpoint_w:g} W"
        if self.closed is not None:
            return "closed" if self.closed else ("stay open" if self.keeps else "open")
        return "do not operate" if self.hands_off else f"limit {self.limit}"

    def __str__(self) -> str:
        return f"{self.band.name.lower()} {self.source}: {self.wish} ({self.reason})"
