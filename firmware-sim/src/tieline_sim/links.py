"""Links between the substations and the hub: TCP proxies that can be cut or made to hang."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from enum import Enum
from typing import Final

from tieline_sim.errors import SimulatorError

_CHUNK: Final = 65536
_CONNECT_TIMEOUT_S: Final = 3.0


class LinkMode(Enum):
    """State of a link."""

    UP = "up"
    #: Connections are dropped and refused.
    CUT = "cut"
    #: Connections stay and new ones are taken, but no byte passes: what a dead mobile modem looks like.
    HALF_OPEN = "half-open"


class Link:
    """A TCP proxy on loopback.

    Args:
        name: Name in the scenario.
        port: Port to listen on, 0 lets the system choose.
        target: Host and port behind; None while nobody has said.
    """

    def __init__(self, name: str, port: int, target: tuple[str, int] | None) -> None:
        self.name, self.port, self.target = name, port, target
        self.mode = LinkMode.UP
        self._server: asyncio.Server | None = None
        self._passes = asyncio.Event()
        self._passes.set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Listen.

        Raises:
            SimulatorError: When the port is taken.
        """
        if self._server is not None:
            return
        try:
            self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        except OSError as error:
            raise SimulatorError(f"link {self.name}: port {self.port} cannot be opened: {error.strerror}") from error
        self.port = int(self._server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        """Stop listening and drop all connections."""
        if self._server is not None:
            server, self._server = self._server, None
            server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def set_mode(self, mode: LinkMode) -> None:
        """Change the state; nothing when it is that already."""
        if mode is self.mode:
            return
        self.mode = mode
        if mode is LinkMode.CUT:
            await self.close()
            return
        if mode is LinkMode.HALF_OPEN:
            self._passes.clear()
        else:
            self._passes.set()
        await self.open()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 (a stream handler always runs in a task)
        self._tasks.add(task)
        try:
            await self._passes.wait()
            if self.target is None:
                return
            async with asyncio.timeout(_CONNECT_TIMEOUT_S):
                far_reader, far_writer = await asyncio.open_connection(*self.target)
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._pump(reader, far_writer))
                    group.create_task(self._pump(far_reader, writer))
            finally:
                far_writer.close()
        except (OSError, TimeoutError, ExceptionGroup):
            pass  # either end went away: the connection ends, as on a wire
        except asyncio.CancelledError:
            writer.transport.abort()  # the cut; the stream server's handler must end quietly or asyncio logs it
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(_CHUNK):
            await self._passes.wait()
            writer.write(data)
            await writer.drain()
        with suppress(OSError, RuntimeError):
            writer.write_eof()
