"""Link proxies can be cut or hang; the control socket answers and refuses in words."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tieline_sim.control import ControlServer, call
from tieline_sim.errors import SimulatorError
from tieline_sim.links import Link, LinkMode


@pytest_asyncio.fixture
async def echo() -> AsyncIterator[tuple[str, int]]:
    """A server that gives back what it gets."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(100):
            writer.write(data)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield "127.0.0.1", server.sockets[0].getsockname()[1]
    server.close()


async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, text: bytes) -> bytes:
    writer.write(text)
    return await asyncio.wait_for(reader.readexactly(len(text)), 2)


async def test_a_link_passes_both_ways_until_it_is_cut_and_again_on_its_port(echo: tuple[str, int]) -> None:
    link = Link("hub", 0, echo)
    await link.open()
    port = link.port
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    assert await say(reader, writer, b"hello") == b"hello"
    await link.set_mode(LinkMode.CUT)
    with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
        await asyncio.wait_for(reader.readexactly(1), 2)
    writer.close()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)
    await link.set_mode(LinkMode.UP)
    assert link.port == port
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    assert await say(reader, writer, b"again") == b"again"
    writer.close()
    await link.close()


async def test_a_half_open_link_stays_connected_and_silent_and_then_delivers(echo: tuple[str, int]) -> None:
    link = Link("hub", 0, echo)
    await link.open()
    reader, writer = await asyncio.open_connection("127.0.0.1", link.port)
    assert await say(reader, writer, b"a") == b"a"
    await link.set_mode(LinkMode.HALF_OPEN)
    writer.write(b"b")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(reader.readexactly(1), 0.2)
    late_reader, late_writer = await asyncio.open_connection("127.0.0.1", link.port)
    late_writer.write(b"c")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(late_reader.readexactly(1), 0.2)
    await link.set_mode(LinkMode.UP)
    assert await asyncio.wait_for(reader.readexactly(1), 2) == b"b"
    assert await asyncio.wait_for(late_reader.readexactly(1), 2) == b"c"
    for each in (writer, late_writer):
        each.close()
    await link.close()


async def test_a_link_without_anything_behind_it_hangs_up() -> None:
    link = Link("hub", 0, None)
    await link.open()
    reader, writer = await asyncio.open_connection("127.0.0.1", link.port)
    assert await asyncio.wait_for(reader.read(), 2) == b""
    writer.close()
    await link.close()


async def test_the_control_socket_answers_and_refuses_in_words(tmp_path: Path) -> None:
    async def handle(request: Mapping[str, Any]) -> dict[str, Any]:
        if request.get("command") != "status":
            raise SimulatorError("no such command")
        return {"ok": True}

    server = ControlServer(0, handle)
    await server.open()
    (tmp_path / "ports.json").write_text(json.dumps({"control": {"port": server.port}}))
    assert await asyncio.to_thread(call, tmp_path, {"command": "status"}) == {"ok": True}
    with pytest.raises(SimulatorError, match="no such command"):
        await asyncio.to_thread(call, tmp_path, {"command": "dance"})
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    for line in (b"rubbish\n", b"[1]\n"):
        writer.write(line)
        assert "not" in json.loads(await asyncio.wait_for(reader.readline(), 2))["error"]
    writer.close()
    await server.close()
    with pytest.raises(SimulatorError, match="does not answer"):
        await asyncio.to_thread(call, tmp_path, {"command": "status"})


def test_asking_where_nothing_ever_ran_says_so(tmp_path: Path) -> None:
    with pytest.raises(SimulatorError, match="no simulator has run there"):
        call(tmp_path, {"command": "status"})
