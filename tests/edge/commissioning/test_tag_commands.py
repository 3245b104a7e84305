"""Tags at the command line, on a stopped and on a running edge, and on the wire."""

from __future__ import annotations

import asyncio
import http.client
import json
import stat
import urllib.request
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.edge.commissioning.site import BAT_UNIT, LOAD_UNIT, field_of, running, site_file, written
from tests.edge.drivers.field import ModbusServer
from tieline_core.ids import DeviceId
from tieline_edge.__main__ import main
from tieline_edge.agent import Agent
from tieline_edge.commissioning import proof
from tieline_edge.commissioning.token import new_token
from tieline_edge.config_file import load_settings
from tieline_edge.control.claims import Band, Claim
from tieline_edge.state_lock import StateHeldError, hold_state
from tieline_edge.state_paths import StatePaths


async def cli(*arguments: str | Path) -> int:
    """A command in a thread, as another process would run beside the agent."""
    return await asyncio.to_thread(main, [str(one) for one in arguments])


class Pusher:
    """Wants the battery at 20 kW and the load open, all the time, as safety."""

    def claims(self, view: Any) -> list[Claim]:
        ends = view.now.replace(year=view.now.year + 1)
        return [
            Claim(DeviceId("bat1"), Band.SAFETY, "pusher", "test", setpoint_w=20e3, expires_at=ends),
            Claim(DeviceId("load01"), Band.SAFETY, "pusher", "test", closed=False, expires_at=ends),
        ]


@pytest.fixture
def pushed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody wants both devices to act in every cycle."""
    import tieline_edge.bootstrap as bootstrap

    before = bootstrap.speakers
    monkeypatch.setattr(bootstrap, "speakers", lambda *known: (*before(*known), Pusher()))


async def status(agent: Agent) -> dict[str, Any]:
    def fetch() -> Any:
        with urllib.request.urlopen(f"http://127.0.0.1:{agent.port}/status", timeout=10) as answer:
            return json.load(answer)

    found: dict[str, Any] = await asyncio.to_thread(fetch)
    return found


async def until(condition: Any) -> None:
    async with asyncio.timeout(30.0):
        while not condition():  # noqa: ASYNC110 (what a server in this process has seen has no event)
            await asyncio.sleep(0.02)


async def cycles(agent: Agent, count: int = 8) -> None:
    """Let the loop go round some more times."""
    goal = (await status(agent))["cycle"]["count"] + count
    async with asyncio.timeout(30.0):
        while (await status(agent))["cycle"]["count"] < goal:  # noqa: ASYNC110 (a page has no event)
            await asyncio.sleep(0.02)


@pytest.mark.usefixtures("pushed")
async def test_a_device_tagged_before_the_start_gets_no_write_while_the_others_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with ModbusServer() as server:
        field_of(server)
        path = site_file(tmp_path, server)
        assert await cli("tag", "load01", "--config", path, "--by", "the crew", "--reason", "contactor is replaced") == 0
        assert "not running" in capsys.readouterr().out
        async with running(path) as agent:
            await until(lambda: written(server, BAT_UNIT))
            await cycles(agent)
            told = (await status(agent))["devices"]
            assert "the crew" in told["load01"]["tag"]
            assert told["bat1"]["tag"] is None
            assert await cli("status", "--config", path) == 0
            assert await cli("why", "load01", "--config", path) == 0
            out = capsys.readouterr().out
            assert "TAGGED    load01" in out
            assert "do not operate" in out
        assert written(server, LOAD_UNIT) == []
        assert written(server, BAT_UNIT)
        assert server.coils[LOAD_UNIT, 0] == 1


@pytest.mark.usefixtures("pushed")
async def test_a_tag_hung_on_a_running_edge_ends_all_writes_and_its_removal_lets_them_begin(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with ModbusServer() as server:
        field_of(server)
        path = site_file(tmp_path, server)
        async with running(path) as agent:
            await until(lambda: written(server, BAT_UNIT) and server.coils[LOAD_UNIT, 0] == 0)
            for device in ("bat1", "load01"):
                assert await cli("tag", device, "--config", path, "--by", "the crew", "--reason", "work", "--as-is") == 0
            assert "no write is under way" in capsys.readouterr().out
            before = len(written(server))
            await cycles(agent)
            assert len(written(server)) == before
            assert await cli("tags", "--config", path) == 0
            assert await cli("tags", "--json", "--config", path) == 0
            assert "bat1: tagged by the crew" in capsys.readouterr().out
            assert await cli("untag", "load01", "--config", path, "--by", "the crew") == 0
            await until(lambda: written(server, LOAD_UNIT))
            assert await cli("untag", "load01", "--config", path, "--by", "the crew") == 2
            assert "has no tag" in capsys.readouterr().err
            bat = written(server, BAT_UNIT)
        # The end of the agent hands batteries back to their own default, but not one under a tag.
        assert written(server, BAT_UNIT) == bat
        assert await cli("tags", "--config", path) == 0
        assert "bat1: tagged" in capsys.readouterr().out


async def test_orders_need_the_token_which_only_the_owner_can_read(tmp_path: Path) -> None:
    async with ModbusServer() as server:
        field_of(server)
        path = site_file(tmp_path, server)
        async with running(path) as agent:
            token = StatePaths.below(tmp_path / "state").token
            assert stat.S_IMODE(token.stat().st_mode) == 0o600

            def post(where: str, body: bytes, key: str | None, nonce: str | None = None) -> tuple[int, str]:
                nonce = nonce or proof.new_nonce()
                shown = {} if key is None else {"Authorization": f"Tieline {proof.of_order(key, nonce, where, body)}"}
                headers = {**shown, proof.NONCE: nonce}
                with closing(http.client.HTTPConnection("127.0.0.1", agent.port or 0, timeout=10)) as connection:
                    connection.request("POST", where, body, headers)
                    answer = connection.getresponse()
                    return answer.status, answer.read().decode()

            good = json.dumps({"device": "load01", "by": "the crew", "reason": "work"}).encode()
            key = token.read_text().strip()
            for where, body, known, expected in (
                ("/tag", good, None, 401),
                ("/tag", good, "x" * 43, 401),
                ("/tag", good, "", 401),
                ("/nothing", good, key, 404),
                ("/status", good, key, 405),
                ("/tag", b"[]", key, 400),
                ("/tag", b'{"device": "load01"}', key, 400),
                ("/tag", b"x" * 9000, key, 400),
                ("/tag", good.replace(b'"work"', b'"work", "hold": "upside-down"'), key, 400),
            ):
                code, text = await asyncio.to_thread(post, where, body, known)
                assert (code, json.loads(text)["status"]) == (expected, expected)
            assert (await status(agent))["tags"]["tags"] == []
            assert (await asyncio.to_thread(post, "/tag", good, key, "once"))[0] == 200
            assert [row["device"] for row in (await status(agent))["tags"]["tags"]] == ["load01"]
            code, text = await asyncio.to_thread(post, "/tag", good, key, "once")
            assert (code, "given before" in text) == (401, True), "who has listened repeats no order"


async def test_an_answer_of_somebody_else_on_the_port_is_not_believed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever works on a device because he was told that its tag hangs must have been told so by the edge."""
    async with ModbusServer() as server:
        field_of(server)
        path = site_file(tmp_path, server)
        settings = load_settings(path)
        settings.state_dir.mkdir(exist_ok=True)
        heard: list[bytes] = []

        async def says_tagged(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            heard.append(await reader.readuntil(b"\r\n\r\n"))
            tag = {"device": "load01", "by": "the crew", "reason": "work", "hold": "as-is", "at": "2026-01-01T00:00:00Z"}
            body = json.dumps({"tag": tag, "quiet": True, "warning": None}).encode()
            writer.write(b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            writer.close()

        token = new_token(StatePaths.below(settings.state_dir).token)
        impostor = await asyncio.start_server(says_tagged, "127.0.0.1", settings.metrics.port)
        async with impostor:
            with hold_state(settings.state_dir, "the running agent"):
                code = await cli("tag", "load01", "--config", path, "--by", "the crew", "--reason", "work", "--as-is")
        assert code == 3
        assert "does not know the token of harbour" in capsys.readouterr().err
        assert token.encode() not in heard[0], "nor was the token told to it"


async def test_a_dry_run_decides_and_tells_and_writes_not_one_byte(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], pushed: None
) -> None:
    async with ModbusServer() as server:
        field_of(server)
        path = site_file(tmp_path, server)
        async with running(path, dry_run=True) as agent:
            await cycles(agent, 20)
            assert (await status(agent))["dry_run"] is True
            assert await cli("status", "--config", path) == 0
            assert "DRY RUN" in capsys.readouterr().out
            assert await cli("why", "bat1", "--config", path) == 0
            told = capsys.readouterr().out
            assert "20000 W" in told
            assert "dry run" in told
        assert written(server) == []
        assert server.requests
        assert not (tmp_path / "state" / "control.json").exists()


async def test_a_state_held_by_somebody_who_takes_no_orders_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with ModbusServer() as server:
        path = site_file(tmp_path, server)
        with hold_state(tmp_path / "state", "tieline-edge checkout"):
            (tmp_path / "state/local.token").write_text("x\n")
            for command in (("tag", "load01", "--by", "the crew", "--reason", "work"), ("tags",)):
                assert await cli(*command, "--config", path) == 3
                assert "tieline-edge checkout" in capsys.readouterr().err
        (tmp_path / "state/local.token").unlink()
        with hold_state(tmp_path / "state", "somebody"):
            assert await cli("untag", "load01", "--by", "the crew", "--config", path) == 2
        assert "has this edge run yet" in capsys.readouterr().err


def test_one_process_at_a_time_works_with_a_state_folder(tmp_path: Path) -> None:
    with (
        hold_state(tmp_path / "s", "the running agent"),
        pytest.raises(StateHeldError, match="the running agent"),
        hold_state(tmp_path / "s", "somebody"),
    ):
        pass
    with hold_state(tmp_path / "s", "somebody"):
        pass
