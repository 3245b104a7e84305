"""A recorder in memory and a Modbus server that counts bytes and misbehaves on demand, for the tests of the field side."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Self

from tieline_core.clock import Clock, ManualClock
from tieline_core.errors import TransientError
from tieline_core.ids import EdgeId
from tieline_core.messages.telemetry import Event, IssuedForecast
from tieline_core.quantities import Reading
from tieline_edge.drivers.context import DriverContext
from tieline_edge.drivers.mqtt.gateway import MeterGateway
from tieline_edge.outbox.ports import RecordedInstants
from tieline_edge.settings import MqttEndpoint
from tieline_edge.snapshot import ProcessImage

EDGE = EdgeId("harbour")
START = datetime(2016, 12, 7, 15, 30, tzinfo=UTC)


@dataclass
class MemoryRecorder:
    """Keeps everything in lists; ``refuse`` makes the next calls fail as a full disk does."""

    readings: list[Reading] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    refuse: int = 0

    async def record(self, readings: Sequence[Reading]) -> None:
        await asyncio.sleep(0)
        if self.refuse:
            self.refuse -= 1
            raise TransientError("disk full")
        self.readings.extend(readings)

    async def record_event(self, event: Event) -> None:
        self.events.append(event)

    async def record_forecast(self, forecast: IssuedForecast) -> None:
        raise AssertionError("drivers issue no forecasts")

    def codes(self) -> list[str]:
        return [event.code for event in self.events]


def make_context(
    clock: Clock | None = None, broker: MqttEndpoint | None = None, recorded: RecordedInstants | None = None
) -> tuple[DriverContext, MemoryRecorder]:
    """A context with a recorder in memory and a clock that stands still."""
    clock, recorder, image = clock or ManualClock(START), MemoryRecorder(), ProcessImage()
    meters = MeterGateway(broker, EDGE, clock, recorder, image, recorded) if broker else None
    return DriverContext(EDGE, clock, recorder, image, meters, recorded), recorder


@dataclass
class ModbusServer:
    """Modbus TCP server over dictionaries, one bank per unit; FC 1-6, 15 and 16.

    Attributes:
        holding: (unit, address) -> word; the other tables likewise.
        exceptions: (unit, function) -> exception code to answer with.
        delays_s: Answers of a unit come this much later.
        silent: Units that never answer.
        stuck: (unit, address) of holding registers and coils that ignore what is written.
        written: Told of each write after it took effect: (unit, address, words).
        asked: Told of each request before it is answered: (unit, function, address).
    """

    holding: dict[tuple[int, int], int] = field(default_factory=dict)
    inputs: dict[tuple[int, int], int] = field(default_factory=dict)
    coils: dict[tuple[int, int], int] = field(default_factory=dict)
    discretes: dict[tuple[int, int], int] = field(default_factory=dict)
    exceptions: dict[tuple[int, int], int] = field(default_factory=dict)
    delays_s: dict[int, float] = field(default_factory=dict)
    silent: set[int] = field(default_factory=set)
    stuck: set[tuple[int, int]] = field(default_factory=set)
    written: Callable[[int, int, Sequence[int]], None] = lambda *_: None
    asked: Callable[[int, int, int], None] = lambda *_: None
    requests: list[tuple[int, int, int]] = field(default_factory=list)
    bytes_in: int = 0
    connections: int = 0
    port: int = 0
    _server: asyncio.Server | None = None
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = int(self._server.sockets[0].getsockname()[1])
        return self

    async def __aexit__(self, *exc: object) -> None:
        assert self._server is not None
        self._server.close()
        for writer in self._writers:
            writer.close()
        await self._server.wait_closed()

    def put(self, unit: int, address: int, words: Sequence[int], table: dict[tuple[int, int], int] | None = None) -> None:
        """Set neighbouring words."""
        for offset, word in enumerate(words):
            (self.holding if table is None else table)[unit, address + offset] = word

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)
        try:
            while True:
                head = await reader.readexactly(7)
                transaction, _, length, unit = struct.unpack(">HHHB", head)
                pdu = await reader.readexactly(length - 1)
                self.bytes_in += 7 + len(pdu)
                if unit in self.silent:
                    continue
                if unit in self.delays_s:
                    await asyncio.sleep(self.delays_s[unit])
                answer = self._answer(unit, pdu)
                writer.write(struct.pack(">HHHB", transaction, 0, len(answer) + 1, unit) + answer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()

    def _answer(self, unit: int, pdu: bytes) -> bytes:
        function, address, count = struct.unpack(">BHH", pdu[:5])
        self.requests.append((unit, function, address))
        self.asked(unit, function, address)
        if (unit, function) in self.exceptions:
            return bytes([function | 0x80, self.exceptions[unit, function]])
        if function in (1, 2, 3, 4):
            table = {1: self.coils, 2: self.discretes, 3: self.holding, 4: self.inputs}[function]
            keys = [(unit, address + offset) for offset in range(count)]
            if any(key not in table for key in keys):
                return bytes([function | 0x80, 2])
            values = [table[key] for key in keys]
            if function > 2:
                return bytes([function, 2 * count]) + struct.pack(f">{count}H", *values)
            bits = sum(value << offset for offset, value in enumerate(values)).to_bytes((count + 7) // 8, "little")
            return bytes([function, len(bits)]) + bits
        table = self.coils if function in (5, 15) else self.holding
        if function in (5, 6):
            words = [int(count == 0xFF00) if function == 5 else count]
        elif function == 15:
            words = [pdu[6 + offset // 8] >> offset % 8 & 1 for offset in range(count)]
        else:
            words = list(struct.unpack(f">{count}H", pdu[6:]))
        for offset, word in enumerate(words):
            if (unit, address + offset) not in table:
                return bytes([function | 0x80, 2])
            if (unit, address + offset) not in self.stuck:
                table[unit, address + offset] = word
        self.written(unit, address, words)
        return pdu[:5]


SUNS = (0x5375, 0x6E53)
#: Length of each SunSpec model, without its two header registers, from the public model files.
LENGTHS = {1: 66, 120: 26, 123: 24, 124: 24, 701: 153, 704: 65, 713: 7, 802: 62}
LENGTHS |= dict.fromkeys((101, 102, 103), 50) | dict.fromkeys((201, 202, 203, 204), 105)


def sunspec_map(server: ModbusServer, models: Sequence[int], unit: int = 1, base: int = 40000) -> dict[int, int]:
    """Lay a chain of models, all registers 0; returns model -> address of its ID register."""
    server.put(unit, base, SUNS)
    address, found = base + 2, {}
    for model in models:
        found[model] = address
        server.put(unit, address, [model, LENGTHS[model], *[0] * LENGTHS[model]])
        address += 2 + LENGTHS[model]
    server.put(unit, address, [0xFFFF, 0])
    return found
