"""A TCP proxy in front of a broker that writes down every MQTT packet a client sends, with a parser of its own."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Final

CONNECT, PUBLISH, SUBSCRIBE, DISCONNECT = 1, 3, 8, 14
_SESSION_EXPIRY: Final = 0x11
#: Bytes of the value of each property CONNECT may carry; 0 = text with its length.
_PROPERTY_BYTES: Final = {0x11: 4, 0x21: 2, 0x27: 4, 0x22: 2, 0x19: 1, 0x17: 1, 0x15: 0, 0x16: 0}


@dataclass(frozen=True)
class Packet:
    """One packet of a client; fields that its kind lacks keep their defaults."""

    kind: int
    version: int = 0
    client_id: str = ""
    clean: bool = False
    session_expiry_s: int = 0
    will: Packet | None = None
    topic: str = ""
    payload: bytes = b""
    qos: int = 0
    retain: bool = False
    filters: tuple[tuple[str, int], ...] = ()
    reason: int = 0


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, count: int) -> bytes:
        part = self.data[self.at : self.at + count]
        assert len(part) == count
        self.at += count
        return part

    def number(self, count: int) -> int:
        return int.from_bytes(self.take(count), "big")

    def varint(self) -> int:
        value = shift = 0
        while True:
            byte = self.number(1)
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    def blob(self) -> bytes:
        return self.take(self.number(2))

    def skip_properties(self) -> None:
        self.take(self.varint())

    @property
    def left(self) -> int:
        return len(self.data) - self.at


def parse(head: int, body: bytes, version: int) -> Packet:
    """One packet out of its first byte and its body."""
    reader, kind = _Reader(body), head >> 4
    if kind == CONNECT:
        return _connect(reader)
    if kind == PUBLISH:
        topic, qos = reader.blob().decode(), (head >> 1) & 3
        if qos:
            reader.number(2)
        if version == 5:
            reader.skip_properties()
        return Packet(kind, topic=topic, payload=reader.take(reader.left), qos=qos, retain=bool(head & 1))
    if kind == SUBSCRIBE:
        reader.number(2)
        if version == 5:
            reader.skip_properties()
        filters = []
        while reader.left:
            filters.append((reader.blob().decode(), reader.number(1) & 3))
        return Packet(kind, filters=tuple(filters))
    return Packet(kind, reason=body[0] if kind == DISCONNECT and body else 0)


def _connect(reader: _Reader) -> Packet:
    assert reader.blob() == b"MQTT"
    version, flags = reader.number(1), reader.number(1)
    reader.number(2)
    expiry_s = 0
    if version == 5:
        properties = _Reader(reader.take(reader.varint()))
        while properties.left:
            identifier = properties.number(1)
            size = _PROPERTY_BYTES[identifier]
            value = properties.number(size) if size else len(properties.blob())
            expiry_s = value if identifier == _SESSION_EXPIRY else expiry_s
    client_id = reader.blob().decode()
    will = None
    if flags & 4:
        if version == 5:
            reader.skip_properties()
        topic, payload = reader.blob().decode(), reader.blob()
        will = Packet(PUBLISH, topic=topic, payload=payload, qos=(flags >> 3) & 3, retain=bool(flags & 0x20))
    return Packet(CONNECT, version, client_id, bool(flags & 2), expiry_s, will)


@dataclass
class Connection:
    """What one TCP connection of a client carried."""

    packets: list[Packet] = field(default_factory=list)
    open: bool = True
    ends: tuple[asyncio.StreamWriter, ...] = ()

    def cut(self) -> None:
        """Break it without a word."""
        for writer in self.ends:
            writer.transport.abort()

    @property
    def connect(self) -> Packet:
        return self.packets[0]

    @property
    def published(self) -> list[Packet]:
        return [packet for packet in self.packets if packet.kind == PUBLISH]


@dataclass
class Recorder:
    """The proxy; ``only_311`` answers MQTT 5 as a broker that does not speak it."""

    broker_port: int
    only_311: bool = False
    connections: list[Connection] = field(default_factory=list)
    port: int = 0
    most_open: int = 0

    @property
    def last(self) -> Connection:
        return self.connections[-1]

    @property
    def packets(self) -> list[Packet]:
        return [packet for connection in self.connections for packet in connection.packets]

    def cut(self) -> None:
        """Break every connection without a word."""
        for connection in self.connections:
            connection.cut()

    async def until(self, test: Callable[[], object], seconds: float = 10.0) -> None:
        """Wait until the test is true of what was recorded."""
        async with asyncio.timeout(seconds):
            while not test():  # noqa: ASYNC110 (what is waited for is a list that grows)
                await asyncio.sleep(0.005)

    async def until_connected(self, count: int) -> None:
        """Wait for so many connections, those that have ended included."""
        await self.until(lambda: len(self.connections) >= count)

    async def serve(self, client: asyncio.StreamReader, answers: asyncio.StreamWriter) -> None:
        """One client."""
        connection = Connection()
        self.connections.append(connection)
        self.most_open = max(self.most_open, sum(row.open for row in self.connections))
        server, requests = await asyncio.open_connection("127.0.0.1", self.broker_port)
        connection.ends = (requests, answers)
        back = asyncio.create_task(_pump(server, answers))
        try:
            await self._listen(connection, client, requests, answers)
        except (asyncio.IncompleteReadError, OSError):
            connection.open = False
        finally:
            connection.open = False
            back.cancel()
            await asyncio.wait({back})
            for writer in (requests, answers):
                writer.close()

    async def _listen(
        self,
        connection: Connection,
        client: asyncio.StreamReader,
        requests: asyncio.StreamWriter,
        answers: asyncio.StreamWriter,
    ) -> None:
        version = 0
        while True:
            head = await client.readexactly(1)
            length, raw = 0, b""
            while not raw or raw[-1] >= 0x80:
                raw += await client.readexactly(1)
                length |= (raw[-1] & 0x7F) << (7 * (len(raw) - 1))
            body = await client.readexactly(length)
            packet = parse(head[0], body, version)
            version = version or packet.version
            connection.packets.append(packet)
            if self.only_311 and packet.kind == CONNECT and packet.version == 5:
                answers.write(b"\x20\x03\x00\x84\x00")
                await answers.drain()
                return
            requests.write(head + raw + body)
            await requests.drain()


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await source.read(65536):
            sink.write(data)
            await sink.drain()
        sink.close()


@contextlib.asynccontextmanager
async def recording(broker_port: int, *, only_311: bool = False) -> AsyncIterator[Recorder]:
    """A recorder in front of the broker while the context is open."""
    recorder = Recorder(broker_port, only_311)
    server = await asyncio.start_server(recorder.serve, "127.0.0.1", 0)
    recorder.port = server.sockets[0].getsockname()[1]
    try:
        yield recorder
    finally:
        server.close()
        recorder.cut()
        await recorder.until(lambda: not any(connection.open for connection in recorder.connections))
        await asyncio.sleep(0.01)
