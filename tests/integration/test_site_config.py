"""A battery joins a running site: hub and edge as processes, a real broker, devices on real sockets."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.conftest import Broker
from tests.edge.commissioning.site import BAT_UNIT, battery, field_of, load, tree, written
from tests.edge.drivers.field import ModbusServer

pytestmark = pytest.mark.broker


async def command(*arguments: str) -> tuple[int, str]:
    """A command line of the product; its exit status and what it printed."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", *arguments, stdout=pipe, stderr=asyncio.subprocess.STDOUT
    )
    out, _ = await process.communicate()
    return process.returncode or 0, out.decode()


@asynccontextmanager
async def hub(folder: Path, broker: Broker) -> AsyncIterator[str]:
    """A hub process without a network; its address."""
    assert (await command("tieline_cloud", "keygen", str(folder / "keys")))[0] == 0
    made = {
        "data_dir": str(folder / "data"),
        "signing_key": str(folder / "keys/hub.key"),
        "listen": {"port": 0},
        "mqtt": {"host": broker.host, "port": broker.port, "insecure": True},
    }
    (folder / "hub.yaml").write_text(yaml.safe_dump(made), encoding="utf-8")
    arguments = (sys.executable, "-m", "tieline_cloud", "serve", str(folder / "hub.yaml"), "--log-level", "ERROR")
    with (folder / "hub.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(*arguments, stdout=asyncio.subprocess.PIPE, stderr=log)
        try:
            assert process.stdout is not None
            line = await process.stdout.readline()
            if not line:
                pytest.fail((folder / "hub.log").read_text())
            yield json.loads(line)["url"]
        finally:
            process.kill()
            await process.wait()


@asynccontextmanager
async def edge(path: Path) -> AsyncIterator[None]:
    """An edge process, ended by SIGTERM."""
    with (path.parent / "edge.log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(sys.executable, "-m", "tieline_edge", "run", str(path), stderr=log)
        try:
            yield
            process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(60.0):
                assert await process.wait() == 0
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
    assert "Traceback" not in (path.parent / "edge.log").read_text()


class Hub:
    """The hub's API."""

    def __init__(self, session: httpx.AsyncClient) -> None:
        self.session = session

    async def until(self, path: str, condition: Callable[[Any], bool]) -> Any:
        async with asyncio.timeout(60.0):
            while True:
                answer = await self.session.get(path)
                if answer.is_success and condition(answer.json()):
                    return answer.json()
                await asyncio.sleep(0.1)


@pytest.fixture
async def devices() -> AsyncIterator[tuple[ModbusServer, ModbusServer]]:
    async with ModbusServer() as first, ModbusServer() as second:
        field_of(first)
        field_of(second)
        yield first, second


async def test_a_battery_joins_a_running_edge_gets_its_orders_and_stays_after_a_restart(
    broker: Broker, devices: tuple[ModbusServer, ModbusServer], tmp_path: Path
) -> None:
    first, second = devices
    path, new = tmp_path / "site.yaml", tmp_path / "new.yaml"
    async with hub(tmp_path, broker) as url, httpx.AsyncClient(base_url=f"{url}/v1", timeout=30.0) as session:
        api = Hub(session)
        made = tree(tmp_path, [battery(first.port), load(first.port)])
        key = (tmp_path / "keys/hub.pub").read_text().strip()
        made["hub"] = {
            "mqtt": {"host": broker.host, "port": broker.port, "insecure": True},
            "http": url,
            "public_keys": [key],
        }
        path.write_text(yaml.safe_dump(made, sort_keys=False), encoding="utf-8")
        more = {**made, "devices": [*made["devices"], battery(second.port, "bat2")]}
        new.write_text("# as approved\n" + yaml.safe_dump(more, sort_keys=False), encoding="utf-8")
        publish = ("tieline_cloud", "publish-config", "harbour", "--url", url)
        async with edge(path):
            before = await api.until("edges/harbour", lambda one: one["epoch"] and one["reported"])
            connections = first.connections
            status, told = await command(*publish, str(new))
            assert status == 0, told
            assert "confirmed" in told
            shown = await api.until("edges/harbour", lambda one: one["config_sha256"] is not None)
            assert shown["epoch"] == before["epoch"], "a configuration never touches the outbox"
            await api.until("devices?edge=harbour", lambda rows: any(row["device_id"] == "bat2" for row in rows))
            order = {
                "device_id": "bat2",
                "action": "setpoint_w",
                "value_w": 5000.0,
                "valid_for_s": 600,
                "reason": "first charge",
            }
            answer = await session.post("commands", json={"edge_id": "harbour", "command_id": "first-charge", **order})
            assert answer.status_code == 202
            await api.until("commands/first-charge", lambda one: one["state"] in ("confirmed", "effective", "unconfirmed"))
            assert written(second, BAT_UNIT)
            assert first.connections == connections, "who does not change keeps the connection"
            told = (await command("tieline_edge", "why", "bat2", "--config", str(path)))[1]
            assert "first charge" in told
            new.write_text(yaml.safe_dump({**more, "metrics": {"port": 1}}), encoding="utf-8")
            status, told = await command(*publish, str(new))
            assert status == 1
            assert "metrics.port" in told
            assert (await api.until("edges/harbour", bool))["config_sha256"] == shown["config_sha256"]
        async with edge(path):
            again = await api.until(
                "edges/harbour",
                lambda one: one["reported"]["boot_id"] != shown["reported"]["boot_id"] and one["online_durable"],
            )
            assert again["config_sha256"] == shown["config_sha256"]
            await api.until(
                "devices?edge=harbour", lambda rows: any(row["device_id"] == "bat2" and row["online"] for row in rows)
            )
