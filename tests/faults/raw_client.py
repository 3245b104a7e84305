"""A bare MQTT client of a few lines: it sends what a sound client would not, and hundreds of it fit into one process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final

from tests.faults import mqtt_packets as mqtt

_CHUNK: Final = 65536


class RawClient:
    """One MQTT 3.1.1 session; made by :func:`raw_client`.

    Attributes:
        confirmed: PUBACKs that came.
        inbox: (topic, payload) of what was published to it.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._mid = 0
        self.confirmed = 0
        self.inbox: asyncio.Queue[tuple[str, bytes]] = asyncio.Queue()
        self._granted = asyncio.Event()

    def _next(self) -> int:
        self._mid = self._mid % 65535 + 1
        return self._mid

    async def listen(self) -> None:
        """Take packets until the connection ends."""
        cutter = mqtt.PacketCutter()
        while data := await self._reader.read(_CHUNK):
            for whole in cutter.feed(data):
                kind = whole[0] >> 4
                self.confirmed += kind == mqtt.PUBACK
                if kind == mqtt.SUBACK:
                    self._granted.set()
                elif kind == mqtt.PUBLISH:
                    self._take(whole)

    def _take(self, whole: bytes) -> None:
        topic = mqtt.topic_of(whole)
        start = 2 + len(topic.encode())
        body = mqtt.body_of(whole)
        if whole[0] & 0x06:
            self._writer.write(mqtt.packet(mqtt.PUBACK, 0, body[start : start + 2]))
            start += 2
        self.inbox.put_nowait((topic, body[start:]))

    async def subscribe(self, *topics: str) -> None:
        """Subscribe with QoS 1 and wait for the answer."""
        self._writer.write(mqtt.subscribe(self._next(), *topics))
        await self._granted.wait()

    async def publish(self, topic: str, payload: bytes) -> None:
        """Publish with QoS 1, without waiting for the answer."""
        self._writer.write(mqtt.publish(topic, payload, self._next()))
        await self._writer.drain()


@asynccontextmanager
async def raw_client(port: int, client_id: str) -> AsyncIterator[RawClient]:
    """A connected client; its listening ends with the context."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    client = RawClient(reader, writer)
    writer.write(mqtt.connect(client_id))
    listening = asyncio.create_task(client.listen())
    try:
        yield client
    finally:
        listening.cancel()
        with suppress(asyncio.CancelledError, ConnectionError):
            await listening
        writer.transport.abort()
