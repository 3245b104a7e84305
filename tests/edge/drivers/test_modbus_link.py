"""The link against a server that says exactly what it is told to: answers to something else, and nobody at the other end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from tieline_edge.drivers.capabilities import DeviceTransientError
from tieline_edge.drivers.catalog.entry import Table
from tieline_edge.drivers.modbus.endpoint import TcpEndpoint
from tieline_edge.drivers.modbus.link import ModbusLink
from tieline_edge.drivers.modbus.turns import Urgency

#: (bytes of the request) -> bytes of the answer, MBAP header included.
Script = Callable[[bytes], bytes]


@asynccontextmanager
async def scripted(script: Script) -> AsyncIterator[tuple[ModbusLink, list[int]]]:
    """A link to a server that follows a script, and the number of requests of each connection."""
    connections: list[int] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number = len(connections)
        connections.append(0)
        try:
            while data := await reader.read(260):
                connections[number] += 1
                writer.write(script(data))
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    link = ModbusLink(TcpEndpoint("127.0.0.1", server.sockets[0].getsockname()[1]), 0.3)
    async with server:
        yield link, connections
        link.close()


def answer(request: bytes, pdu: bytes, transaction: bytes | None = None) -> bytes:
    head = (request[:2] if transaction is None else transaction) + b"\0\0"
    return head + (len(pdu) + 1).to_bytes(2, "big") + request[6:7] + pdu


GOOD = b"\x04\x04\x00\x01\x00\x02"


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda request: answer(request, GOOD, b"\0\0"), "carries transaction id 0"),
        (lambda request: answer(request, b"\x03" + GOOD[1:]), "is one to function 3"),
        (lambda request: answer(request, b"\x04\x02\x00\x01"), "of another length"),
        (lambda request: answer(request, b"\x83\x02"), "is one to function 3"),
    ],
    ids=["no transaction", "other function", "other length", "refusal of another function"],
)
async def test_an_answer_to_something_else_gives_no_value_and_starts_the_connection_anew(wrong: Script, words: str) -> None:
    spoil = True

    def script(request: bytes) -> bytes:
        return wrong(request) if spoil else answer(request, GOOD)

    async with scripted(script) as (link, connections):
        with pytest.raises(DeviceTransientError, match=words):
            await link.read(1, Table.INPUT, 0, 2)
        spoil = False
        assert await link.read(1, Table.INPUT, 0, 2) == [1, 2], "the unit spoke, so it may be asked again at once"
        assert connections == [1, 1]


async def test_an_echo_of_another_address_is_no_confirmation() -> None:
    def elsewhere(request: bytes) -> bytes:
        return answer(request, b"\x06\x00\x09" + request[10:12])

    async with scripted(elsewhere) as (link, _), link.turn(1, Urgency.WRITE) as bus:
        with pytest.raises(DeviceTransientError, match="for another address"):
            await bus.write(Table.HOLDING, 8, [7])


async def test_a_cancelled_connect_leaves_nothing_and_the_next_request_connects() -> None:
    async with scripted(lambda request: answer(request, GOOD)) as (link, connections):
        task = asyncio.create_task(link.read(1, Table.INPUT, 0, 2))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await link.read(1, Table.INPUT, 0, 2) == [1, 2]
        assert sum(connections) == 1


async def test_after_a_failed_connect_the_others_are_told_without_waiting() -> None:
    link = ModbusLink(TcpEndpoint("127.0.0.1", 1), 0.3)
    with pytest.raises(DeviceTransientError, match="no connection within"):
        await link.read(1, Table.INPUT, 0, 2)
    with pytest.raises(DeviceTransientError, match="no connection a moment ago"):
        await link.read(2, Table.INPUT, 0, 2)
