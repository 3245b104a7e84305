"""A site of one battery and one load on a Modbus server in the test's own process, and an agent that works with it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import yaml

from deploy.ports import free_port
from tests.edge.drivers.field import ModbusServer, sunspec_map
from tieline_core.signing import Signer
from tieline_edge.agent import Agent
from tieline_edge.config_file import load_settings

WRITES = {5, 6, 15, 16}
#: A key nobody signs with, so that the edge controls.
KEY = Signer(Signer.new_private()).public.hex()
BAT_UNIT, LOAD_UNIT = 1, 2


def field_of(server: ModbusServer) -> None:
    """A battery that rests at 50 % on unit 1, a closed load of 9 kW on unit 2."""
    at = sunspec_map(server, (1, 701, 704, 802), BAT_UNIT)
    server.put(BAT_UNIT, at[1] + 2, words("Sunny Works", 16))
    server.put(BAT_UNIT, at[1] + 18, words("BAT-60", 16))
    server.put(BAT_UNIT, at[1] + 50, words("SN0042", 16))
    server.put(BAT_UNIT, at[802] + 11, [50])
    for address in (0, 1):
        server.holding[LOAD_UNIT, address] = 0
    server.coils[LOAD_UNIT, 0] = 1
    server.discretes[LOAD_UNIT, 0] = 1
    server.put(LOAD_UNIT, 0, [0, 9000, 2301, 0, 1234], server.inputs)


def words(text: str, count: int) -> list[int]:
    """Text as registers, two characters each."""
    data = text.encode().ljust(2 * count, b"\0")
    return [int.from_bytes(data[2 * n : 2 * n + 2], "big") for n in range(count)]


def battery(port: int, name: str = "bat1") -> dict[str, Any]:
    return {
        "id": name,
        "catalog": "sunspec-storage-704",
        "modbus": {"host": "127.0.0.1", "port": port, "unit": BAT_UNIT, "timeout_s": 2.0},
        "poll_s": 0.1,
        "p_min_w": -60000,
        "p_max_w": 60000,
        "energy_wh": 150000,
    }


def load(port: int, name: str = "load01", unit: int = LOAD_UNIT, **rest: Any) -> dict[str, Any]:
    return {
        "id": name,
        "catalog": "modbus-load-switch",
        "modbus": {"host": "127.0.0.1", "port": port, "unit": unit, "timeout_s": 2.0},
        "poll_s": 0.1,
        "priority_class": 4,
        "p_max_w": 10000,
        **rest,
    }


def tree(folder: Path, devices: Sequence[dict[str, Any]], **rest: Any) -> dict[str, Any]:
    return {
        "edge_id": "harbour",
        "state_dir": str(folder / "state"),
        "site": {"name": "Harbour", "rated_va": 630e3},
        "hub": {
            "mqtt": {"host": "127.0.0.1", "port": free_port(), "insecure": True},
            "http": "http://127.0.0.1:1",
            "public_keys": [KEY],
        },
        "cycle": {"period_s": 0.05, "floor_wall_s": 0.05},
        "metrics": {"port": free_port()},
        "forecast": {"enabled": False},
        "devices": list(devices),
        **rest,
    }


def site_file(folder: Path, server: ModbusServer, **rest: Any) -> Path:
    """The site file of both devices."""
    path = folder / "site.yaml"
    made = tree(folder, [battery(server.port), load(server.port)], **rest)
    path.write_text(yaml.safe_dump(made, sort_keys=False), encoding="utf-8")
    return path


def written(server: ModbusServer, unit: int | None = None) -> list[tuple[int, int, int]]:
    """Requests that write, as the server saw them."""
    return [row for row in server.requests if row[1] in WRITES and unit in (None, row[0])]


@asynccontextmanager
async def running(path: Path, **update: Any) -> AsyncIterator[Agent]:
    """An agent in this process, ready, ended at the end."""
    agent = Agent(load_settings(path).model_copy(update=update))
    async with asyncio.TaskGroup() as group:
        task = group.create_task(agent.run())
        async with asyncio.timeout(60.0):
            await agent.ready.wait()
        yield agent
        agent.stop()
        async with asyncio.timeout(60.0):
            await asyncio.shield(task)
