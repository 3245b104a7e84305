"""``check-device`` against a device on a socket: words, exit codes, and not one write."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
import yaml

from deploy.ports import free_port
from tests.edge.commissioning.site import LOAD_UNIT, field_of, load, site_file, tree, written
from tests.edge.drivers.field import ModbusServer
from tieline_edge.__main__ import main


async def check(path: Path, device: str, *more: str) -> int:
    return await asyncio.to_thread(main, ["check-device", str(path), device, "--pause", "0.05", *more])


async def test_a_load_is_shown_point_by_point_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with ModbusServer() as server:
        field_of(server)
        path = site_file(tmp_path, server)
        assert await check(path, "load01") == 0
        out = capsys.readouterr().out
        for words in (
            "9 000 W",
            "drawn from the grid",
            "230.1 V",
            "closed",
            "can be asked to open and close (class 4",
            "Nothing was",
        ):
            assert words in out, out
        server.inputs[LOAD_UNIT, 2] = 9999
        assert await check(path, "load01", "--json") == 1
        told = json.loads(capsys.readouterr().out)
        assert told["mark"] == "bad"
        assert "v_v 999.9" in told["note"], "the number the driver doubts is named"
        assert await check(path, "bat1", "--json") in (0, 1)
        assert json.loads(capsys.readouterr().out)["role"] == "storage"
        assert written(server) == []


async def test_a_silent_device_a_wrong_name_and_a_meter_that_publishes_have_their_own_exit_codes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "site.yaml"
    meter = {"id": "m01", "catalog": "mqtt-json-meter", "mqtt": {"serial": "1"}}
    broker = {"host": "127.0.0.1", "insecure": True}
    path.write_text(yaml.safe_dump(tree(tmp_path, [load(free_port()), meter], field_broker=broker)), encoding="utf-8")
    assert await check(path, "load01") == 3
    assert "load01" in capsys.readouterr().err
    assert await check(path, "load01", "--json") == 3
    assert json.loads(capsys.readouterr().out)["error"]
    assert await check(path, "load77") == 2
    assert "load01, m01" in capsys.readouterr().err
    assert await check(path, "m01") == 2
    assert "publishes by itself" in capsys.readouterr().err
