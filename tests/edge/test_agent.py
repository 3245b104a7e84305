"""The agent as a whole: started, asked, stopped, with real sockets and devices that are not there."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from deploy.ports import free_port
from tieline_core.errors import BadInputError
from tieline_core.ids import DeviceId
from tieline_edge.agent import Agent
from tieline_edge.bootstrap import make_clock, specs_of
from tieline_edge.dated_clock import DatedClock
from tieline_edge.drivers.capabilities import Capability, DeviceSpec, Role
from tieline_edge.settings import EdgeSettings


def settings(folder: Path, **rest: Any) -> EdgeSettings:
    return EdgeSettings.model_validate(
        {
            "edge_id": "harbour",
            "state_dir": folder,
            "site": {"name": "Harbour", "rated_va": 630e3},
            "hub": {
                "mqtt": {"host": "127.0.0.1", "port": free_port(), "insecure": True},
                "http": f"http://127.0.0.1:{free_port()}",
                "public_keys": ["ab" * 32],
            },
            "cycle": {"period_s": 0.05, "floor_wall_s": 0.05},
            "metrics": {"port": free_port()},
            "forecast": {"enabled": False},
            "devices": [
                {
                    "id": "load01",
                    "catalog": "modbus-load-switch",
                    "modbus": {"host": "127.0.0.1", "port": free_port(), "timeout_s": 0.2},
                    "priority_class": 3,
                    "p_max_w": 9000.0,
                }
            ],
            **rest,
        }
    )


async def fetch(port: int, path: str, *, raw: bytes | None = None) -> tuple[int, str]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(raw if raw is not None else f"GET {path} HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n".encode())
    await writer.drain()
    data = await asyncio.wait_for(reader.read(), 5.0)
    writer.close()
    await writer.wait_closed()
    head, _, body = data.partition(b"\r\n\r\n")
    return (int(head.split()[1]) if head else 0), body.decode()


async def test_an_agent_starts_answers_and_ends_cleanly_though_nothing_around_it_is_there(tmp_path: Path) -> None:
    made = settings(tmp_path)
    agent = Agent(made)
    async with asyncio.TaskGroup() as group:
        running = group.create_task(agent.run())
        async with asyncio.timeout(60.0):
            await agent.ready.wait()
        port = made.metrics.port
        code, body = await fetch(port, "/status")
        status = json.loads(body)
        assert code == 200
        assert status["edge"] == "harbour"
        assert status["ladder"]["name"] == "device_default"
        assert status["devices"]["load01"]["online"] is False
        assert status["hub_online"] is False
        assert 0 < status["ready_s"] < 10
        assert set(status["backlog"]) == {"alarm", "measure", "bulk"}
        code, body = await fetch(port, "/metrics")
        assert code == 200
        assert "tieline_edge_ladder_step 3.0" in body
        assert 'tieline_edge_device_online{device="load01"} 0.0' in body
        code, body = await fetch(port, "/why?device=load01")
        assert code == 200
        assert "load01" in json.loads(body)["text"]
        for path, expected in (
            ("/why?device=load99", 400),
            ("/why?device=!", 400),
            ("/why?device=load01&at=x", 400),
            ("/x", 404),
        ):
            code, body = await fetch(port, path)
            assert code == expected
            assert json.loads(body)["detail"]
        code, body = await fetch(port, "/alarms")
        assert code == 200
        assert isinstance(json.loads(body)["alarms"], list)
        code, body = await fetch(port, "/")
        assert code == 200
        assert "<title>Tieline edge</title>" in body
        assert (await fetch(port, "", raw=b"GET /status HTTP/1.1\r\nHost: evil.example\r\n\r\n"))[0] == 421
        assert (await fetch(port, "", raw=b"POST /status HTTP/1.1\r\n\r\n"))[0] == 405
        assert (await fetch(port, "", raw=b"x" * 20_000))[0] == 0
        agent.stop()
        await asyncio.wait_for(asyncio.shield(running), 10.0)
    assert (tmp_path / "outbox.sqlite").exists()
    assert (tmp_path / "trace.sqlite").exists()


async def test_an_agent_whose_port_somebody_else_holds_controls_all_the_same_and_takes_it_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tieline_edge.pages._AGAIN_S", 0.05)
    made = settings(tmp_path)
    agent = Agent(made)
    with socket.create_server(("127.0.0.1", made.metrics.port)):
        running = asyncio.create_task(agent.run())
        async with asyncio.timeout(60.0):
            waiting = asyncio.create_task(agent.ready.wait())
            await asyncio.wait([waiting, running], return_when=asyncio.FIRST_COMPLETED)
            assert waiting.done()
    async with asyncio.timeout(60.0):
        body = ""
        while "page.not_served" not in body:
            with contextlib.suppress(OSError):
                _, body = await fetch(made.metrics.port, "/alarms")
            await asyncio.sleep(0.05)
        agent.stop()
        await running


async def test_an_agent_can_be_cancelled_and_started_again_on_the_same_state(tmp_path: Path) -> None:
    for _ in range(2):
        agent = Agent(settings(tmp_path, metrics={"port": 0}))
        task = asyncio.create_task(agent.run())
        async with asyncio.timeout(60.0):
            await agent.ready.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    left = [one.get_name() for one in asyncio.all_tasks() if one is not asyncio.current_task()]
    assert left == []


async def test_an_agent_without_keys_says_that_it_only_monitors(tmp_path: Path) -> None:
    keyless = settings(tmp_path).hub.model_copy(update={"public_keys": ()})
    made = settings(tmp_path, hub=keyless.model_dump(), forecast={"enabled": True})
    agent = Agent(made)
    async with asyncio.TaskGroup() as group:
        group.create_task(agent.run())
        async with asyncio.timeout(60.0):
            await agent.ready.wait()
        status = json.loads((await fetch(made.metrics.port, "/status"))[1])
        assert status["monitor_only"] is True
        assert "monitor only" in status["ladder"]["reason"]
        assert status["forecast"]
        agent.stop()


def test_a_vital_load_without_a_class_gets_class_zero(tmp_path: Path) -> None:
    name = DeviceId("load01")
    handle: Any = SimpleNamespace(spec=DeviceSpec(name, Role.LOAD, frozenset({Capability.SWITCH})))
    assert specs_of({name: handle}, settings(tmp_path, shedding={"vital": ["load01"]}))[name].priority_class == 0


def test_the_clock_is_the_one_the_configuration_names(tmp_path: Path) -> None:
    assert isinstance(make_clock(settings(tmp_path)), DatedClock)
    with pytest.raises(BadInputError, match="no clock is published"):
        make_clock(settings(tmp_path, clock={"source": "file", "path": tmp_path / "clock.json"}))
