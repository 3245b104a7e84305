"""Test stands for the conformance suite: each driver with a real device at the other end of a line that can be cut or hang.

A new protocol gets one function here and one line in :data:`STANDS`; ``test_driver_contract.py`` does the rest.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final, Self

from deploy.ports import free_port
from tests.edge.drivers.field import EDGE, ModbusServer
from tests.edge.drivers.opcua_server import serving
from tests.edge.drivers.rtu import RtuGateway
from tieline_edge.drivers._blueprint.driver import BlueprintDriver
from tieline_edge.drivers.capabilities import Action, Driver, HoldPower, SwitchContact
from tieline_edge.drivers.catalog.load import entry
from tieline_edge.drivers.context import DriverContext
from tieline_edge.drivers.points import PointTable
from tieline_edge.drivers.registry import open_driver
from tieline_edge.drivers.spec import spec_of
from tieline_edge.settings import DeviceSettings


class Line(Enum):
    """What the line between driver and device does."""

    OPEN = "open"
    CUT = "cut"
    HANGS = "hangs"


@dataclass
class Tap:
    """A TCP line that counts what the driver sends, can be cut (refused and reset) and can hang (swallowing everything)."""

    to_port: int
    line: Line = Line.OPEN
    sent: int = 0
    port: int = 0
    _server: asyncio.Server | None = None
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = int(self._server.sockets[0].getsockname()[1])
        return self

    async def __aexit__(self, *exc: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def set(self, line: Line) -> None:
        """Change the line; a cut ends what is connected."""
        self.line = line
        if line is Line.CUT:
            for writer in self._writers:
                writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        try:
            if self.line is not Line.CUT:
                there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self.to_port)
                back = asyncio.create_task(self._copy(there_reader, writer))
                try:
                    while data := await reader.read(4096):
                        self.sent += len(data)
                        if self.line is Line.OPEN:
                            there_writer.write(data)
                finally:
                    back.cancel()
                    there_writer.close()
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()
            self._writers.discard(writer)
            self._tasks.discard(task)

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(4096):
                if self.line is Line.OPEN and not writer.is_closing():
                    writer.write(data)
        except ConnectionError:
            pass


@dataclass
class Stand:
    """One driver with its device.

    Attributes:
        settings: The device as configured.
        set_line: Changes the line.
        writes: How many writes have reached the device, or bytes where every byte is the driver's own doing.
        order: An order it takes; None where the device only measures.
        refused: An order it must refuse.
        make: The driver, not connected yet.
        timeout_s: The longest the driver waits for one answer.
    """

    settings: DeviceSettings
    set_line: Callable[[Line], None]
    writes: Callable[[], int]
    order: Action | None
    refused: Action
    make: Callable[[DriverContext], Driver]
    timeout_s: float = 1.0


REFUSED: Final = HoldPower(1e9, 60.0)
OPEN_CONTACT: Final = SwitchContact(closed=False, off_timer_s=60.0)


def _registry(settings: DeviceSettings) -> Callable[[DriverContext], Driver]:
    return lambda context: open_driver(settings, EDGE, context)


def _load_switch(bank: ModbusServer) -> None:
    bank.put(1, 0, [0, 12000, 2305, 1, 1], bank.inputs)
    bank.put(1, 0, [1], bank.discretes)
    bank.put(1, 0, [1], bank.coils)
    bank.put(1, 0, [1, 0])


def _modbus(port: int, **more: Any) -> DeviceSettings:
    place = {"host": "127.0.0.1", "port": port, "timeout_s": 1.0, **more}
    return DeviceSettings.model_validate({"id": "d1", "catalog": "modbus-load-switch", "priority_class": 2, "modbus": place})


@asynccontextmanager
async def modbus_tcp() -> AsyncIterator[Stand]:
    """A load switch on Modbus TCP."""
    async with ModbusServer() as server, Tap(server.port) as tap:
        _load_switch(server)
        settings = _modbus(tap.port)
        yield Stand(settings, tap.set, lambda: tap.sent, OPEN_CONTACT, REFUSED, _registry(settings))


@asynccontextmanager
async def modbus_rtu_over_tcp() -> AsyncIterator[Stand]:
    """The same behind a transparent gateway."""
    async with RtuGateway() as gateway, Tap(gateway.port) as tap:
        _load_switch(gateway.bank)
        settings = _modbus(tap.port, framing="rtu")
        yield Stand(settings, tap.set, lambda: tap.sent, OPEN_CONTACT, REFUSED, _registry(settings))


@asynccontextmanager
async def opcua() -> AsyncIterator[Stand]:
    """A switchgear bay on an OPC-UA server."""
    from asyncua import ua

    port = free_port()
    async with serving(port) as bay, Tap(port) as tap:
        nodes = [point.node.rpartition(".")[2] for point in entry("switchgear-bay-opcua").points if point.node]
        await bay.add("F1", {name: True if name == "Closed" else 230.0 for name in nodes})
        await bay.add("F1", {"OffTimerS": ua.Variant(0, ua.VariantType.UInt16), "CloseCommand": True}, writable=True)
        bay.url = f"opc.tcp://127.0.0.1:{tap.port}/tieline"
        settings = bay.settings("F1", "switchgear-bay-opcua", priority_class=3, opcua={"timeout_s": 3.0})
        # Its session keeps itself alive, so that bytes say nothing: the server counts the writes.
        yield Stand(settings, tap.set, lambda: len(bay.written), OPEN_CONTACT, REFUSED, _registry(settings), 3.0)


@asynccontextmanager
async def blueprint() -> AsyncIterator[Stand]:
    """The driver to copy: its device is a dictionary."""
    model = entry("transformer-bay-opcua")
    place = {"url": "opc.tcp://127.0.0.1:1", "insecure": True}
    settings = DeviceSettings.model_validate({"id": "d1", "catalog": model.name, "opcua": place})
    answers: dict[str, float | None] = {"p_w": 1.0}

    def set_line(line: Line) -> None:
        answers.clear()
        answers.update({"p_w": 1.0} if line is Line.OPEN else {})

    def make(context: DriverContext) -> Driver:
        return BlueprintDriver(spec_of(settings), PointTable(EDGE, settings, model), answers, context.clock)

    yield Stand(settings, set_line, lambda: 0, None, REFUSED, make)


#: Name -> stand.
STANDS: Final[dict[str, Callable[[], AbstractAsyncContextManager[Stand]]]] = {
    "modbus tcp": modbus_tcp,
    "modbus rtu over tcp": modbus_rtu_over_tcp,
    "opcua": opcua,
    "blueprint": blueprint,
}
#: Protocols without a stand, and why.
EXEMPT: Final = {"mqtt": "it is not asked but publishes; tests/edge/drivers/test_mqtt_gateway.py holds its contract"}
