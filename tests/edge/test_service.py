"""The watchdog of systemd: fed by the control loop alone, in this process and in a real one that freezes (F12)."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.edge.drivers.field import ModbusServer
from tests.edge.test_agent import fetch, settings
from tieline_core.errors import BadInputError
from tieline_edge.agent import Agent
from tieline_edge.control.cycle import ControlCycle
from tieline_edge.service import Notifier, check_watchdog


class Listener:
    """The socket of systemd: notes what comes and when."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.heard: list[tuple[float, str]] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.settimeout(0.1)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()

    def _listen(self) -> None:
        while not self._over.is_set():
            try:
                self.heard.append((time.monotonic(), self._socket.recv(256).decode()))
            except TimeoutError:
                continue

    def count(self, message: str) -> int:
        return sum(text == message for _, text in self.heard)

    def close(self) -> None:
        self._over.set()
        self._thread.join()
        self._socket.close()


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Listener]:
    listener = Listener(tmp_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", str(listener.path))
    yield listener
    listener.close()


def load_switch() -> ModbusServer:
    """A closed load switch that answers."""
    inputs = dict(enumerate([0, 5000, 2300, 0, 7]))  # 5 kW, 230 V, 70 Wh
    return ModbusServer(
        inputs={(1, address): word for address, word in inputs.items()},
        discretes={(1, 0): 1},
        coils={(1, 0): 1},
        holding={(1, 1): 0},
    )


def site_file(folder: Path, server: ModbusServer) -> tuple[Path, int]:
    """A site with one load switch on the server, five cycles a second; and the port of its pages."""
    tree = settings(folder / "state").model_dump(mode="json", exclude_unset=True)
    tree["cycle"] = {"period_s": 0.2, "floor_wall_s": 0.2}
    tree["devices"][0]["modbus"]["port"] = server.port
    tree["devices"][0]["modbus"]["timeout_s"] = 10.0
    tree["devices"][0]["poll_s"] = 0.2
    config = folder / "site.yaml"
    config.write_text(yaml.safe_dump(tree), encoding="utf-8")
    return config, int(tree["metrics"]["port"])


async def until(condition: Any, seconds: float = 30.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - another thread, or another process, does it
            await asyncio.sleep(0.02)


def test_nothing_is_told_where_nobody_listens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    Notifier.of_environment().tell("READY=1")
    nobody = Notifier(str(tmp_path / "nobody"))
    nobody.tell("WATCHDOG=1")
    nobody.close()
    nobody.tell("WATCHDOG=1")


def test_an_abstract_address_is_understood() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind("\0tieline-test-" + os.urandom(4).hex())
        listener.settimeout(10.0)
        notifier = Notifier("@" + listener.getsockname().decode()[1:])
        notifier.tell("READY=1")
        assert listener.recv(64) == b"READY=1"
        notifier.close()


@pytest.mark.parametrize(
    ("usec", "period_s", "fine"),
    [("30000000", 1.0, True), ("30000000", 15.0, True), ("30000000", 15.1, False), ("", 1e9, True)],
)
def test_a_cycle_that_would_starve_its_watchdog_does_not_start(
    monkeypatch: pytest.MonkeyPatch, usec: str, period_s: float, fine: bool
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", usec)
    if fine:
        check_watchdog(period_s)
    else:
        with pytest.raises(BadInputError, match="at least twice"):
            check_watchdog(period_s)
    monkeypatch.setenv("WATCHDOG_PID", "1")
    check_watchdog(1e9)


async def test_a_hung_control_loop_stops_feeding_while_everything_else_runs(
    tmp_path: Path, systemd: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, hung = settings(tmp_path), asyncio.Event()
    real = ControlCycle.run_once

    async def run_once(cycle: ControlCycle, hands: Any) -> None:
        await real(cycle, hands)
        if cycle.stats.count >= 5:
            hung.set()
            await asyncio.Event().wait()

    monkeypatch.setattr(ControlCycle, "run_once", run_once)
    agent = Agent(made)
    async with asyncio.TaskGroup() as group:
        group.create_task(agent.run())
        async with asyncio.timeout(60.0):
            await hung.wait()
        await until(lambda: systemd.count("WATCHDOG=1") == 4)
        polls = json.loads((await fetch(made.metrics.port, "/status"))[1])["polls"]["count"]
        await asyncio.sleep(1.0)  # twenty periods
        status = json.loads((await fetch(made.metrics.port, "/status"))[1])
        assert status["polls"]["count"] + status["polls"]["failed"] >= polls
        assert status["cycle"]["count"] == 5
        assert systemd.count("WATCHDOG=1") == 4
        assert systemd.count("READY=1") == 1
        agent.stop()
    assert systemd.count("STOPPING=1") == 1


async def test_f12_a_frozen_agent_feeds_nobody_and_wakes_without_catching_up(tmp_path: Path, systemd: Listener) -> None:
    """F12 (I5, I6): while it is frozen systemd hears nothing; on waking it polls and decides once, and writes nothing."""
    asked: list[tuple[float, int]] = []
    server = load_switch()
    server.asked = lambda _unit, function, _address: asked.append((time.monotonic(), function))
    async with server:
        config, _ = site_file(tmp_path, server)
        command = [sys.executable, "-m", "tieline_edge", "run", str(config)]
        with (tmp_path / "err").open("wb") as err:
            process = await asyncio.create_subprocess_exec(*command, stderr=err, env={**os.environ})
            try:
                await until(lambda: systemd.count("WATCHDOG=1") >= 3 and asked, 60.0)
                process.send_signal(signal.SIGSTOP)
                await asyncio.sleep(0.5)
                frozen_at, before = time.monotonic(), len(systemd.heard)
                await asyncio.sleep(2.0)  # ten periods
                assert len(systemd.heard) == before
                woken_at = time.monotonic()
                process.send_signal(signal.SIGCONT)
                await until(lambda: systemd.count("WATCHDOG=1") >= before + 3)
                took_s = time.monotonic() - woken_at
                # One at once and one a period: nothing of what was slept through is made up for.
                most = 3 + took_s / 0.2
                fed = sum(at > woken_at for at, text in systemd.heard if text == "WATCHDOG=1")
                polls = sum(at > woken_at for at, _ in asked)
                assert fed <= most
                assert polls <= 4 * most
                assert [row for row in asked if frozen_at < row[0] < woken_at] == []
                assert {function for _, function in asked} <= {1, 2, 3, 4}, "nothing was written"
                process.send_signal(signal.SIGTERM)
                assert await asyncio.wait_for(process.wait(), 60.0) == 0
            finally:
                if process.returncode is None:
                    process.kill()
    assert "Traceback" not in (tmp_path / "err").read_text()


async def test_f42_an_agent_out_of_file_descriptors_goes_on_deciding_and_serves_again_afterwards(
    tmp_path: Path, systemd: Listener
) -> None:
    """F42 (I7): no new descriptor is to be had; polls, cycles and watchdog go on, pages come back when there is."""
    asked: list[int] = []
    server = load_switch()
    server.asked = lambda _unit, function, _address: asked.append(function)
    async with server:
        config, port = site_file(tmp_path, server)
        command = [sys.executable, "-m", "tieline_edge", "run", str(config)]
        with (tmp_path / "err").open("wb") as err:
            process = await asyncio.create_subprocess_exec(*command, stderr=err, env={**os.environ})
            try:
                await until(lambda: systemd.count("WATCHDOG=1") >= 3 and asked, 60.0)
                soft, hard = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)
                # The limit counts from the lowest free number: below 3 no descriptor can be given out at all.
                resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (3, hard))
                await asyncio.sleep(0.3)
                fed, polled = systemd.count("WATCHDOG=1"), len(asked)
                await until(lambda: systemd.count("WATCHDOG=1") >= fed + 10 and len(asked) >= polled + 10)
                resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (soft, hard))
                async with asyncio.timeout(60.0):
                    code, body = await fetch(port, "/status")
                assert code == 200
                assert json.loads(body)["devices"]["load01"]["online"] is True
                process.send_signal(signal.SIGTERM)
                assert await asyncio.wait_for(process.wait(), 60.0) == 0
            finally:
                if process.returncode is None:
                    process.kill()
