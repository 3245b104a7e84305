"""The simulated field of the control benchmark: one lean Modbus TCP server a device, and a log of its own.

``python -m tests.bench.control_load.field CONFIG.json`` listens, writes the ports it got, and raises the transformer's load
above its level at random instants until it is told to end. Nothing in it is of the product, and all instants are those of
its own monotonic clock, taken when bytes arrive and just before bytes leave. Dead devices refuse connections or swallow bytes.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import signal
import struct
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, cast

from tests.bench.control_load.sheet import BLOCK, COMMAND, WORDS, block

_HEAD: Final = struct.Struct(">HHHB")
_REQUEST: Final = struct.Struct(">BHH")
_READ_INPUT, _READ_HOLDING, _WRITE_ONE = 4, 3, 6
_ILLEGAL_FUNCTION, _ILLEGAL_ADDRESS = 1, 2
#: How long a crossing waits for somebody to act [s].
PATIENCE_S: Final = 15.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What the field is made of.

    Attributes:
        devices: How many in all; the first is the transformer.
        feeders: How many of the others can be switched.
        dead: Share that is dead: every so many-th device, by turns refusing and swallowing.
        seed: Of the instants of crossings.
        rest_s: Shortest and longest pause between two crossings [s].
        rating_va: Of the transformer.
        feeder_w: What a closed feeder draws [W].
    """

    devices: int = 100
    feeders: int = 20
    dead: float = 0.0
    seed: int = 1
    rest_s: tuple[float, float] = (1.5, 3.5)
    rating_va: float = 1_000_000.0
    feeder_w: float = 30_000.0

    def is_dead(self, number: int) -> bool:
        """Whether a device is dead; the transformer never is."""
        return self.dead > 0 and number > 0 and number % round(1 / self.dead) == 1


@dataclass(slots=True)
class Crossing:
    """One time above the level; instants of the field's clock [s], None = it did not happen.

    Attributes:
        raised: The load rose.
        answered: The first answer that carries a loading above the level was about to leave.
        written: The first write to a feeder arrived.
        writes: How many writes to feeders there were until the load fell again.
    """

    raised: float
    answered: float | None = None
    written: float | None = None
    writes: int = 0


@dataclass
class Field:
    """The devices, their loads and the log."""

    plan: Plan
    log: Path
    closed: list[bool] = field(default_factory=list)
    base_w: float = 0.0
    now: Crossing | None = None
    polls: list[int] = field(default_factory=list)
    last_polled: float = 0.0
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.closed = [True] * self.plan.devices
        self.polls = [0] * self.plan.devices
        self.calm()

    @property
    def switchable(self) -> range:
        """Numbers of the feeders that can be switched."""
        return range(1, self.plan.feeders + 1)

    def calm(self) -> None:
        """Load at 70 % with every feeder closed."""
        self.base_w = 0.70 * self.plan.rating_va - self.plan.feeder_w * self.plan.feeders

    @property
    def loading_pct(self) -> float:
        """Of the transformer, all power active."""
        return 100.0 * (self.base_w + self.plan.feeder_w * sum(self.closed[n] for n in self.switchable)) / self.plan.rating_va

    def answer(self, number: int, pdu: bytes) -> bytes:
        """A device's answer to a request; called just before the bytes leave."""
        function, address, count = _REQUEST.unpack_from(pdu)
        if function == _READ_INPUT and address == 0 and count == WORDS:
            return bytes((function, BLOCK.size)) + self._measured(number)
        if function == _READ_HOLDING and address == COMMAND and count == 1 and number in self.switchable:
            return struct.pack(">BBH", function, 2, self.closed[number])
        if function == _WRITE_ONE and address == COMMAND and number in self.switchable:
            self._switched(number, bool(count))
            return pdu
        known = function in (_READ_INPUT, _READ_HOLDING, _WRITE_ONE)
        return bytes((function | 0x80, _ILLEGAL_ADDRESS if known else _ILLEGAL_FUNCTION))

    def _measured(self, number: int) -> bytes:
        self.polls[number] += 1
        if number:
            draws = self.plan.feeder_w if self.closed[number] else 0.0
            return block(draws, 0.0, self.closed[number], self.polls[number] + number)
        loading = self.loading_pct
        self.last_polled = time.monotonic()
        if self.now is not None and self.now.answered is None and loading > 100.0:
            self.now.answered = self.last_polled
        return block(loading / 100.0 * self.plan.rating_va, loading, True, self.polls[0])

    def _switched(self, number: int, closed: bool) -> None:
        at = time.monotonic()
        self.closed[number] = closed
        if self.now is not None and self.now.answered is not None and not closed:
            self.now.written = self.now.written or at
            self.now.writes += 1
        self.changed.set()

    async def story(self) -> None:
        """Raise the load at random instants while somebody polls, until cancelled."""
        rng = random.Random(self.plan.seed)
        while True:
            await asyncio.sleep(rng.uniform(*self.plan.rest_s))
            if time.monotonic() - self.last_polled > 2.0:
                continue
            if not await self._all_closed():
                self.closed = [True] * self.plan.devices
                continue
            self.base_w += 0.34 * self.plan.rating_va
            self.now = Crossing(time.monotonic())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PATIENCE_S):
                    while self.now.written is None:
                        self.changed.clear()
                        await self.changed.wait()
            # What belongs to the same shedding arrives within this.
            await asyncio.sleep(0.5)
            with self.log.open("a", encoding="utf-8") as file:
                file.write(json.dumps({**asdict(self.now), "polls": sum(self.polls)}) + "\n")
            self.now = None
            self.calm()

    async def _all_closed(self) -> bool:
        try:
            async with asyncio.timeout(PATIENCE_S):
                while not all(self.closed):
                    self.changed.clear()
                    await self.changed.wait()
        except TimeoutError:
            return False
        return True


class Terminal(asyncio.Protocol):
    """One connection to one device."""

    def __init__(self, site: Field, number: int, swallows: bool) -> None:
        self._site, self._number, self._swallows = site, number, swallows
        self._waiting = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Somebody is here."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Answer every whole request."""
        if self._swallows or self._transport is None:
            return
        self._waiting += data
        while len(self._waiting) >= _HEAD.size:
            transaction, _, length, unit = _HEAD.unpack_from(self._waiting)
            if len(self._waiting) < 6 + length:
                return
            pdu, self._waiting = self._waiting[7 : 6 + length], self._waiting[6 + length :]
            answer = self._site.answer(self._number, pdu)
            self._transport.write(_HEAD.pack(transaction, 0, len(answer) + 1, unit) + answer)


async def serve(config: dict[str, Any]) -> None:
    """Listen, tell the ports, and play until SIGTERM."""
    plan = Plan(**{**config["plan"], "rest_s": tuple(config["plan"]["rest_s"])})
    site = Field(plan, Path(config["log"]))
    loop = asyncio.get_running_loop()
    ports: list[int] = []
    async with contextlib.AsyncExitStack() as stack:
        for number in range(plan.devices):
            dead = plan.is_dead(number)
            refuses = dead and number % 2 == 0
            server = await loop.create_server(
                lambda number=number, dead=dead: Terminal(site, number, swallows=dead),  # type: ignore[misc]  # a lambda with defaults
                "127.0.0.1",
                0,
                start_serving=not refuses,
            )
            stack.push_async_callback(server.wait_closed)
            stack.callback(server.close)
            ports.append(int(server.sockets[0].getsockname()[1]))
        await asyncio.to_thread(Path(config["ports"]).write_text, json.dumps(ports), encoding="utf-8")
        end = asyncio.Event()
        loop.add_signal_handler(signal.SIGTERM, end.set)
        story = asyncio.create_task(site.story(), name="story")
        await end.wait()
        story.cancel()
        await asyncio.wait([story])


if __name__ == "__main__":
    with contextlib.suppress(asyncio.CancelledError):
        asyncio.run(serve(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))))
