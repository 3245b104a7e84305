"""The process image: pollers put the latest readings, each cycle takes one frozen view of all of them.

It also sees when a point crosses a level that somebody watches, so that the answer need not wait for the next regular cycle.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Final

from tieline_core.clock import Clock
from tieline_core.ids import PointId
from tieline_core.quantities import Quality, Reading
from tieline_edge.steady import SteadyTime

#: A source may be this far ahead of our clock [s]; beyond it its clock is wrong and its value decides nothing.
AHEAD_S: Final = 60.0
#: Two looks at two clocks lie this far apart at most; a reading that is no older than this counts as the same age.
_SAME: Final = timedelta(seconds=0.05)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All last values at one instant.

    Attributes:
        at: When the view was frozen.
        readings: Last reading of each point.
        steady_at: The same instant on the line that never steps; None when nobody keeps one.
        measured: When each point was measured, on that line.
    """

    at: datetime
    readings: Mapping[PointId, Reading]
    steady_at: datetime | None = None
    measured: Mapping[PointId, datetime] = field(default_factory=lambda: MappingProxyType({}))

    def value(self, point: PointId, max_age_s: float) -> float | None:
        """The number of a point when it is usable, young enough and not from the future, else None."""
        reading = self.readings.get(point)
        if reading is None or not reading.quality.usable or not -AHEAD_S <= self.age_s(point) <= max_age_s:
            return None
        return reading.value

    def age_s(self, point: PointId) -> float:
        """Seconds since the point was measured; infinite when it never was. Setting the time of day does not change it."""
        measured_at = self.measured_at(point)
        return float("inf") if measured_at is None else ((self.steady_at or self.at) - measured_at).total_seconds()

    def measured_at(self, point: PointId) -> datetime | None:
        """When the point was measured, on the line timers live on; the same for the same reading in every view."""
        steady = self.measured.get(point)
        if steady is not None:
            return steady
        reading = self.readings.get(point)
        return None if reading is None else reading.measured_at


@dataclass(frozen=True, slots=True)
class Watch:
    """A level of a point whose crossing is worth a cycle at once.

    Attributes:
        point: Whose.
        level: The level, in the point's unit.
        rising: Beyond is above; False: below.
    """

    point: PointId
    level: float
    rising: bool = True

    def beyond(self, reading: Reading | None) -> bool:
        """True for a usable number beyond the level."""
        if reading is None or reading.value is None or not reading.quality.usable:
            return False
        return reading.value > self.level if self.rising else reading.value < self.level


class ProcessImage:
    """The only mutable holder of last values; owned by the agent, written by pollers, frozen by the cycle.

    Args:
        clock: Tells how old a reading was when it came.
        steady: From then on its age grows by what elapses. Without the two, ages are differences of stamps.

    Attributes:
        crossed: Set when a watched point has gone beyond its level; whoever answers clears it.
    """

    def __init__(self, clock: Clock | None = None, steady: SteadyTime | None = None) -> None:
        self.crossed = asyncio.Event()
        self._clock = clock
        self._steady = steady
        self._last: dict[PointId, Reading] = {}
        self._measured: dict[PointId, datetime] = {}
        self._watches: dict[PointId, tuple[Watch, ...]] = {}

    def watch(self, watches: Iterable[Watch]) -> None:
        """Watch these levels from now on, and no others."""
        self._watches = {}
        for one in watches:
            self._watches[one.point] = (*self._watches.get(one.point, ()), one)

    def put(self, readings: Iterable[Reading]) -> None:
        """Keep each reading that was not measured before what is held."""
        last, watches = self._last, self._watches
        offset = None if self._clock is None or self._steady is None else self._steady.now() - self._clock.now()
        for reading in readings:
            point = reading.point
            held = last.get(point)
            if offset is not None:
                measured = reading.measured_at + offset
                # By stamps alone, a clock set back by two hours would keep every fresh value out for two hours.
                if held is not None and measured < self._measured[point] - _SAME:
                    continue
                self._measured[point] = measured
            elif held is not None and reading.measured_at < held.measured_at:
                continue
            last[point] = reading
            if point in watches and any(one.beyond(reading) and not one.beyond(held) for one in watches[point]):
                self.crossed.set()

    def mark_stale(self, points: Iterable[PointId]) -> list[Reading]:
        """Lower the quality of points whose device is offline; returns the readings that changed."""
        changed = []
        for point in points:
            held = self._last.get(point)
            if held is not None and held.quality.usable:
                changed.append(Reading(point, held.value, held.measured_at, Quality.STALE))
                self._last[point] = changed[-1]
        return changed

    def forget(self, points: Iterable[PointId]) -> None:
        """Drop the points of a device that is no longer there."""
        for point in points:
            self._last.pop(point, None)
            self._measured.pop(point, None)

    def freeze(self, at: datetime) -> Snapshot:
        """A view that no later put changes."""
        readings = MappingProxyType(dict(self._last))
        if self._steady is None:
            return Snapshot(at, readings)
        return Snapshot(at, readings, self._steady.now(), MappingProxyType(dict(self._measured)))
