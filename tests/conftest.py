"""Fixtures every test folder may use: a real MQTT broker, a real PostgreSQL server."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import hypothesis
import pytest

from deploy.ports import free_port
from tests.postgres_server import PostgresServer, postgres_server

# How long an example takes says how busy the machine is, not whether the code is right.
hypothesis.settings.register_profile("tieline", deadline=None)
hypothesis.settings.load_profile("tieline")

#: What takes longest is begun first, so that no worker is left alone with it at the end.
SLOW_FIRST = (
    "tests/simulation/",
    "tests/integration/",
    "tests/faults/",
    "tests/cloud/console/",
    "tests/contract/store/",
    "tests/sim/",
    "tests/cloud/store/",
    "tests/cloud/quality/",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the slow folders in front; inside them, and behind them, the order stays."""
    ranks = {folder: rank for rank, folder in enumerate(SLOW_FIRST)}

    def rank(item: pytest.Item) -> int:
        return next((number for folder, number in ranks.items() if item.nodeid.startswith(folder)), len(ranks))

    items.sort(key=rank)


def wait_for_port(port: int, process: subprocess.Popen[bytes], seconds: float = 10.0) -> None:
    """Return once something listens; fail when the process ends or time is up."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if process.poll() is not None:
            pytest.fail(f"{process.args!r} ended with {process.returncode} before it listened on {port}")
        with socket.socket() as probe:
            probe.settimeout(0.2)
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
    pytest.fail(f"{process.args!r} does not listen on {port} after {seconds} s")


@dataclass
class Broker:
    """A broker process on loopback that tests may kill and start again."""

    host: str
    port: int
    command: list[str]
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start and wait until it listens."""
        self.process = subprocess.Popen(self.command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for_port(self.port, self.process)

    def kill(self) -> None:
        """SIGKILL, no goodbye."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


def broker_command(port: int, folder: Path) -> list[str]:
    """Command line of a loopback broker: mosquitto, else the embedded one; in CI only the real one will do."""
    program = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
    if program:
        conf = folder / f"mosquitto-{port}.conf"
        conf.write_text(
            f"listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\n"
            "max_inflight_messages 200\nmax_queued_messages 100000\n",
            encoding="utf-8",
        )
        return [program, "-c", str(conf)]
    if os.environ.get("CI"):
        pytest.fail("mosquitto is not installed; in CI a missing broker is an error")
    # In the edge's own environment there is no simulator; the workspace's interpreter lends its broker.
    python = os.environ.get("TIELINE_BROKER_PYTHON", sys.executable)
    return [python, "-m", "tieline_sim", "broker", "--port", str(port)]


def make_broker(folder: Path) -> Broker:
    """A broker that is not started yet."""
    port = free_port()
    return Broker("127.0.0.1", port, broker_command(port, folder))


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    """A running MQTT broker on loopback, fresh for each test."""
    running = make_broker(tmp_path)
    running.start()
    yield running
    running.kill()


@pytest.fixture(scope="session")
def postgres_cluster() -> Iterator[PostgresServer]:
    """A running PostgreSQL server on loopback for all tests of a worker; without the server's programs an error, no skip."""
    with postgres_server() as server:
        yield server


@pytest.fixture
def postgres(postgres_cluster: PostgresServer) -> Iterator[str]:
    """URL of an empty database of a real PostgreSQL server, fresh for each test."""
    with postgres_cluster.database() as url:
        yield url
