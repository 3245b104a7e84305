"""The smallest complete driver: it is type-checked and tested like the others, and reads a protocol that does not exist.

What a driver owes the rest of the agent:

- entering connects, leaving closes, and it may be entered again after an error; connections shared between devices
  live in :class:`~tieline_edge.drivers.context.DriverContext`;
- ``read`` keeps what arrived: one point that fails is a bad reading of that point, only "nothing arrived" raises;
- ``DeviceTransientError`` when trying again may help, ``DevicePermanentError`` when the configuration has to change;
- ``apply`` refuses before the first byte what the device cannot do, writes, and reads the same registers back;
- heavy libraries are imported inside ``__aenter__``; each wait has a time-out; a cancelled call leaves no task behind.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

from tieline_core.clock import Clock
from tieline_core.ids import EdgeId
from tieline_core.quantities import Reading
from tieline_edge.drivers.capabilities import (
    Action,
    DevicePermanentError,
    DeviceSpec,
    DeviceTransientError,
    ReadBack,
    Release,
)
from tieline_edge.drivers.catalog.entry import CatalogEntry
from tieline_edge.drivers.context import DriverContext
from tieline_edge.drivers.points import PointTable, bad_reading, good_reading
from tieline_edge.drivers.spec import spec_of
from tieline_edge.settings import DeviceSettings


class BlueprintDriver:
    """A device that answers from a dictionary.

    Args:
        spec: What the device is.
        points: Its points with their signs.
        answers: What the device says for each quantity; None stands for a point that fails.
        clock: Stamps the readings.
    """

    def __init__(self, spec: DeviceSpec, points: PointTable, answers: dict[str, float | None], clock: Clock) -> None:
        self._spec, self._points, self._answers, self._clock = spec, points, answers, clock
        self._connected = False

    @property
    def spec(self) -> DeviceSpec:
        """What the device is."""
        return self._spec

    async def __aenter__(self) -> Self:
        """Connect."""
        self._connected = True
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._connected = False

    async def read(self) -> Sequence[Reading]:
        """Poll once."""
        if not self._connected or not self._answers:
            raise DeviceTransientError(f"{self._spec.device_id}: no answer")
        now = self._clock.now()
        answers = [(row, self._answers.get(row.point.quantity)) for row in self._points]
        return [bad_reading(row, now) if value is None else good_reading(row, value, now) for row, value in answers]

    async def apply(self, action: Action) -> ReadBack:
        """Nothing can be asked of it, and it may always be released."""
        if isinstance(action, Release):
            return ReadBack(confirmed=True, text="nothing to write")
        raise DevicePermanentError(f"{self._spec.device_id} only measures; nothing was written")


def build(settings: DeviceSettings, entry: CatalogEntry, edge: EdgeId, context: DriverContext) -> BlueprintDriver:
    """A driver that is not connected yet."""
    return BlueprintDriver(spec_of(settings), PointTable(edge, settings, entry), {}, context.clock)
