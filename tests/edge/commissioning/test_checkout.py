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

from deploy.ports import free_port
from tests.edge.commissioning.site import BAT_UNIT, LOAD_UNIT, battery, field_of, load, tree, written
from tests.edge.drivers.field import ModbusServer, sunspec_map
from tieline_core.clock import SystemClock
from tieline_core.ids import DeviceId
from tieline_edge.__main__ import main
from tieline_edge.commissioning.actuate import Actuator, NotMovedError
from tieline_edge.commissioning.answers import StoppedError, Terminal
from tieline_edge.commissioning.sheet import Tick
from tieline_edge.commissioning.visit import Visit, visit
from tieline_edge.control.memory import ArbiterMemory
from tieline_edge.settings import EdgeSettings
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
        assert "no consent" not in next((tmp_path / "state" / "checkout").glob("*.md")).read_text(encoding="utf-8")
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


async def test_a_name_that_is_none_is_refused_before_anything_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with ModbusServer() as server:
        path = site(tmp_path, server)
        assert await asyncio.to_thread(main, ["checkout", str(path), "--by", "A"]) == 2
        assert "--by = 'A': a name has 2 to 64 characters" in capsys.readouterr().err
        assert not server.requests


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
    asked: list[str] = []

    async def read(text: str) -> str:
        if "to let it happen" in text:
            refused.append(text)
            return "no"
        asked.append(text.rsplit("    ", 1)[1].split(":", maxsplit=1)[0])
        # In the middle of the second device, the first time, somebody goes home.
        return "q" if "load01 v_v" in text and not half else "p looks right"

    half: dict[str, Any] = {}
    monkeypatch.setattr("tieline_edge.commissioning.answers.read_line", read)
    async with ModbusServer() as server:
        field_of(server)
        path = site(tmp_path, server)
        assert await checkout(path) == 1
        assert "go on with the same command" in capsys.readouterr().out
        half.update(sheets(tmp_path)[0])
        assert [row["done"] for row in half["devices"]] == [True, False]
        assert [point["tick"] for point in half["devices"][1]["points"]] == ["pass"]
        assert half["devices"][0]["points"][1]["remark"] == "looks right"
        assert await checkout(path) == 1
        assert "1 devices are done" in capsys.readouterr().out
        (whole,) = sheets(tmp_path)
        assert [row["done"] for row in whole["devices"]] == [True, True]
        assert whole["began_at"] == half["began_at"]
        assert asked.count("load01 p_w") == 1, "what was ticked is not asked again"
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


async def test_a_device_that_does_not_answer_fails_whatever_the_answers_say(tmp_path: Path) -> None:
    path = tmp_path / "site.yaml"
    made = tree(tmp_path, [load(free_port())])
    path.write_text(yaml.safe_dump(made), encoding="utf-8")
    assert await checkout(path, "--answers", answers(tmp_path, load01=ALL)) == 1
    (row,) = sheets(tmp_path)[0]["devices"]
    assert [point["tick"] for point in row["points"]] == ["fail"]
    assert "does not answer" in row["points"][0]["reason"]
    assert row["actuations"] == []


class Bench:
    """One device on a socket, moved without a walk."""

    def __init__(self, found: Visit) -> None:
        self.told: list[str] = []
        self.actuator = Actuator(found, True, ArbiterMemory(), self.told.append, look_s=0.02)


@asynccontextmanager
async def bench(folder: Path, device: dict[str, Any]) -> AsyncIterator[Bench]:
    settings = EdgeSettings.model_validate(tree(folder, [device]))
    async with visit(settings, settings.devices[0], SystemClock()) as found:
        yield Bench(found)


async def test_a_minimum_time_is_waited_for_and_said(tmp_path: Path) -> None:
    async with ModbusServer() as server:
        field_of(server)
        async with obedient(server), bench(tmp_path, load(server.port, min_on_s=0.3, min_off_s=0.3)) as one:
            await one.actuator.move()
    assert [step.what for step in one.actuator.steps] == ["open", "close"]
    assert any("minimum on time" in text for text in one.told)
    assert any("minimum off time" in text for text in one.told)


async def test_nothing_closes_onto_a_busbar_nobody_knows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tieline_edge.commissioning.actuate._PATIENCE_S", 0.2)
    async with ModbusServer() as server:
        field_of(server)
        async with obedient(server), bench(tmp_path, load(server.port, min_on_s=0.0, min_off_s=0.0)) as one:
            one.actuator.bus_live = None
            with pytest.raises(NotMovedError, match="closes by itself"):
                await one.actuator.move()
        assert server.coils[LOAD_UNIT, 0] == 0
        assert server.holding[LOAD_UNIT, 1] == 600, "the device's own timer brings it back"


async def test_a_plant_is_limited_below_what_it_delivers_and_released(tmp_path: Path) -> None:
    async with ModbusServer() as server:
        at = sunspec_map(server, (1, 701, 704), 1)
        pv = {
            "id": "pv1",
            "catalog": "sunspec-pv-704",
            "modbus": {"host": "127.0.0.1", "port": server.port, "unit": 1},
            "p_min_w": -50000,
            "effect_s": 0.2,
        }
        server.put(1, at[701] + 10, [20_000])
        async with bench(tmp_path, pv) as one:
            await one.actuator.move()
            assert server.holding[1, at[704] + 15] == 25, "12.5 kW of 50 kW, in per cent"
            assert server.holding[1, at[704] + 14] == 0, "released"
            assert [step.what.split(" ")[0] for step in one.actuator.steps] == ["deliver", "release"]
            assert one.actuator.steps[0].effective is False
        server.put(1, at[701] + 10, [3_000])
        async with bench(tmp_path, pv) as one:
            await one.actuator.move()
            assert one.actuator.steps[0].effective is None
            assert "too little" in one.actuator.steps[0].effect


async def test_a_full_storage_is_discharged_and_an_unknown_one_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tieline_edge.commissioning.actuate._PATIENCE_S", 0.2)
    async with ModbusServer() as server:
        field_of(server)
        soc = next(address for (unit, address), word in sorted(server.holding.items()) if unit == BAT_UNIT and word == 802) + 11
        server.holding[BAT_UNIT, soc] = 100
        async with obedient(server), bench(tmp_path, battery(server.port)) as one:
            await one.actuator.move()
        assert one.actuator.steps[0].what == "hold -3 kW (discharge)"
        server.holding[BAT_UNIT, soc] = 0xFFFF
        async with obedient(server), bench(tmp_path, battery(server.port)) as one:
            with pytest.raises(NotMovedError, match="state of charge"):
                await one.actuator.move()
        assert [step.what for step in one.actuator.steps] == ["release to its own default"]
