"""A Modbus server that knows nothing but recorded frames: each request must be the next one recorded, byte for byte."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self

import yaml

FRAMES = Path(__file__).parent / "frames"


def recording(name: str) -> dict[str, Any]:
    """The recording of a catalogue entry; see ``frames/README.md`` for its form."""
    found: dict[str, Any] = yaml.safe_load((FRAMES / f"{name}.yaml").read_text(encoding="utf-8"))
    return found


class Replay:
    """Answers the recorded exchanges in their order.

    Attributes:
        wrong: What was asked instead of what was recorded; empty when all went as recorded.
    """

    def __init__(self) -> None:
        self.port = 0
        self.wrong: list[str] = []
        self._left: list[tuple[bytes, bytes]] = []
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

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

    def expect(self, exchanges: Iterable[str]) -> None:
        """Exchanges to come, each ``request -> response`` as hex of unit id and PDU."""
        for line in exchanges:
            request, _, response = line.partition("->")
            self._left.append((bytes.fromhex(request), bytes.fromhex(response)))

    def unused(self) -> list[str]:
        """Recorded requests that were not made; forgotten by this call."""
        left, self._left = [request.hex(" ") for request, _ in self._left], []
        return left

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while True:
                head = await reader.readexactly(6)
                transaction, _, length = struct.unpack(">HHH", head)
                request = await reader.readexactly(length)
                answer = bytes([request[0], request[1] | 0x80, 2])
                if self._left and self._left[0][0] == request:
                    answer = self._left.pop(0)[1]
                else:
                    self.wrong.append(f"asked {request.hex(' ')}, recorded {self._left[0][0].hex(' ') if self._left else None}")
                writer.write(struct.pack(">HHH", transaction, 0, len(answer)) + answer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()
