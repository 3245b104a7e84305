"""Readings from topics: once, whatever dies between store and offset; poison goes aside; a slow ledger is waited for."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import pytest

from tests.cloud.rooms import OnceStore
from tests.cloud.streams.conftest import Cluster
from tieline_cloud.settings import KafkaConsumerSettings
from tieline_cloud.store.duckdb_store import DuckDbStore
from tieline_cloud.store.ports import Ingested
from tieline_cloud.streams import client
from tieline_cloud.streams.consumer import StreamConsumer
from tieline_core.clock import SystemClock
from tieline_core.errors import TransientError
from tieline_core.frame import ReadingBatch, encode_batch
from tieline_core.ids import EdgeId

SETTINGS = KafkaConsumerSettings(topics=("meters",), sources=(EdgeId("mdm"),))


def body(number: int) -> bytes:
    at = f"2026-11-20T{number // 3600:02d}:{number // 60 % 60:02d}:{number % 60:02d}Z"
    row = {"point": f"mdm/m{number % 7}/p_w", "measured_at": at, "value": number + 0.5}
    return json.dumps({"rows": [row, row | {"point": "mdm/other/p_w"}]}).encode()


@dataclass
class StreamStore(OnceStore):
    """Deliveries in memory with a quarantine; fails as often as it is told to."""

    aside: list[tuple[str, bytes, str]] = field(default_factory=list)
    failures: int = 0

    def ingest_once(self, batch: ReadingBatch, source: str, key: str, sha256: str, at: datetime) -> tuple[Ingested, int]:
        if self.failures:
            self.failures -= 1
            raise TransientError("the disk is full")
        return super().ingest_once(batch, source, key, sha256, at)

    def quarantine(self, edge: str, topic: str, payload: bytes, reason: str, at: datetime) -> None:
        self.aside.append((topic, payload, reason))


def consume_until(consumer: StreamConsumer, true: Callable[[], bool], seconds: float = 30) -> None:
    """Serve in a thread until something is true."""
    stop = threading.Event()
    thread = threading.Thread(target=consumer.serve, args=(stop,))
    thread.start()
    deadline, wake = time.monotonic() + seconds, threading.Event()
    while not true() and time.monotonic() < deadline:
        wake.wait(0.05)
    stop.set()
    thread.join(20)
    assert not thread.is_alive()
    assert true()


def test_every_message_is_stored_once_and_the_offset_follows(cluster: Cluster) -> None:
    cluster.send("meters", [body(n) for n in range(50)])
    store = StreamStore()
    consumer = StreamConsumer(cluster.settings(consumer=SETTINGS), SETTINGS, store, SystemClock())
    consume_until(consumer, lambda: len(store.held) == 50)
    assert cluster.committed("tieline", "meters") == 50
    assert (consumer.counters.readings, consumer.problem) == (100, None)
    assert {source for source, _ in store.held} == {"kafka/meters"}


def test_poison_goes_aside_with_place_and_reason_and_the_others_arrive(cluster: Cluster) -> None:
    foreign = body(1).replace(b"mdm/", b"mill/")
    cluster.send("meters", [body(0), b"no json", None, foreign, body(4)])
    store = StreamStore()
    consumer = StreamConsumer(cluster.settings(consumer=SETTINGS), SETTINGS, store, SystemClock())
    consume_until(consumer, lambda: len(store.held) == 2 and len(store.aside) == 3)
    assert [place for place, _, _ in store.aside] == [f"kafka/meters/0@{n}" for n in (1, 2, 3)]
    assert "not JSON" in store.aside[0][2]
    assert "points of this source begin with mdm/" in store.aside[2][2]
    assert store.aside[0][1] == b"no json"
    assert cluster.committed("tieline", "meters") == 5


def test_a_ledger_that_fails_is_asked_again_and_no_offset_runs_ahead_of_it(cluster: Cluster) -> None:
    cluster.send("meters", [body(n) for n in range(5)])
    store = StreamStore(failures=2)
    consumer = StreamConsumer(cluster.settings(consumer=SETTINGS), SETTINGS, store, SystemClock())
    consume_until(consumer, lambda: len(store.held) == 5)
    assert consumer.counters.failures == 2
    assert [key.split("/")[1] for _, key in store.held] == ["0", "1", "2", "3", "4"]


def test_two_members_share_the_partitions_and_store_everything_once(cluster: Cluster) -> None:
    for partition in range(4):
        cluster.send("meters", [body(100 * partition + n) for n in range(25)], partition)
    store = StreamStore()
    settings = cluster.settings(consumer=SETTINGS)
    first, second = (StreamConsumer(settings, SETTINGS, store, SystemClock()) for _ in range(2))
    stop = threading.Event()
    thread = threading.Thread(target=first.serve, args=(stop,))
    thread.start()
    try:
        consume_until(second, lambda: len(store.held) == 100)
        for partition in range(4):
            cluster.send("meters", [body(1000 + 100 * partition + n) for n in range(25)], partition)
    finally:
        stop.set()
        thread.join(20)
    consume_until(second, lambda: len(store.held) == 200)
    assert sum(len(batch) for _, batch in store.held.values()) == 400


async def test_cancelled_the_consumer_leaves_its_group_and_its_thread_ends(cluster: Cluster) -> None:
    cluster.send("meters", [body(0)])
    store = StreamStore()
    consumer = StreamConsumer(cluster.settings(consumer=SETTINGS), SETTINGS, store, SystemClock())
    task = asyncio.create_task(consumer.run())
    for _ in range(400):
        if store.held:
            break
        await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(store.held) == 1


def test_frames_of_the_wire_contract_are_taken(cluster: Cluster) -> None:
    from tests.cloud.mirror.replay_log import many

    batch = many(20, 50)
    cluster.send("frames", [encode_batch(batch)])
    settings = KafkaConsumerSettings(topics=("frames",), sources=(EdgeId("harbour"),), format="frame")
    store = StreamStore()
    consume_until(
        StreamConsumer(cluster.settings(consumer=settings), settings, store, SystemClock()), lambda: len(store.held) == 1
    )
    assert len(next(iter(store.held.values()))[1]) == 1000


def test_without_the_extra_the_error_names_it(monkeypatch: pytest.MonkeyPatch, cluster: Cluster) -> None:
    monkeypatch.setitem(sys.modules, "confluent_kafka", None)
    with pytest.raises(client.MissingExtraError, match=r"tieline-cloud\[kafka\]"):
        StreamConsumer(cluster.settings(consumer=SETTINGS), SETTINGS, StreamStore(), SystemClock())


_CHILD = """
import os, signal, sys, threading
from pathlib import Path
from tests.cloud.streams.test_consumer import SETTINGS
from tieline_cloud.settings import KafkaSettings
from tieline_cloud.store.duckdb_store import DuckDbStore
from tieline_cloud.streams.consumer import StreamConsumer
from tieline_core.clock import SystemClock

folder, bootstrap, kill_after, expected = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
stop = threading.Event()
store = DuckDbStore(folder / "hub.duckdb")
stored = store.ingest_once
calls = 0

def counting(*arguments):
    global calls
    outcome = stored(*arguments)
    calls += 1
    if calls == kill_after:
        os.kill(os.getpid(), signal.SIGKILL)
    if store.statistics().readings >= expected and calls > 5:
        stop.set()
    return outcome

store.ingest_once = counting
settings = KafkaSettings.model_validate({
    "bootstrap": bootstrap, "security": "plaintext", "properties": {"session.timeout.ms": 6000},
    "consumer": SETTINGS.model_dump(),
})
consumer = StreamConsumer(settings, SETTINGS, store, SystemClock())
consumer.serve(stop)
print(consumer.counters.repeated, flush=True)
store.close()
"""


def test_killed_between_store_and_offset_nothing_is_lost_or_doubled(cluster: Cluster, tmp_path: Path) -> None:
    cluster.send("meters", [body(n) for n in range(30)])
    command = [sys.executable, "-c", _CHILD, str(tmp_path), cluster.bootstrap]
    killed = subprocess.run([*command, "12", "60"], capture_output=True, check=False, timeout=90)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert cluster.committed("tieline", "meters") < 0, "offsets ran ahead: nothing would be offered again"
    done = subprocess.run([*command, "0", "60"], capture_output=True, text=True, check=False, timeout=90)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == 12
    with DuckDbStore(tmp_path / "hub.duckdb") as store:
        assert store.statistics().readings == 60
    assert cluster.committed("tieline", "meters") == 30
