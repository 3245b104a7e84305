"""A TCP link that can be cut, half-opened, made one-way, slow, stalling, or mischievous with MQTT packets.

Two directions, each with its own weather. Bytes that were swallowed leave a hole in a stream: when such a line heals, its
connections are reset, as by a network address translator that has forgotten them.
"""

from __future__ import annotations

import asyncio
import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Self

from tests.faults.mqtt_packets import NO_MISCHIEF, Mischief, Mischievous

_CHUNK: Final = 4096
#: Bytes one direction holds before it stops reading: what a socket's buffers would hold.
_WINDOW: Final = 64 * 1024
_CONNECT_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class Weather:
    """What one direction does to bytes.

    Attributes:
        swallow: They vanish, and so does the end of a connection: nobody is told anything.
        delay_s: They come later.
        bytes_per_s: They come no faster than this.
        stall: Chance that a chunk, and all behind it, waits for ``stall_s``: what a lost segment does to TCP.
        mischief: What happens to MQTT packets.
    """

    swallow: bool = False
    delay_s: float = 0.0
    bytes_per_s: float | None = None
    stall: float = 0.0
    stall_s: float = 0.3
    mischief: Mischief = NO_MISCHIEF


FAIR: Final = Weather()


@dataclass
class _Flow:
    """One direction of one connection: bytes on their way, by the moment they are due."""

    due: list[tuple[float, int, bytes]] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    bytes: int = 0
    count: int = 0
    ended: bool = False
    hole: bool = False
    floor_s: float = 0.0


class Proxy:
    """A link between whoever connects (upstream bytes) and a target (downstream bytes).

    Args:
        target: Host and port behind.
        seed: Of stalls and mischief.
        mqtt: MQTT is spoken: only whole packets are handed on, so that mischief may begin at any moment.

    Attributes:
        port: Where it listens.
        accepted: Connections taken so far.
        offered_up: Bytes that came for the target so far.
        passed_up: Bytes handed to it so far.
    """

    def __init__(self, target: tuple[str, int], seed: int = 0, *, mqtt: bool = True) -> None:
        self._mqtt = mqtt
        self.port = 0
        self.accepted = 0
        self.passed_up = 0
        self.offered_up = 0
        self.target = target
        self._rng = random.Random(seed)
        self._up = self._down = FAIR
        self._refuses = False
        self._server: asyncio.Server | None = None
        self._tasks: dict[asyncio.Task[None], tuple[_Flow, _Flow]] = {}

    async def __aenter__(self) -> Self:
        await self._listen()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.cut()

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self.port = int(self._server.sockets[0].getsockname()[1])

    async def cut(self) -> None:
        """Reset all connections and refuse new ones, until :meth:`heal`."""
        if self._server is not None:
            server, self._server = self._server, None
            server.close()
        await self._reset(lambda _flows: True)

    async def set(self, up: Weather = FAIR, down: Weather = FAIR) -> None:
        """Change the weather; connections with a hole in a direction that no longer swallows are reset."""
        self._up, self._down = up, down
        await self._reset(lambda flows: (flows[0].hole and not up.swallow) or (flows[1].hole and not down.swallow))
        if self._server is None:
            await self._listen()

    async def heal(self) -> None:
        """Fair weather both ways."""
        await self.set()

    async def half_open(self) -> None:
        """Connections stay, no byte passes, nobody is told."""
        await self.set(Weather(swallow=True), Weather(swallow=True))

    async def flap(self) -> None:
        """Reset all connections once; new ones are taken at once."""
        await self._reset(lambda _flows: True)

    async def _reset(self, which: Callable[[tuple[_Flow, _Flow]], bool]) -> None:
        doomed = [task for task, flows in self._tasks.items() if which(flows)]
        for task in doomed:
            task.cancel()
        await asyncio.gather(*doomed, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        flows = (_Flow(), _Flow())
        self._tasks[task] = flows
        self.accepted += 1
        far: asyncio.StreamWriter | None = None
        try:
            async with asyncio.timeout(_CONNECT_S):
                far_reader, far = await asyncio.open_connection(*self.target)
            async with asyncio.TaskGroup() as group:
                for number, (source, sink) in enumerate(((reader, far), (far_reader, writer))):
                    group.create_task(self._read(source, flows[number], up=number == 0))
                    group.create_task(self._write(sink, flows[number], up=number == 0))
        except (OSError, TimeoutError, ExceptionGroup):
            pass  # either end went away: the connection ends, as on a wire
        except asyncio.CancelledError:
            pass  # the cut; a stream server's handler must end quietly or asyncio logs it
        finally:
            del self._tasks[task]
            for end in (writer, far):
                if end is not None:
                    end.transport.abort()

    async def _read(self, source: asyncio.StreamReader, flow: _Flow, *, up: bool) -> None:
        loop = asyncio.get_running_loop()
        shaper = Mischievous(self._rng) if self._mqtt else None
        while data := await source.read(_CHUNK):
            weather = self._up if up else self._down
            self.offered_up += len(data) if up else 0
            if weather.swallow or flow.hole:
                flow.hole = True
                continue
            pieces = [(0.0, data)] if shaper is None else shaper.feed(data, weather.mischief)
            if weather.stall and self._rng.random() < weather.stall:
                flow.floor_s = loop.time() + weather.stall_s
            for late_s, piece in pieces:
                flow.count += 1
                due_s = max(flow.floor_s, loop.time()) + weather.delay_s + late_s
                heapq.heappush(flow.due, (due_s, flow.count, piece))
                flow.bytes += len(piece)
            flow.changed.set()
            while flow.bytes > _WINDOW:  # noqa: ASYNC110 (bytes leave by the clock, nothing announces it)
                await asyncio.sleep(0.01)
        if flow.hole or (self._up if up else self._down).swallow:
            flow.hole = True
            await loop.create_future()  # the end of the connection is swallowed as well
        flow.ended = True
        flow.changed.set()

    async def _write(self, sink: asyncio.StreamWriter, flow: _Flow, *, up: bool) -> None:
        loop = asyncio.get_running_loop()
        while True:
            if not flow.due:
                if flow.ended:
                    raise ConnectionResetError  # ends both directions, after everything has been handed over
                flow.changed.clear()
                await flow.changed.wait()
                continue
            if (left_s := flow.due[0][0] - loop.time()) > 0:
                await asyncio.sleep(min(left_s, 0.02))
                continue
            piece = heapq.heappop(flow.due)[2]
            flow.bytes -= len(piece)
            weather = self._up if up else self._down
            if weather.swallow:
                flow.hole = True
                continue
            if weather.bytes_per_s:
                await asyncio.sleep(len(piece) / weather.bytes_per_s)
            self.passed_up += len(piece) if up else 0
            sink.write(piece)
            await sink.drain()
