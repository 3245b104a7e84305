"""The edge's own pages: who is answered, with what headers, and what the local network may not see."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import json
import re
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path

import pytest

from deploy.ports import free_port
from tests.edge.test_agent import fetch, settings
from tieline_edge.agent import Agent
from tieline_edge.page.html import status_page
from tieline_edge.pages import MAX_CONNECTIONS, Page, Pages


async def _hello(_query: Mapping[str, str]) -> Page:
    return Page(HTTPStatus.OK, "text/plain", b"hello", (("X-Test", "1"),))


@asynccontextmanager
async def served() -> AsyncIterator[int]:
    port = free_port()
    listening = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        running = group.create_task(Pages(port, {"/": _hello}).run(lambda _port: listening.set()))
        await listening.wait()
        yield port
        running.cancel()


async def raw(port: int, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    data = await asyncio.wait_for(reader.read(), 10.0)
    writer.close()
    return data


@pytest.mark.parametrize(
    ("host", "code"),
    [
        ("localhost", 200),
        ("127.0.0.1:9464", 200),
        ("[::1]:9464", 200),
        ("192.0.2.7", 200),
        (socket.gethostname(), 200),
        ("", 200),
        ("evil.example", 421),
        ("127.0.0.1.evil.example:80", 421),
    ],
)
async def test_a_name_that_is_not_this_computer_is_not_answered(host: str, code: int) -> None:
    async with served() as port:
        answer = await raw(port, f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    assert answer.startswith(f"HTTP/1.0 {code} ".encode())
    assert b"X-Content-Type-Options: nosniff" in answer
    assert (b"X-Test: 1" in answer) == (code == 200)


async def test_nothing_but_get_is_answered_where_nobody_takes_orders() -> None:
    async with served() as port:
        for verb in (b"POST", b"PUT", b"DELETE"):
            answer = await raw(port, verb + b" / HTTP/1.1\r\nContent-Length: 0\r\n\r\n")
            assert answer.startswith(b"HTTP/1.0 405 ")


def test_the_page_is_one_document_and_its_policy_admits_its_own_style_and_script_only() -> None:
    page = status_page()
    html, policy = page.body.decode(), dict(page.headers)["Content-Security-Policy"]
    assert "{{" not in html
    for kind, rule in (("script", "script-src"), ("style", "style-src")):
        inline = re.findall(f"<{kind}>(.*?)</{kind}>", html, re.DOTALL)
        assert len(inline) == 1
        digest = base64.b64encode(hashlib.sha256(inline[0].encode()).digest()).decode()
        assert f"{rule} 'sha256-{digest}'" in policy
    assert "unsafe" not in policy
    assert "default-src 'none'" in policy
    assert not re.search(r"https?://(?!www\.w3\.org/)", html)  # the name of SVG is no address anything is fetched from
    assert not re.search(r"\son\w+=|\sstyle=|innerHTML", html)


async def test_the_local_network_sees_the_page_only_when_asked_for_and_never_more_than_reading(tmp_path: Path) -> None:
    lan = free_port()
    made = settings(tmp_path, metrics={"port": free_port(), "lan": {"address": "127.0.0.1", "port": lan}})
    agent = Agent(made)
    async with asyncio.TaskGroup() as group:
        group.create_task(agent.run())
        async with asyncio.timeout(60.0):
            await agent.ready.wait()
        for path in ("/", "/status", "/why?device=load01", "/alarms"):
            assert (await fetch(lan, path))[0] == 200, path
        for path in ("/metrics", "/tags"):
            assert (await fetch(lan, path))[0] == 404, path
        assert (await fetch(lan, "", raw=b"POST /tags HTTP/1.1\r\nContent-Length: 0\r\n\r\n"))[0] == 405
        warned = json.loads((await fetch(lan, "/alarms"))[1])["alarms"]
        assert any(one["code"] == "page.lan" and "without a password" in one["text"] for one in warned)
        status = json.loads((await fetch(lan, "/status"))[1])
        assert status["time_zone"] == "UTC"
        assert status["hub_heard_at"] is None
        assert status["devices"]["load01"]["values"] == []
        assert status["cycle"]["late_p99_ms"] >= 0
        agent.stop()


async def test_connections_that_say_nothing_take_no_more_than_their_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tieline_edge.pages._TIMEOUT_S", 2.0)
    async with served() as port, asyncio.timeout(30.0):
        silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(MAX_CONNECTIONS)]
        refused, writer = await asyncio.open_connection("127.0.0.1", port)
        with contextlib.suppress(ConnectionError):
            assert await refused.read() == b""
        writer.close()
        for reader, other in silent:
            with contextlib.suppress(ConnectionError):
                await reader.read()
            other.close()
        assert b"hello" in await raw(port, b"GET / HTTP/1.0\r\n\r\n")


async def test_who_does_not_read_keeps_neither_page_nor_descriptor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tieline_edge.pages._TIMEOUT_S", 0.5)
    ended = asyncio.Event()

    async def large(_query: Mapping[str, str]) -> Page:
        task = asyncio.current_task()
        assert task is not None
        task.add_done_callback(lambda _task: ended.set())
        return Page(HTTPStatus.OK, "text/plain", bytes(64 * 1024 * 1024))

    port, listening = free_port(), asyncio.Event()
    async with asyncio.timeout(30.0), asyncio.TaskGroup() as group:
        running = group.create_task(Pages(port, {"/": large}).run(lambda _port: listening.set()))
        await listening.wait()
        with socket.create_connection(("127.0.0.1", port)) as deaf:
            deaf.sendall(b"GET / HTTP/1.0\r\n\r\n")
            await ended.wait()
            deaf.settimeout(5.0)
            got = 0
            with contextlib.suppress(ConnectionError):
                while part := await asyncio.to_thread(deaf.recv, 1024 * 1024):
                    got += len(part)
            assert got < 64 * 1024 * 1024, "what the system had not taken yet was dropped with the connection"
        running.cancel()
