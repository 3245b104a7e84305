"""A device on Modbus TCP: plain registers or SunSpec models, as its catalogue entry says."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import partial
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
)
from tieline_edge.drivers.catalog.entry import CatalogEntry, Register, Table
from tieline_edge.drivers.context import DriverContext
from tieline_edge.drivers.modbus.link import ModbusLink
from tieline_edge.drivers.modbus.program import RegisterWrite, Scales, plan_writes
from tieline_edge.drivers.modbus.registers import Block, Words, coalesce
from tieline_edge.drivers.modbus.sunspec import walk
from tieline_edge.drivers.points import PointTable, bad_reading, good_reading
from tieline_edge.drivers.spec import spec_of
from tieline_edge.settings import DeviceSettings


class ModbusDriver:
    """One unit of one Modbus TCP server.

    Args:
        spec: What the device is.
        entry: Its catalogue entry.
        points: Its points with their signs.
        link: Shared connection to the server.
        unit: Unit id.
        clock: Stamps the readings: a Modbus answer carries no time of its own.
    """

    def __init__(
        self, spec: DeviceSpec, entry: CatalogEntry, points: PointTable, link: ModbusLink, unit: int, clock: Clock
    ) -> None:
        self._spec, self._entry, self._points = spec, entry, points
        self._link, self._unit, self._clock = link, unit, clock
        self._bases: dict[int, int] = {}
        self._blocks = coalesce(row.point.register_ for row in points if row.point.register_)
        self._scales = Scales({})
        self._owed: DeviceTransientError | None = None

    @property
    def spec(self) -> DeviceSpec:
        """What the device is."""
        return self._spec

    async def __aenter__(self) -> Self:
        """Connect; walk the SunSpec chain and read scale factors where the entry has models."""
        self._link.acquire()
        self._owed = None
        try:
            await self._discover()
        except BaseException:
            self._link.release()
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._link.release()

    async def _discover(self) -> None:
        written = self._writable()
        registers = [row.point.register_ for row in self._points if row.point.register_]
        needed = {register.model: 0 for register in (*registers, *written) if register.model is not None}
        for register in (*registers, *written):
            if register.model is not None:
                end = max(register.address + register.type.words, (register.scale_factor or 0) + 1)
                needed[register.model] = max(needed[register.model], end)
        if needed:
            models = await walk(partial(self._link.read, self._unit, Table.HOLDING))
            found = {model.number: model for model in reversed(models)}
            for number, end in needed.items():
                if number not in found:
                    have = ", ".join(str(model.number) for model in models)
                    raise DevicePermanentError(
                        f"{self._spec.device_id}: {self._entry.name} needs SunSpec model {number}; the device has {have}"
                    )
                if end > found[number].length + 2:
                    raise DevicePermanentError(
                        f"{self._spec.device_id}: SunSpec model {number} is {found[number].length} registers long, "
                        f"{self._entry.name} needs {end - 2}"
                    )
            self._bases = {number: found[number].address for number in needed}
        await self._read_scales(written)

    def _writable(self) -> tuple[Register, ...]:
        writes = self._entry.writes
        steps = (*writes.hold_power, *writes.limit_generation, *writes.open, *writes.close, *writes.release)
        return tuple(dict.fromkeys(step.register_ for step in steps))

    async def _read_scales(self, written: Iterable[Register]) -> None:
        scaled = [register for register in written if register.scale_factor is not None]
        rating = self._entry.rating
        factors = [
            Register(address=register.scale_factor, model=register.model)
            for register in scaled
            if register.scale_factor is not None
        ]
        words = Words()
        for block in coalesce([*factors, *([rating] if rating else [])]):
            words.add(block, await self._read_block(block))
        exponents = {register: words.exponent(register) for register in written}
        self._scales = Scales(
            {register: exponent for register, exponent in exponents.items() if exponent is not None},
            words.value(rating) if rating else None,
        )

    def _address(self, group: int, address: int) -> int:
        return self._bases[group] + address if group else address

    async def _read_block(self, block: Block) -> Sequence[int]:
        return await self._link.read(self._unit, block.table, self._address(block.group, block.start), block.count)

    async def read(self) -> Sequence[Reading]:
        """Poll once; a block that fails makes its own points bad, what did arrive is kept.

        A time-out after the first answer is raised by the next call, so that it costs its back-off too.
        """
        if self._owed is not None:
            owed, self._owed = self._owed, None
            raise owed
        words = Words()
        instants = []
        refusal: DevicePermanentError | None = None
        for block in self._blocks:
            try:
                words.add(block, await self._read_block(block))
                instants.append(self._clock.now())
            except DevicePermanentError as error:
                refusal = error
            except DeviceTransientError as error:
                if not instants:
                    raise
                self._owed = error
                break
        if not instants:
            raise refusal or DevicePermanentError(f"{self._spec.device_id}: {self._entry.name} has nothing to read")
        return self._readings(words, instants[-1])

    def _readings(self, words: Words, at: datetime) -> list[Reading]:
        readings = []
        for row in self._points:
            register = row.point.register_
            if register is None:
                continue
            if not words.arrived(register):
                readings.append(bad_reading(row, at))
                continue
            value = words.value(register)
            if value is not None:
                readings.append(good_reading(row, value, at))
        return readings

    async def apply(self, action: Action) -> ReadBack:
        """Write, then read the same registers back and compare at their resolution."""
        requests = plan_writes(action, self._spec, self._entry, self._scales)
        for request in requests:
            address = self._address(request.group, request.address)
            await self._link.write(self._unit, request.table, address, request.words)
        return await self._read_back(requests)

    async def _read_back(self, requests: Sequence[RegisterWrite]) -> ReadBack:
        confirmed, texts = True, []
        for request in requests:
            block = Block(request.table, request.group, request.address, len(request.words))
            held = tuple(await self._read_block(block))
            confirmed = confirmed and held == request.words
            text = ", ".join(request.labels)
            texts.append(text if held == request.words else f"{text}: wrote {list(request.words)}, holds {list(held)}")
        return ReadBack(confirmed, "; ".join(texts) or "nothing to write")


def build(settings: DeviceSettings, entry: CatalogEntry, edge: EdgeId, context: DriverContext) -> ModbusDriver:
    """A driver that is not connected yet."""
    if settings.modbus is None:
        raise DevicePermanentError(f"{settings.id}: {entry.name} speaks Modbus, modbus.host is missing")
    endpoint = settings.modbus
    return ModbusDriver(
        spec_of(settings),
        entry,
        PointTable(edge, settings, entry),
        context.modbus_links.link(endpoint.host, endpoint.port, endpoint.timeout_s),
        endpoint.unit,
        context.clock,
    )
