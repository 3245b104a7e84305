"""A Modbus TCP server of contactors, written from the protocol's specification; it survives the edges that are killed.

Each unit is one load: coil 0 is the order, discrete input 0 the feedback of the contact, input registers 0-1 the power [W]
(INT32), 2 the voltage [0.1 V], 3-4 the energy. What reaches it is kept in a log: the witness of every test.
"""

from __future__ import annotations

import asyncio
import struct
import time
from dataclasses import dataclass, field
from typing import Final, Self

READS: Final = frozenset({1, 2, 3, 4})


@dataclass
class Contactor:
    """One load.

    Attributes:
        obeys: It acts on its coil; False = it echoes and does nothing.
        delay_s: So much later the contact follows.
    """

    closed: bool = True
    coil: bool = True
    obeys: bool = True
    delay_s: float = 0.0
    moves: int = 0

    async def told(self, coil: bool) -> None:
        """Take an order."""
        self.coil = coil
        if not self.obeys:
            return
        await asyncio.sleep(self.delay_s)
        self.moves += self.closed is not coil
        self.closed = coil


@dataclass(frozen=True)
class Request:
    """One request that arrived."""

    at_s: float
    unit: int
    function: int
    address: int
    value: int

    @property
    def writes(self) -> bool:
        """Whether it was to change something."""
        return self.function not in READS


@dataclass
class Contactors:
    """The server.

    Attributes:
        units: The loads by unit id.
        log: All requests in the order of their arrival.
    """

    units: dict[int, Contactor]
    log: list[Request] = field(default_factory=list)
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
        for writer in self._writers:
            writer.close()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def writes(self, unit: int | None = None) -> list[Request]:
        """Writes that arrived, of one unit or of all."""
        return [one for one in self.log if one.writes and unit in (None, one.unit)]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        try:
            while True:
                head = await reader.readexactly(7)
                transaction, _protocol, length, unit = struct.unpack(">HHHB", head)
                body = await reader.readexactly(length - 1)
                answer = self._answer(unit, body)
                writer.write(struct.pack(">HHHB", transaction, 0, len(answer) + 1, unit) + answer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()
            self._writers.discard(writer)
            self._tasks.discard(task)

    def _answer(self, unit: int, body: bytes) -> bytes:
        function, address, value = struct.unpack(">BHH", body[:5])
        self.log.append(Request(time.monotonic(), unit, function, address, value))
        load = self.units.get(unit)
        if load is None:
            return bytes([function | 0x80, 11])
        if function in (1, 2):
            bit = load.coil if function == 1 else load.closed
            return bytes([function, 1, int(bit)])
        if function in (3, 4):
            power = struct.pack(">i", 5000 if load.closed else 0)
            registers = power + struct.pack(">HI", 2301, 1234) + bytes(20)
            part = registers[2 * address : 2 * (address + value)]
            return bytes([function, len(part)]) + part
        if function == 5:
            order = asyncio.create_task(load.told(value == 0xFF00))
            self._tasks.add(order)
            order.add_done_callback(self._tasks.discard)
            return body[:5]
        return bytes([function | 0x80, 1])
