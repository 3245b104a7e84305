"""From scan to checkout at the simulator's own devices, whose log says what reached them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import yaml

from tieline_edge.__main__ import main
from tieline_sim.devices.contactor import Contactor
from tieline_sim.scenario import SheddableSpec
from tieline_sim.servers.modbus import ModbusEndpoint, contactor_units

NOW_S = 1_765_000_000.0


class Customer:
    """A simulated customer behind a contactor, and everything its server was told to write."""

    def __init__(self) -> None:
        self.now = NOW_S
        self.moves: list[tuple[bool, str]] = []
        self.orders: list[dict[str, float]] = []
        spec = SheddableSpec(unit=1, priority_class=3, share=0.05)
        self.contactor = Contactor(spec, 30e3, lambda: self.now, lambda _unit, closed, why: self.moves.append((closed, why)))
        self.contactor.step(0.0, 5000.0, 231.4)

    def answered(self, _device: str, _values: dict[str, float]) -> None: ...

    def written(self, _device: str, values: dict[str, float]) -> None:
        self.orders.append(values)

    async def live(self) -> None:
        """Power follows the contact."""
        while True:
            self.contactor.step(0.02, 5000.0, 231.4)
            await asyncio.sleep(0.02)


@asynccontextmanager
async def simulated() -> AsyncIterator[tuple[Customer, int]]:
    customer = Customer()
    endpoint = ModbusEndpoint(0, contactor_units({1: customer.contactor}), customer.answered, customer.written)
    await endpoint.open()
    living = asyncio.create_task(customer.live())
    try:
        yield customer, endpoint.port
    finally:
        living.cancel()
        await endpoint.close()


async def test_a_load_is_found_looked_at_and_moved_only_with_consent(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def tool(*words: str | Path) -> int:
        return await asyncio.to_thread(main, [str(word) for word in words])

    path, answers = tmp_path / "site.yaml", tmp_path / "answers.yaml"
    async with simulated() as (customer, port):
        assert await tool("scan", "127.0.0.1", "--ports", str(port), "--units", "1", "--site", "harbour") == 0
        proposed = capsys.readouterr().out
        assert "it only looks like modbus-load-switch" in proposed
        made = yaml.safe_load(
            proposed.replace("  # - id", "  - id").replace("  #   ", "    ").replace("devices: []", "devices:")
        )
        made["state_dir"] = str(tmp_path / "state")
        (load,) = made["devices"]
        load |= {"priority_class": 3, "p_max_w": 30000, "min_on_s": 0, "min_off_s": 0, "catalog": "modbus-load-switch"}
        path.write_text(yaml.safe_dump(made), encoding="utf-8")
        assert await tool("check-config", path) == 0
        capsys.readouterr()
        assert await tool("check-device", path, load["id"], "--pause", "0.05") == 0
        shown = capsys.readouterr().out
        assert "5 000 W" in shown
        assert "231.4 V" in shown
        checkout = ("checkout", path, "--by", "the crew", "--pause", "0.05", "--look", "0.05", "--answers", answers)
        answers.write_text(json.dumps({"devices": {load["id"]: {"points": "auto"}}}), encoding="utf-8")
        assert await tool(*checkout, "--new") == 1
        assert customer.orders == []
        assert customer.moves == []
        given = {"points": "auto", "consent": True, "actuation": "auto"}
        answers.write_text(json.dumps({"devices": {load["id"]: given}}), encoding="utf-8")
        assert await tool(*checkout, "--new") == 0, capsys.readouterr().err
        assert customer.moves == [(False, "write"), (True, "write")]
        assert [order.get("coil") for order in customer.orders if "coil" in order] == [0.0, 1.0]
