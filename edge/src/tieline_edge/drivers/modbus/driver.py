"""A device on a Modbus bus: plain registers or SunSpec models, as its catalogue entry says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Final, Self

from tieline_core.ids import EdgeId, PointId
from tieline_core.messages.telemetry import Severity
from tieline_core.quantities import Quality, Reading
from tieline_edge.drivers.capabilities import (
    Action,
    DevicePermanentError,
    DeviceSpec,
    DeviceTransientError,
    ReadBack,
)
from tieline_edge.drivers.catalog.entry import CatalogEntry, Table
from tieline_edge.drivers.context import DriverContext
from tieline_edge.drivers.events import tell
from tieline_edge.drivers.modbus.cells import Cell, as_bytes, sheet_of
from tieline_edge.drivers.modbus.endpoint import endpoint_of
from tieline_edge.drivers.modbus.layout import Layout, locate, needed_models
from tieline_edge.drivers.modbus.link import ModbusLink
from tieline_edge.drivers.modbus.orders import Orders
from tieline_edge.drivers.modbus.registers import Block
from tieline_edge.drivers.modbus.sunspec import walk
from tieline_edge.drivers.modbus.turns import Urgency
from tieline_edge.drivers.plausibility import AFTER, Doubt, Nominal, Verdict, judge, watched
from tieline_edge.drivers.points import LARGEST, PointRow, PointTable, bad_reading, good_reading
from tieline_edge.drivers.spec import nominal_of, spec_of
from tieline_edge.settings import DeviceSettings

#: A timer that had run out starts with any write: only so many restarts in a row say that refreshing restarts it.
_TRUSTED_AGAIN: Final = 3


class ModbusDriver:
    """One unit of one Modbus bus.

    Args:
        spec: What the device is.
        entry: Its catalogue entry.
        points: Its points with their signs.
        nominal: What is known of its values beforehand.
        link: Shared connection to the bus.
        unit: Unit id.
        context: Its clock stamps the readings (a Modbus answer carries no time of its own), its recorder takes events.
        instance: Which of several SunSpec models of one number.
    """

    def __init__(
        self,
        spec: DeviceSpec,
        entry: CatalogEntry,
        points: PointTable,
        nominal: Nominal,
        link: ModbusLink,
        unit: int,
        context: DriverContext,
        instance: int = 1,
    ) -> None:
        self._spec, self._entry, self._points, self._nominal = spec, entry, points, nominal
        self._link, self._unit, self._context, self._instance = link, unit, context, instance
        sheet = sheet_of(tuple(row.point.register_ for row in points), entry.max_fill)
        self._blocks, self._scaled = sheet.blocks, sheet.scaled
        self._orders = Orders(spec, entry, Layout(), context.clock)
        self._cells = tuple(
            (row, cell, watched(row.point)) for row, cell in zip(points, sheet.cells, strict=True) if cell is not None
        )
        self._exponents: dict[Cell, int | None] = {}
        self._seen: set[PointId] = set()
        self._owed: DeviceTransientError | None = None
        self._doubt = Doubt()
        self._told_runs_down = False
        self._restarts = 0

    @property
    def spec(self) -> DeviceSpec:
        """What the device is."""
        return self._spec

    async def __aenter__(self) -> Self:
        """Connect; walk the SunSpec chain and read scale factors where the entry has models."""
        self._link.acquire()
        self._owed = None
        self._exponents = {}
        try:
            await self._discover()
        except BaseException:
            self._link.release()
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._link.release()

    async def _discover(self) -> None:
        layout = Layout()
        if needed_models(self._entry):
            models = await walk(partial(self._link.read, self._unit, Table.HOLDING))
            layout = locate(self._spec.device_id, self._entry, models, self._instance)
        self._orders = Orders(self._spec, self._entry, layout, self._context.clock, way=self._orders.way)
        async with self._link.turn(self._unit, Urgency.READ) as bus:
            await self._orders.read_scales(bus)

    async def _read_block(self, block: Block) -> Sequence[int]:
        return await self._link.read(self._unit, block.table, self._orders.layout.start(block), block.count)

    async def read(self) -> Sequence[Reading]:
        """Poll once; a block that fails makes its own points bad, what did arrive is kept.

        A time-out after the first answer is raised by the next call, so that it costs its back-off too.

        Raises:
            DeviceTransientError: Nothing could be read now.
            DevicePermanentError: The device refuses everything, or its values have been impossible several times in a row.
        """
        if self._owed is not None:
            owed, self._owed = self._owed, None
            raise owed
        answers: dict[Block, bytes] = {}
        instants = []
        refusal: DevicePermanentError | None = None
        for block in self._blocks:
            try:
                answers[block] = await self._steady(block)
                instants.append(self._context.clock.now())
            except DevicePermanentError as error:
                refusal = error
            except DeviceTransientError as error:
                if not instants:
                    raise
                self._owed = error
                break
        if not instants:
            raise refusal or DevicePermanentError(f"{self._spec.device_id}: {self._entry.name} has nothing to read")
        return self._readings(answers, instants[-1])

    async def _steady(self, block: Block) -> bytes:
        """One block whose scale factors stand still: where one has moved since the last poll, it is read once more.

        Value and scale factor come in one answer, but a device may fill that answer while it changes both.
        """
        held = as_bytes(await self._read_block(block))
        found = {cell: cell.exponent(held) for cell in self._scaled[block]}
        if any(self._exponents.get(cell, exponent) != exponent for cell, exponent in found.items()):
            held = as_bytes(await self._read_block(block))
            # A factor that moved twice belongs to no value; None drops the values that need it.
            found = {cell: exponent if cell.exponent(held) == exponent else None for cell, exponent in found.items()}
        self._exponents.update(found)
        return held

    def _readings(self, answers: Mapping[Block, bytes], at: datetime) -> list[Reading]:
        readings = []
        impossible: list[str] = []
        for row, cell, doubtful in self._cells:
            data = answers.get(cell.block)
            value = None
            if data is not None and not (cell.scaled and self._exponents.get(cell, 0) is None):
                value = cell.value(data)
            if value is not None and not -LARGEST < value < LARGEST:
                # Nothing that is measured is so large; beyond it a float loses the resolution its point promises.
                impossible.append(f"{row.point.quantity} {value:g}")
                readings.append(bad_reading(row, at))
            elif value is not None:
                self._seen.add(row.id)
                readings.append(self._judged(row, value, at, impossible) if doubtful else good_reading(row, value, at))
            elif row.id in self._seen or data is None:
                # What a device has never had is no gap; what it no longer has is one.
                readings.append(bad_reading(row, at))
        if impossible:
            # A map that is wrong for one value is wrong for the others: no number of this poll is passed on.
            readings = [Reading(reading.point, None, at, Quality.BAD) for reading in readings]
        if self._doubt.poll(bool(impossible)):
            raise DevicePermanentError(
                f"{self._spec.device_id}: impossible values in {AFTER} polls in a row ({', '.join(impossible)}); "
                f"does {self._entry.name} still fit its firmware (byte order, scale)? Nothing of it is used"
            )
        return readings

    def _judged(self, row: PointRow, value: float, at: datetime, impossible: list[str]) -> Reading:
        verdict = judge(row.point, value, self._nominal)
        if verdict is Verdict.IMPOSSIBLE:
            impossible.append(f"{row.point.quantity} {value:g}")
            return bad_reading(row, at)
        return good_reading(row, value, at, Quality.GOOD if verdict is Verdict.EXPECTED else Quality.UNCERTAIN)

    async def apply(self, action: Action) -> ReadBack:
        """Write, then read the same registers back and compare at their resolution.

        Raises:
            DeviceTransientError: The write may or may not have arrived.
            DevicePermanentError: Refused, nothing was written.
        """
        # Planned before the first byte, so that what cannot be done costs none.
        self._orders.plan(action)
        async with self._link.turn(self._unit, Urgency.WRITE) as bus:
            answer = await self._orders.carry_out(bus, action)
        await self._tell_timer(answer)
        return answer

    async def _tell_timer(self, answer: ReadBack) -> None:
        self._restarts = 0 if answer.runs_down else self._restarts + 1
        if answer.runs_down == self._told_runs_down or (self._told_runs_down and self._restarts < _TRUSTED_AGAIN):
            return
        text = answer.text[-400:] if answer.runs_down else "its reversion timer restarts with each refresh again"
        severity = Severity.ALARM if answer.runs_down else Severity.INFORMATION
        name = self._spec.device_id
        if await tell(self._context, name, severity, "device.reversion", f"{name}: {text}"):
            self._told_runs_down = answer.runs_down


def build(settings: DeviceSettings, entry: CatalogEntry, edge: EdgeId, context: DriverContext) -> ModbusDriver:
    """A driver that is not connected yet.

    Raises:
        DevicePermanentError: Without a ``modbus`` block, or when its bus is configured in two ways.
    """
    if settings.modbus is None:
        raise DevicePermanentError(f"{settings.id}: {entry.name} speaks Modbus, modbus.host or modbus.serial is missing")
    return ModbusDriver(
        spec_of(settings),
        entry,
        PointTable(edge, settings, entry),
        nominal_of(settings, entry),
        context.modbus_links.link(endpoint_of(settings.modbus), settings.modbus.timeout_s),
        settings.modbus.unit,
        context,
        settings.modbus.instance,
    )
