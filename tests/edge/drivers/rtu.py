"""RTU buses for the tests: a transparent gateway that speaks RTU frames over TCP, and a serial line over a pty pair."""

from __future__ import annotations

import asyncio
import os
import tty
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Self

from tests.edge.drivers.field import ModbusServer


def crc(frame: bytes) -> bytes:
    """CRC-16 of Modbus over Serial Line V1.02, appendix B, computed bit by bit."""
    value = 0xFFFF
    for byte in frame:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ 0xA001 if value & 1 else value >> 1
    return value.to_bytes(2, "little")


def sealed(frame: bytes) -> bytes:
    """A frame with its CRC."""
    return frame + crc(frame)


def _length(buffer: bytearray) -> int:
    """Length of a request frame: function codes 15 and 16 say how much follows."""
    return 9 + buffer[6] if len(buffer) > 6 and buffer[1] in (15, 16) else 8


def answers(bank: ModbusServer, buffer: bytearray) -> list[bytes]:
    """Take whole requests off the buffer and answer them as the units of a bank would."""
    found = []
    while len(buffer) >= 8 and len(buffer) >= _length(buffer):
        frame = bytes(buffer[: _length(buffer)])
        del buffer[: len(frame)]
        assert crc(frame[:-2]) == frame[-2:], "a request with a wrong CRC"
        bank.bytes_in += len(frame)
        if frame[0] not in bank.silent:
            found.append(sealed(frame[:1] + bank._answer(frame[0], frame[1:-2])))
    return found


@dataclass
class RtuGateway:
    """RTU frames over TCP in front of a bank of registers.

    Attributes:
        bank: The units.
        mangle: May change what is sent.
        late: Said to whoever connects next: a gateway passes on what the bus says, whoever asked.
    """

    bank: ModbusServer = field(default_factory=ModbusServer)
    mangle: Callable[[bytes], bytes] = lambda frame: frame
    late: bytes = b""
    connections: int = 0
    port: int = 0
    _server: asyncio.Server | None = None
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
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)
        buffer = bytearray()
        writer.write(self.late)
        try:
            while data := await reader.read(256):
                buffer += data
                for answer in answers(self.bank, buffer):
                    writer.write(self.mangle(answer))
        except ConnectionError:
            pass
        finally:
            self._writers.discard(writer)
            writer.close()


@asynccontextmanager
async def serial_line(bank: ModbusServer) -> AsyncIterator[str]:
    """A serial line with units on it; gives the path of the other end."""
    ours, theirs = os.openpty()
    tty.setraw(ours)
    tty.setraw(theirs)
    os.set_blocking(ours, False)
    buffer = bytearray()
    loop = asyncio.get_running_loop()

    def receive() -> None:
        buffer.extend(os.read(ours, 256))
        for answer in answers(bank, buffer):
            os.write(ours, answer)

    loop.add_reader(ours, receive)
    try:
        # Held open, so that the line does not hang up when the client opens its end anew.
        yield os.ttyname(theirs)
    finally:
        loop.remove_reader(ours)
        os.close(ours)
        os.close(theirs)
