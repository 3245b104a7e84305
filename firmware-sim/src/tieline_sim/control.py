"""The control socket: loopback TCP, one JSON object a line each way."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final

from tieline_sim.errors import SimulatorError

_MAX_LINE: Final = 65536
Handler = Callable[[Mapping[str, Any]], Awaitable[dict[str, Any]]]


class ControlServer:
    """Answers ``{"command": ...}`` lines.

    Args:
        port: 0 lets the system choose.
        handle: Gives the answer; a SimulatorError becomes ``{"error": ...}``.
    """

    def __init__(self, port: int, handle: Handler) -> None:
        self.port = port
        self._handle = handle
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def open(self) -> None:
        """Listen."""
        try:
            self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, limit=_MAX_LINE)
        except OSError as error:
            raise SimulatorError(f"control port {self.port} cannot be opened: {error.strerror}") from error
        self.port = int(self._server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        """Stop listening and drop all connections."""
        if self._server is not None:
            self._server.close()
        for writer in list(self._writers):
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while line := await reader.readline():
                writer.write(json.dumps(await self._answer(line)).encode() + b"\n")
                await writer.drain()
        except (OSError, ValueError):
            pass  # the other side went away, or its line is longer than any command
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _answer(self, line: bytes) -> dict[str, Any]:
        try:
            request = json.loads(line)
        except ValueError as error:
            return {"error": f"not JSON: {error}"}
        if not isinstance(request, dict):
            return {"error": f"not a JSON object: {request!r}"}
        try:
            return await self._handle(request)
        except (SimulatorError, ValueError) as error:
            return {"error": str(error)}


def call(state: Path, request: Mapping[str, Any], timeout_s: float = 60.0) -> dict[str, Any]:
    """Ask a running simulator.

    Args:
        state: Its state folder.
        request: Command and its arguments.
        timeout_s: Wall seconds to wait.

    Raises:
        SimulatorError: When none is running there, or it refuses.
    """
    try:
        port = int(json.loads((state / "ports.json").read_text(encoding="utf-8"))["control"]["port"])
    except (OSError, ValueError, KeyError) as error:
        raise SimulatorError(f"{state / 'ports.json'}: no simulator has run there") from error
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=timeout_s) as connection:
            connection.sendall(json.dumps(request).encode() + b"\n")
            answer = connection.makefile("rb").readline()
    except OSError as error:
        raise SimulatorError(f"the simulator of {state} does not answer on port {port}: {error}") from error
    result = json.loads(answer or b'{"error": "the simulator hung up"}')
    if "error" in result:
        raise SimulatorError(str(result["error"]))
    return dict(result)
