"""From the answer that carries a crossing to the write, without waiting for the next regular cycle; real sockets."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import yaml

from deploy.ports import free_port
from tests.edge.drivers.field import ModbusServer
from tieline_edge.agent import Agent
from tieline_edge.settings import EdgeSettings

#: Far longer than the test waits: what is written before it was not written by a regular cycle.
PERIOD_S = 120.0
BAY: dict[str, Any] = {
    "name": "a-bay",
    "title": "A transformer bay",
    "source": "sheet of the maker",
    "protocol": "modbus",
    "role": "transformer",
    "capabilities": ["measure"],
    "points": [{"quantity": "loading_pct", "register": {"table": "input", "address": 0}}],
}


def settings(folder: Path, bay: int, load: int) -> EdgeSettings:
    path = folder / "a-bay.yaml"
    path.write_text(yaml.safe_dump(BAY), encoding="utf-8")
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
            "cycle": {"period_s": PERIOD_S, "floor_wall_s": 0.05},
            "metrics": {"port": 0},
            "forecast": {"enabled": False},
            "shedding": {
                "transformer": "tr1",
                "thermal_overload": {"hold_s": 1e-6, "severe_hold_s": 1e-6},
                "switching": {"min_samples": 1},
            },
            "devices": [
                {"id": "tr1", "catalog": str(path), "modbus": {"host": "127.0.0.1", "port": bay}, "poll_s": 0.1},
                {
                    "id": "load01",
                    "catalog": "modbus-load-switch",
                    "modbus": {"host": "127.0.0.1", "port": load},
                    "poll_s": 0.1,
                    "priority_class": 3,
                    "p_max_w": 90000.0,
                },
            ],
        }
    )


async def until(what: Any) -> None:
    async with asyncio.timeout(PERIOD_S / 4):
        while not what():  # noqa: ASYNC110 - the simulated devices have no events
            await asyncio.sleep(0.01)


async def test_a_crossing_is_acted_on_long_before_the_next_regular_cycle(tmp_path: Path) -> None:
    async with ModbusServer() as bay, ModbusServer() as load:
        bay.put(1, 0, [70], bay.inputs)
        load.put(1, 0, [0, 60000, 2300, 0, 0], load.inputs)
        load.put(1, 0, [1], load.discretes)
        load.put(1, 0, [1], load.coils)
        load.put(1, 0, [0, 0])
        agent = Agent(settings(tmp_path, bay.port, load.port))
        async with asyncio.TaskGroup() as group:
            group.create_task(agent.run())
            await until(agent.ready.is_set)
            polls = len(load.requests)
            await until(lambda: len(load.requests) > polls + 4)
            assert load.coils[1, 0] == 1
            bay.put(1, 0, [130], bay.inputs)
            await until(lambda: load.coils[1, 0] == 0)
            agent.stop()
