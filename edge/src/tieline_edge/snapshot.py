"""The process image: pollers put the latest readings, each cycle takes one frozen view of all of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Final

from tieline_core.ids import PointId
from tieline_core.quantities import Quality, Reading

#: A source may be this far ahead of our clock [s]; beyond it its clock is wrong and its value decides nothing.
AHEAD_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All last values at one instant.

    Attributes:
        at: When the view was frozen.
        readings: Last reading of each point.
    """

    at: datetime
    readings: Mapping[PointId, Reading]

    def value(self, point: PointId, max_age_s: float) -> float | None:
        """The number of a point when it is usable, young enough and not from the future, else None."""
        reading = self.readings.get(point)
        if reading is None or not reading.quality.usable or not -AHEAD_S <= self.age_s(point) <= max_age_s:
            return None
        return reading.value

    def age_s(self, point: PointId) -> float:
        """Seconds since the point was measured; infinite when it never was."""
        reading = self.readings.get(point)
        return float("inf") if reading is None else (self.at - reading.measured_at).total_seconds()


class ProcessImage:
    """The only mutable holder of last values; owned by the agent, written by pollers, frozen by the cycle."""

    def __init__(self) -> None:
        self._last: dict[PointId, Reading] = {}

    def put(self, readings: Iterable[Reading]) -> None:
        """Keep each reading that is not older than what is held."""
        for reading in readings:
            held = self._last.get(reading.point)
            if held is None or reading.measured_at >= held.measured_at:
                self._last[reading.point] = reading

    def mark_stale(self, points: Iterable[PointId]) -> list[Reading]:
        """Lower the quality of points whose device is offline; returns the readings that changed."""
        changed = []
        for point in points:
            held = self._last.get(point)
            if held is not None and held.quality.usable:
                changed.append(Reading(point, held.value, held.measured_at, Quality.STALE))
                self._last[point] = changed[-1]
        return changed

    def freeze(self, at: datetime) -> Snapshot:
        """A view that no later put changes."""
        return Snapshot(at, MappingProxyType(dict(self._last)))
