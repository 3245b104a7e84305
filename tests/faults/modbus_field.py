"""A field of pymodbus servers whose registers, exceptions and wire can be made to fail, with pollers of the edge in front."""

from __future__ import annotations

import asyncio
import random
import struct
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Self

from pymodbus.constants import ExcCodes
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from tests.edge.drivers.field import EDGE, LENGTHS, MemoryRecorder, make_context
from tieline_core.clock import SystemClock
from tieline_core.ids import DeviceId
from tieline_edge.sampling import Backoff, DeviceHandle, Poller, open_devices
from tieline_edge.settings import CycleSettings, EdgeSettings
from tieline_edge.snapshot import ProcessImage

#: Fills the registers of a unit before it answers: (first address, registers, request); an exception code refuses.
Answer = Callable[[int, list[int], tuple[int, int, int]], ExcCodes | None]


def floats(registers: list[int], values: dict[int, float], swapped: bool = False) -> None:
    """Put IEEE 754 floats into registers, words exchanged or not."""
    for at, value in values.items():
        words = struct.unpack(">2H", struct.pack(">f", value))
        registers[at : at + 2] = words[::-1] if swapped else words


def meter_630(power_w: float, swapped: bool = False) -> dict[str, Any]:
    """What an Eastron SDM630 shows: for :func:`floats`."""
    values = {52: power_w, 56: abs(power_w), 60: 0.0, 42: 230.5, 70: 50.0, 72: 1000.0, 74: 0.0}
    return {"values": values, "swapped": swapped}


def sunspec_registers(models: Sequence[int]) -> tuple[list[int], dict[int, int]]:
    """A SunSpec chain of zeros from 40000 on, and where each model's ID stands in it."""
    registers, at = [0x5375, 0x6E53], {}
    for model in models:
        at[model] = len(registers)
        registers += [model, LENGTHS[model], *[0] * LENGTHS[model]]
    return [*registers, 0xFFFF, 0], at


@dataclass
class Field:
    """One pymodbus server with units.

    Attributes:
        units: Unit id -> (first address, registers, what it answers).
        written: Every write that reached the server: (unit, address).
    """

    units: dict[int, tuple[int, list[int], Answer]]
    written: list[tuple[int, int]] = field(default_factory=list)
    port: int = 0
    _server: ModbusTcpServer | None = None

    async def __aenter__(self) -> Self:
        devices = [self._device(unit, *row) for unit, row in self.units.items()]
        self._server = ModbusTcpServer(devices, address=("127.0.0.1", 0))
        await self._server.serve_forever(background=True)
        transport: Any = self._server.transport
        self.port = int(transport.sockets[0].getsockname()[1])
        return self

    async def __aexit__(self, *exc: object) -> None:
        assert self._server is not None
        await self._server.shutdown()  # type: ignore[no-untyped-call]  # pymodbus does not annotate it

    def _device(self, unit: int, first: int, registers: list[int], answer: Answer) -> SimDevice:
        async def action(
            function: int, start: int, address: int, count: int, current: list[int], values: list[int] | list[bool] | None
        ) -> ExcCodes | None:
            if values is not None:
                self.written.append((unit, address))
            return answer(start, current, (function, address, count))

        data = SimData(first, values=registers, datatype=DataType.REGISTERS)
        return SimDevice(id=unit, simdata=[data], action=action)


@dataclass
class Pollers:
    """The edge's side: handles with a poller each, fast and with short pauses."""

    handles: dict[DeviceId, DeviceHandle]
    recorder: MemoryRecorder
    image: ProcessImage

    def values(self, quantity: str, device: str) -> list[float]:
        """Numbers recorded of a point, in order."""
        return [
            reading.value
            for reading in self.recorder.readings
            if reading.point == f"{EDGE}/{device}/{quantity}" and reading.value is not None
        ]

    def usable(self, device: str) -> set[str]:
        """Quantities of a device that a decision may be based on now."""
        readings = self.image.freeze(SystemClock().now()).readings.values()
        return {str(r.point.quantity) for r in readings if r.point.device == device and r.quality.usable}

    async def until(self, what: str, holds: Callable[[], bool], within_s: float = 20.0) -> None:
        """Wait for something to hold."""
        try:
            async with asyncio.timeout(within_s):
                while not holds():  # noqa: ASYNC110 - many things change what is waited for
                    await asyncio.sleep(0.01)
        except TimeoutError:
            raise AssertionError(f"waited {within_s:g} s for {what}; events {self.recorder.codes()}") from None


@asynccontextmanager
async def polling(devices: Sequence[dict[str, Any]], period_s: float = 0.02) -> AsyncIterator[Pollers]:
    """Poll the devices until the body ends."""
    site = {
        "edge_id": EDGE,
        "state_dir": "/nowhere",
        "site": {"name": "x", "rated_va": 1000},
        "hub": {"mqtt": {"host": "127.0.0.1"}, "http": "http://127.0.0.1"},
        "devices": [{"poll_s": period_s, **device} for device in devices],
    }
    context, recorder = make_context(SystemClock())
    handles = open_devices(EdgeSettings.model_validate(site), context)
    cycle, rng = CycleSettings(floor_wall_s=0.005), random.Random(0)
    tasks = [
        asyncio.create_task(Poller(handle, context, cycle, rng, Backoff(0.1, 0.5)).run(0.0)) for handle in handles.values()
    ]
    try:
        yield Pollers(handles, recorder, context.image)
    finally:
        for task in tasks:
            task.cancel()
        done = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(end, asyncio.CancelledError) for end in done), done


#: What becomes of an answer: pieces to send, each after a wait [s]; (this frame, the one before it).
Mangle = Callable[[bytes, bytes], list[tuple[float, bytes]]]


@dataclass
class Wire:
    """A man in the middle of Modbus TCP: each answer goes through ``mangle``."""

    to_port: int
    mangle: Mangle | None = None
    port: int = 0
    connections: int = 0
    _server: asyncio.Server | None = None
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

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

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self.to_port)
        answers = asyncio.create_task(self._answers(there_reader, writer))
        try:
            while data := await reader.read(4096):
                there_writer.write(data)
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            answers.cancel()
            there_writer.close()
            writer.close()
            self._tasks.discard(task)

    async def _answers(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        before = b""
        try:
            while True:
                head = await reader.readexactly(6)
                frame = head + await reader.readexactly(int.from_bytes(head[4:6], "big"))
                for wait_s, piece in self.mangle(frame, before) if self.mangle else [(0.0, frame)]:
                    await asyncio.sleep(wait_s)
                    if not writer.is_closing():
                        writer.write(piece)
                before = frame
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
