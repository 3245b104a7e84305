"""The hub as a process with its ledger in PostgreSQL: a real broker, a real edge's uplink, a real server, real kills."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
import yaml

from tests.conftest import Broker
from tests.integration.test_edge_to_hub import BATCH, POINT, T0, counted, edge
from tests.postgres_server import PostgresServer, postgres_server
from tieline_cloud.store.postgres_store import PostgresStore

pytestmark = pytest.mark.broker


def write_config(folder: Path, broker: Broker, url: str) -> Path:
    """Keys and configuration of a hub without a network."""
    command = [sys.executable, "-m", "tieline_cloud", "keygen", str(folder / "keys")]
    subprocess.run(command, check=True, capture_output=True)
    tree = {
        "data_dir": "data",
        "signing_key": "keys/hub.key",
        "listen": {"port": 0},
        "mqtt": {"host": broker.host, "port": broker.port, "insecure": True},
        "store": {"url": url},
    }
    path = folder / "hub.yaml"
    path.write_text(yaml.safe_dump(tree), encoding="utf-8")
    return path


@asynccontextmanager
async def serving(config: Path) -> AsyncIterator[str]:
    """A hub process; its address. It is killed at the end."""
    command = [sys.executable, "-m", "tieline_cloud", "serve", str(config), "--log-level", "ERROR"]
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=pipe)
    try:
        assert process.stdout is not None
        assert process.stderr is not None
        line = await process.stdout.readline()
        if not line:
            pytest.fail(f"the hub did not start: {(await process.stderr.read()).decode()}")
        yield json.loads(line)["url"]
    finally:
        process.kill()
        await process.communicate()


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    """A server that may be killed."""
    with postgres_server() as running:
        yield running


async def test_a_hub_on_postgresql_takes_everything_once_whoever_is_killed(
    broker: Broker, server: PostgresServer, tmp_path: Path
) -> None:
    with server.database() as url:
        config = write_config(tmp_path, broker, url)
        async with edge(broker, tmp_path / "outbox.db", "boot-1") as peer:
            async with serving(config):
                await peer.record(0, 20)
                await peer.drained()
                await peer.record(20, 20)
            async with serving(config) as address:  # the first hub was killed with frames on their way
                await peer.record(40, 10)
                await peer.drained()
                server.kill()
                await peer.record(50, 10)
                server.start()
                await peer.record(60, 10)
                await peer.drained()
                async with httpx.AsyncClient(base_url=address, timeout=30) as client:
                    last = (await client.get("/v1/readings/last", params={"edge": "harbour"})).raise_for_status().json()
                    (await client.get("/v1/health")).raise_for_status()
            assert [(row["point"], row["value"]) for row in last] == [(POINT, 70.0 * BATCH - 1)]
        with PostgresStore(url) as store:
            assert store.series(POINT, T0, T0 + timedelta(days=30)).values.tolist() == counted(70)
            assert store.statistics().readings == 70 * BATCH


async def test_a_hub_that_finds_no_server_says_so_and_ends(broker: Broker, tmp_path: Path) -> None:
    config = write_config(tmp_path, broker, f"postgresql:///tieline?host={tmp_path}")
    command = [sys.executable, "-m", "tieline_cloud", "serve", str(config)]
    ended = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode != 0
    assert "cannot be reached" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_password_in_the_configuration_is_refused(broker: Broker, tmp_path: Path) -> None:
    config = write_config(tmp_path, broker, "postgresql://hub:secret@db/tieline")
    command = [sys.executable, "-m", "tieline_cloud", "check-config", str(config)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode != 0
    assert "store.url" in ended.stderr + ended.stdout
    assert "PGPASSFILE" in ended.stderr + ended.stdout
