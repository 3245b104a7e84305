"""The live socket over the real application."""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import AsyncIterator

import numpy as np
import pytest
from tests.cloud.rooms import NOW, Rooms
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus
from websockets.typing import Origin

from tieline_cloud.api.app import create_app
from tieline_cloud.api.server import http_server
from tieline_cloud.console.live import grid_frame, parse_subscription


@pytest.fixture
async def url(rooms: Rooms) -> AsyncIterator[str]:
    """Address of the live socket of a real server."""
    async with http_server(create_app(rooms.services()), "127.0.0.1", 0) as port:
        yield f"ws://127.0.0.1:{port}/v1/live"


def test_a_grid_frame_has_the_documented_layout() -> None:
    frame = grid_frame(7, NOW, "00112233445566778899aabbccdd", (55.54, None, 1e9), (1.01234, None), (0, 4, 0))
    seq, branches, at, buses, digest = struct.unpack_from("<IIdI12s", frame)
    assert (seq, branches, at, buses) == (7, 3, NOW.timestamp(), 2)
    assert digest.hex() == "00112233445566778899aabb"
    assert np.frombuffer(frame, "<u2", 3, 32).tolist() == [555, 65535, 65534]
    assert np.frombuffer(frame, "<u2", 2, 38).tolist() == [10123, 65535]
    assert frame[42:] == bytes([0, 4, 0])


async def test_a_subscriber_first_gets_the_newest_state(url: str, rooms: Rooms) -> None:
    rooms.live.publish_state("grid/grid", b"old")
    rooms.live.publish_state("grid/grid", b"new")
    rooms.live.publish_json("edges", "edges", {"edges": []})
    async with connect(url, origin=Origin(url.replace("ws", "http", 1).removesuffix("/v1/live"))) as socket:
        await socket.send(json.dumps({"subscribe": ["grid/grid", "edges"]}))
        assert json.loads(await socket.recv()) == {"type": "edges", "seq": 1, "edges": []}
        assert await socket.recv() == b"new"


async def test_a_page_of_another_origin_is_refused(url: str) -> None:
    with pytest.raises(InvalidStatus, match="HTTP 403"):
        async with connect(url, origin=Origin("http://evil")):
            pass


async def test_a_message_that_is_not_understood_is_answered(url: str) -> None:
    async with connect(url) as socket:
        await socket.send("hello")
        assert json.loads(await socket.recv())["type"] == "error"


@pytest.mark.parametrize(
    "text", ["{}", "[]", '{"subscribe": "all"}', '{"subscribe": [1]}', "[" * 100_000, '{"subscribe": ["' + "x" * 5000 + '"]}']
)
def test_only_a_short_list_of_names_is_a_subscription(text: str) -> None:
    assert parse_subscription(text) is None


class SlowSocket:
    """Takes a message only when it is told to."""

    def __init__(self) -> None:
        self.taken: list[object] = []
        self.gate = asyncio.Event()
        self.incoming: asyncio.Queue[str] = asyncio.Queue()

    async def receive_text(self) -> str:
        return await self.incoming.get()

    async def send_text(self, text: str) -> None:
        await self.gate.wait()
        self.taken.append(json.loads(text))

    async def send_bytes(self, data: bytes) -> None:
        await self.gate.wait()
        self.taken.append(data)


async def test_a_slow_client_gets_the_newest_state_and_sees_a_gap_in_events(rooms: Rooms) -> None:
    socket = SlowSocket()
    socket.incoming.put_nowait('{"subscribe": ["grid/grid", "events"]}')
    async with asyncio.TaskGroup() as group:
        serving = group.create_task(rooms.live.serve(socket))  # type: ignore[arg-type]  # as much of a socket as is used
        await rooms.clock.settle()
        for number in range(200):
            rooms.live.publish_state("grid/grid", b"%d" % number)
            rooms.live.publish_event({"number": number})
        await rooms.clock.settle()
        socket.gate.set()
        await rooms.clock.settle(400)
        serving.cancel()
    states = [message for message in socket.taken if isinstance(message, bytes)]
    numbers = [message["seq"] for message in socket.taken if isinstance(message, dict)]
    assert states[-1] == b"199"
    assert len(states) <= 2
    assert numbers[-1] == 200
    assert len(numbers) < 100
    assert rooms.live.clients == 0


async def test_heartbeats_carry_time_and_build(rooms: Rooms) -> None:
    socket = SlowSocket()
    socket.gate.set()
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(rooms.live.serve(socket))]  # type: ignore[arg-type]  # as above
        await rooms.clock.settle()
        tasks.append(group.create_task(rooms.live.run()))
        await rooms.clock.settle()
        for task in tasks:
            task.cancel()
    assert socket.taken == [{"type": "heartbeat", "seq": 1, "now": NOW.isoformat(), "build": "test"}]
