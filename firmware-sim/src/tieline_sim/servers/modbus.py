"""Modbus TCP endpoints (pymodbus server) in front of the simulated devices."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol, cast

from pymodbus.constants import ExcCodes
from pymodbus.datastore import ModbusServerContext
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from tieline_sim.devices.contactor import Contactor
from tieline_sim.devices.sunspec import ModbusRefusal, SunSpecDevice
from tieline_sim.errors import SimulatorError

_READ_FUNCTIONS: Final = (1, 2, 3, 4)
_HOLDING_READ: Final = 3
_HOLDING: Final = (3, 6, 16)
_PLACEHOLDER: Final = SimDevice(id=1, simdata=[SimData(0, values=[0], datatype=DataType.REGISTERS)])


class Unit(Protocol):
    """A device behind a unit id, with the function codes spelled out."""

    def read(self, function: int, address: int, count: int) -> tuple[list[int], dict[str, float]]:
        """Words or bits, and the measurements they carry; raises ModbusRefusal."""
        ...

    def write(self, function: int, address: int, values: Sequence[int]) -> dict[str, float]:
        """Apply a write and say what was set; raises ModbusRefusal."""
        ...


class SunSpecUnit:
    """A SunSpec device offers holding registers only."""

    def __init__(self, device: SunSpecDevice) -> None:
        self._device = device

    def read(self, function: int, address: int, count: int) -> tuple[list[int], dict[str, float]]:
        """Holding registers."""
        if function not in _HOLDING:
            raise ModbusRefusal(ExcCodes.ILLEGAL_ADDRESS)
        return self._device.read(address, count)

    def write(self, function: int, address: int, values: Sequence[int]) -> dict[str, float]:
        """Holding registers."""
        if function not in _HOLDING:
            raise ModbusRefusal(ExcCodes.ILLEGAL_ADDRESS)
        return self._device.write(address, values)


#: Told before an answer goes out: (device id, measurements in it).
Answered = Callable[[str, dict[str, float]], None]
#: Told of an accepted write: (device id, what was set).
Written = Callable[[str, dict[str, float]], None]


class _Context:
    """What the pymodbus server asks for values; stands in for its data store."""

    def __init__(self, units: dict[int, tuple[str, Unit]], answered: Answered, written: Written) -> None:
        self._units = units
        self._answered = answered
        self._written = written

    def device_ids(self) -> list[int]:
        """Unit ids."""
        return list(self._units)

    async def async_getValues(  # noqa: N802 (pymodbus calls it by this name)
        self, device_id: int, func_code: int, address: int, count: int = 1
    ) -> list[int] | list[bool] | ExcCodes:
        """Answer a read; also called for the echo of a write, which carries no measurement."""
        if device_id not in self._units:
            return ExcCodes.GATEWAY_NO_RESPONSE
        name, unit = self._units[device_id]
        try:
            words, carried = unit.read(func_code, address, count)
        except ModbusRefusal as refusal:
            return ExcCodes(refusal.code)
        if carried and func_code in _READ_FUNCTIONS:
            self._answered(name, carried)
        return words

    async def async_setValues(  # noqa: N802 (pymodbus calls it by this name)
        self, device_id: int, func_code: int, address: int, values: list[int] | list[bool]
    ) -> ExcCodes | None:
        """Answer a write."""
        if device_id not in self._units:
            return ExcCodes.GATEWAY_NO_RESPONSE
        name, unit = self._units[device_id]
        try:
            accepted = unit.write(func_code, address, values)
        except ModbusRefusal as refusal:
            return ExcCodes(refusal.code)
        self._written(name, accepted)
        return None


class ModbusEndpoint:
    """A TCP port with one or more units behind it, that can be closed and opened again.

    Args:
        port: 0 lets the system choose; kept from then on.
        units: Unit id -> (device id, device).
        answered: Called before an answer with measurements goes out.
        written: Called after an accepted write.
    """

    def __init__(self, port: int, units: dict[int, tuple[str, Unit]], answered: Answered, written: Written) -> None:
        self.port = port
        self._context = _Context(units, answered, written)
        self._server: ModbusTcpServer | None = None

    async def open(self) -> None:
        """Listen; nothing when it does already.

        Raises:
            SimulatorError: When the port is taken.
        """
        if self._server is not None:
            return
        server = ModbusTcpServer(_PLACEHOLDER, address=("127.0.0.1", self.port))
        server.context = cast("ModbusServerContext", self._context)
        try:
            await server.serve_forever(background=True)
        except RuntimeError as error:
            raise SimulatorError(f"Modbus port {self.port} on 127.0.0.1 cannot be opened: {error}") from error
        self._server = server
        if self.port == 0:
            transport: Any = server.transport
            self.port = int(transport.sockets[0].getsockname()[1])

    async def close(self) -> None:
        """Stop listening and drop every connection."""
        if self._server is not None:
            server, self._server = self._server, None
            await server.shutdown()  # type: ignore[no-untyped-call]  # pymodbus does not annotate it


def contactor_units(contactors: dict[int, Contactor]) -> dict[int, tuple[str, Unit]]:
    """Unit table of a substation's sheddable loads: ``load01`` ... behind units 1 ..."""
    return {unit: (f"load{unit:02d}", contactor) for unit, contactor in contactors.items()}
