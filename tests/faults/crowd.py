"""Hundreds of light edges in one process: the product's own state machine of the durable lane over bare MQTT clients."""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from tests.faults.raw_client import RawClient, raw_client
from tieline_core import topics
from tieline_core.frame import Frame, encode, encode_readings
from tieline_core.ids import EdgeId, PointId
from tieline_core.messages.telemetry import Ack, FrameKind, Hello, HelloAnswer, Stream, StreamState
from tieline_core.quantities import Reading
from tieline_edge.sync import uplink_state as core

T0: Final = datetime(2026, 1, 15, 12, tzinfo=UTC)
_TICK_S: Final = 0.05


@dataclass
class LightEdge:
    """One edge with one frame to send.

    Attributes:
        hellos: How often it said hello.
        greeted_s: How long the answer took, from the start of the storm.
        done_s: How long the acknowledgement of its frame took.
    """

    name: str
    rng: random.Random
    hellos: int = 0
    greeted_s: float | None = None
    done_s: float | None = None
    state: core.UplinkState = field(default_factory=lambda: core.begin(0, dict.fromkeys(Stream, 0), dict.fromkeys(Stream, 1)))

    async def run(self, client: RawClient, began_s: float) -> None:
        """Say hello, send the frame, until it is acknowledged; all times are the product's."""
        edge, times = EdgeId(self.name), core.UplinkTimes()
        body = encode_readings([Reading(PointId(f"{edge}/m01/p_w"), float(n), T0 + timedelta(seconds=n)) for n in range(20)])
        await client.subscribe(topics.answer(edge), topics.ack(edge))
        while self.done_s is None:
            self.state, effects = core.tick(self.state, time.monotonic(), times)
            if effects:
                await self._say_hello(client, edge, times)
            measure = self.state.streams[Stream.MEASURE]
            if self.state.open and measure.sent == 0:
                frame = Frame(edge, self.state.epoch, Stream.MEASURE, 1, FrameKind.READINGS, body)
                await client.publish(topics.frame(edge, Stream.MEASURE), encode(frame))
                self.state = core.sent(self.state, Stream.MEASURE, 1, time.monotonic())
            try:
                async with asyncio.timeout(_TICK_S):
                    topic, payload = await client.inbox.get()
            except TimeoutError:
                continue
            self._take(topic, payload, began_s)

    def _take(self, topic: str, payload: bytes, began_s: float) -> None:
        now_s = time.monotonic()
        if topic.endswith("/hello"):
            answer = HelloAnswer.from_bytes(payload, topic)
            self.state, _ = core.answered(self.state, answer, now_s)
            if self.state.open and self.greeted_s is None:
                self.greeted_s = now_s - began_s
        else:
            self.state, _ = core.acknowledged(self.state, Ack.from_bytes(payload, topic), now_s, core.UplinkTimes())
        if self.state.streams[Stream.MEASURE].acked:
            self.done_s = now_s - began_s

    async def _say_hello(self, client: RawClient, edge: EdgeId, times: core.UplinkTimes) -> None:
        nonce = (None if self.state.open else self.state.nonce) or f"{self.rng.getrandbits(128):032x}"
        wait_s = core.hello_wait_s(self.state, times) * self.rng.uniform(0.75, 1.25)
        self.state = core.hello_said(self.state, nonce, time.monotonic() + wait_s)
        still = StreamState(next_seq=1, oldest_seq=1, acked_seq=0)
        streams = {Stream.ALARM: still, Stream.MEASURE: still.model_copy(update={"next_seq": 2}), Stream.BULK: still}
        word = Hello(
            edge_id=edge, epoch=self.state.epoch, boot_id="boot-1", nonce=nonce, streams=streams, software="light", at=T0
        )
        self.hellos += 1
        await client.publish(topics.hello(edge), word.to_bytes())


async def storm(port: int, count: int, seed: int, seconds: float) -> list[LightEdge]:
    """Let so many edges connect and greet at the same moment; returns them when all are done.

    Raises:
        TimeoutError: Not all of them were acknowledged in time.
    """
    edges = [LightEdge(f"light-{number:04d}", random.Random(seed * 10_000 + number)) for number in range(count)]
    async with AsyncExitStack() as stack, asyncio.timeout(seconds):
        clients = [await stack.enter_async_context(raw_client(port, edge.name)) for edge in edges]
        began_s = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for edge, client in zip(edges, clients, strict=True):
                group.create_task(edge.run(client, began_s))
    return edges
