"""The checkout of a site on sockets: ticks, consent, limits, read-back and effect, and a sheet to be signed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.edge.commissioning.site import BAT_UNIT, LOAD_UNIT, battery, field_of, load, tree, written
from tests.edge.drivers.field import ModbusServer
from tieline_core.ids import DeviceId
from tieline_edge.__main__ import main
from tieline_edge.commissioning.answers import StoppedError, Terminal
from tieline_edge.commissioning.sheet import Tick
from tieline_edge.state_lock import hold_state

LOAD = DeviceId("load01")
ALL = {"points": "pass", "consent": True, "actuation": "auto"}


@asynccontextmanager
async def obedient(server: ModbusServer) -> AsyncIterator[None]:
    """A contactor whose feedback and power follow its coil, and a battery whose power follows its setpoint."""
    at = next(address for (unit, address), word in sorted(server.holding.items()) if unit == BAT_UNIT and word == 704)
    w701 = next(address for (unit, address), word in sorted(server.holding.items()) if unit == BAT_UNIT and word == 701)

    async def follow() -> None:
        while True:
            closed = server.coils[LOAD_UNIT, 0]
            server.discretes[LOAD_UNIT, 0] = closed
            server.inputs[LOAD_UNIT, 1] = 9000 * closed
            on = server.holding[BAT_UNIT, at + 22]
            server.holding[BAT_UNIT, w701 + 10] = server.holding[BAT_UNIT, at + 25] if on else 0
            await asyncio.sleep(0.005)

    task = asyncio.create_task(follow())
    try:
        yield
    finally:
        task.cancel()


def site(folder: Path, server: ModbusServer, **rest: Any) -> Path:
    path = folder / "site.yaml"
    calm = load(server.port, min_on_s=0.0, min_off_s=0.0)
    made = tree(folder, [battery(server.port), calm], **rest)
    path.write_text(yaml.safe_dump(made), encoding="utf-8")
    return path


def answers(folder: Path, **devices: Any) -> Path:
    path = folder / "answers.yaml"
    path.write_text(json.dumps({"devices": devices}), encoding="utf-8")
    return path


async def checkout(path: Path, *more: str | Path) -> int:
    fast = ["--by", "the crew", "--pause", "0.02", "--look", "0.05"]
    return await asyncio.to_thread(main, ["checkout", str(path), *fast, *map(str, more)])


def sheets(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted((folder / "state/checkout").glob("*.json"))]


async def test_everything_is_seen_moved_and_brought_back_and_the_sheet_says_so(tmp_path: Path) -> None:
    async with ModbusServer() as server:
        field_of(server)
        async with obedient(server):
            path = site(tmp_path, server)
            assert await checkout(path, "--answers", answers(tmp_path, bat1=ALL, load01=ALL)) == 0
        assert server.coils[LOAD_UNIT, 0] == 1, "closed again"
        (sheet,) = sheets(tmp_path)
        assert (sheet["by"], sheet["edge_id"], sheet["ended_at"] is not None) == ("the crew", "harbour", True)
        assert len(sheet["config_sha256"]) == 64
        rows = {row["device"]: row for row in sheet["devices"]}
        (act,) = rows["load01"]["actuations"]
        assert [(step["what"], step["confirmed"], step["effective"]) for step in act["steps"]] == [
            ("open", True, True),
            ("close", True, True),
        ]
        (held,) = rows["bat1"]["actuations"]
        assert "3000 W" in held["steps"][0]["what"].replace("3 kW", "3000 W")
        assert held["steps"][0]["effective"] is True
        assert held["steps"][-1]["what"].startswith("release")
        stem = next((tmp_path / "state/checkout").glob("*.md"))
        assert "Signed off" in stem.read_text()
        assert "✓" in stem.read_text()
        assert stem.with_suffix(".html").read_text().startswith("<!doctype html>")


async def test_without_consent_nothing_is_written_and_the_sheet_stays_open(tmp_path: Path) -> None:
    async with ModbusServer() as server:
        field_of(server)
        path = site(tmp_path, server)
        assert await checkout(path, "--answers", answers(tmp_path, load01={"points": "pass"})) == 1
        assert written(server) == []
        (sheet,) = sheets(tmp_path)
        ticks = {row["device"]: [point["tick"] for point in row["points"]] for row in sheet["devices"]}
        assert set(ticks["load01"]) == {"pass"}
        assert set(ticks["bat1"]) == {"open"}


async def test_vital_tagged_full_and_open_devices_are_not_moved_though_somebody_consents(tmp_path: Path) -> None:
    async with ModbusServer() as server:
        field_of(server)
        path = site(tmp_path, server, shedding={"vital": ["load01"]})
        made = yaml.safe_load(path.read_text())
        made["devices"][1]["priority_class"] = 0
        path.write_text(yaml.safe_dump(made), encoding="utf-8")
        tag = ["tag", "bat1", "--config", str(path), "--by", "the crew", "--reason", "cable is open"]
        assert await asyncio.to_thread(main, tag) == 0
        assert await checkout(path, "--answers", answers(tmp_path, bat1=ALL, load01=ALL)) == 1
        notes = [act["note"] for row in sheets(tmp_path)[0]["devices"] for act in row["actuations"]]
        assert "cable is open" in notes[0]
        assert "vital" in notes[1]
        server.discretes[LOAD_UNIT, 0] = 0
        path = site(tmp_path, server)
        assert await checkout(path, "--answers", answers(tmp_path, load01=ALL), "--device", "load01") == 1
        assert "a test closes nothing" in sheets(tmp_path)[-1]["devices"][0]["actuations"][0]["note"]
        assert written(server) == []


async def test_a_contactor_that_does_not_obey_fails_and_is_said_to_be_open(tmp_path: Path) -> None:
    async with ModbusServer() as server:
        field_of(server)
        path = site(tmp_path, server)
        made = yaml.safe_load(path.read_text())
        made["devices"] = [{**made["devices"][1], "effect_s": 0.3}]
        path.write_text(yaml.safe_dump(made), encoding="utf-8")
        assert await checkout(path, "--answers", answers(tmp_path, load01=ALL)) == 1
        act = sheets(tmp_path)[0]["devices"][0]["actuations"][0]
        assert act["steps"][0]["effective"] is False
        assert act["tick"] == "fail"


async def test_while_the_edge_runs_a_checkout_refuses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with ModbusServer() as server:
        field_of(server)
        path = site(tmp_path, server)
        with hold_state(tmp_path / "state", "the running agent"):
            assert await checkout(path, "--answers", answers(tmp_path)) == 3
        assert "stop the edge first" in capsys.readouterr().err
        assert server.requests == []


async def test_an_unfinished_sheet_is_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    refused: list[str] = []

    async def read(text: str) -> str:
        if "to let it happen" in text:
            refused.append(text)
            return "no"
        # After the first device, the first time, somebody goes home.
        return "q" if len(refused) == 1 and "load01 p_w" in text and not half else "p looks right"

    half: dict[str, Any] = {}
    monkeypatch.setattr("tieline_edge.commissioning.answers.read_line", read)
    async with ModbusServer() as server:
        field_of(server)
        path = site(tmp_path, server)
        assert await checkout(path) == 1
        assert "go on with the same command" in capsys.readouterr().out
        half.update(sheets(tmp_path)[0])
        assert [row["done"] for row in half["devices"]] == [True]
        assert half["devices"][0]["points"][1]["remark"] == "looks right"
        assert await checkout(path) == 1
        assert "1 devices are done" in capsys.readouterr().out
        (whole,) = sheets(tmp_path)
        assert [row["done"] for row in whole["devices"]] == [True, True]
        assert whole["began_at"] == half["began_at"]
        assert whole["ended_at"] is not None
        assert written(server) == []


async def test_only_the_name_of_a_device_is_consent_and_only_known_words_are_ticks() -> None:
    said = iter(["yes", "load01", "maybe", "f too low", ""])

    async def read(_text: str) -> str:
        return next(said)

    terminal = Terminal(read)
    assert await terminal.consent(LOAD, "moves it") is False
    assert await terminal.consent(LOAD, "moves it") is True
    answer = await terminal.tick(LOAD, "p_w", "9 kW", True)
    assert (answer.tick, answer.remark) == (Tick.FAIL, "too low")
    assert (await terminal.tick(LOAD, "p_w", "9 kW", True)).tick is Tick.OPEN

    async def ended(_text: str) -> str:
        raise EOFError

    with pytest.raises(StoppedError):
        await Terminal(ended).tick(LOAD, "p_w", "9 kW", True)


@pytest.mark.parametrize(
    "content", ["a: 1", "devices: 3", "devices: {load01: {points: maybe}}", "devices: {load01: {poinst: pass}}"]
)
async def test_answers_that_cannot_be_understood_are_refused_before_anything_is_read(
    tmp_path: Path, content: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async with ModbusServer() as server:
        field_of(server)
        path = tmp_path / "wrong.yaml"
        path.write_text(content, encoding="utf-8")
        assert await checkout(site(tmp_path, server), "--answers", path) == 2
        assert "wrong.yaml" in capsys.readouterr().err
        assert server.requests == []
