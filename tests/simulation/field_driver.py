"""The driver of every simulated device: it stands in the table of protocols for all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Final, Self

from tests.simulation.field import Field, Unit
from tieline_core.clock import Clock
from tieline_core.ids import EdgeId
from tieline_core.quantities import Reading, round_to
from tieline_edge.drivers.capabilities import (
    Action,
    DevicePermanentError,
    DeviceSpec,
    DeviceTransientError,
    ReadBack,
)
from tieline_edge.drivers.catalog.entry import CatalogEntry
from tieline_edge.drivers.context import DriverContext
from tieline_edge.drivers.points import PointRow, PointTable, bad_reading
from tieline_edge.drivers.spec import spec_of
from tieline_edge.settings import DeviceSettings

_TIMEOUT_S: Final = 1.0
#: The field of the simulation that runs now; there is one at a time in a process.
_FIELDS: Final[list[Field]] = []


@contextmanager
def serving(one: Field) -> Iterator[None]:
    """Inside, devices are found in this field; afterwards nothing here keeps it in memory."""
    _FIELDS[:] = [one]
    try:
        yield
    finally:
        _FIELDS.clear()


class FieldDriver:
    """Speaks to one simulated device."""

    def __init__(self, spec: DeviceSpec, rows: PointTable, plant: Field, unit: Unit, clock: Clock) -> None:
        self._spec, self._rows, self._field, self._unit, self._clock = spec, tuple(rows), plant, unit, clock

    @property
    def spec(self) -> DeviceSpec:
        """What the device is."""
        return self._spec

    async def __aenter__(self) -> Self:
        await self._reach()
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Nothing to close."""

    async def _reach(self) -> None:
        if self._unit.faults.dead:
            await asyncio.sleep(_TIMEOUT_S)
            raise DeviceTransientError(f"{self._spec.device_id}: no answer within {_TIMEOUT_S:g} s")
        await asyncio.sleep(self._field.latency_s(self._unit))

    async def read(self) -> Sequence[Reading]:
        """Poll once."""
        await self._reach()
        values = self._field.show(self._unit)
        now = self._clock.now()
        return [self._reading(row, values, now) for row in self._rows if row.point.quantity in values]

    @staticmethod
    def _reading(row: PointRow, values: dict[str, float | None], now: datetime) -> Reading:
        value = values[row.point.quantity]
        if value is None:
            return bad_reading(row, now)
        return Reading(row.id, round_to(value, row.exponent) + 0.0, now)

    async def apply(self, action: Action) -> ReadBack:
        """Write; what the device does with it is its own affair."""
        await self._reach()
        if self._unit.faults.refuses:
            raise DevicePermanentError(f"{self._spec.device_id}: illegal value; nothing was written")
        self._field.tell(self._unit, action)
        await self._reach()
        if self._unit.faults.deaf:
            await asyncio.sleep(_TIMEOUT_S)
            raise DeviceTransientError(f"{self._spec.device_id}: the answer was lost")
        return ReadBack(confirmed=True, text="as written")


def build(settings: DeviceSettings, entry: CatalogEntry, edge: EdgeId, context: DriverContext) -> FieldDriver:
    """A driver that is not connected yet."""
    plant = _FIELDS[0]
    return FieldDriver(spec_of(settings), PointTable(edge, settings, entry), plant, plant.units[settings.id], context.clock)
