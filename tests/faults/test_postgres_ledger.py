"""The ledger in PostgreSQL under real kills: of the server, of a hub, and of one that only froze."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from tests.postgres_server import PostgresServer, postgres_server
from tieline_cloud.store.ports import LedgerFrame, Verdict
from tieline_cloud.store.postgres_session import Patience
from tieline_cloud.store.postgres_store import PostgresStore
from tieline_core.errors import TransientError
from tieline_core.frame import ReadingBatch
from tieline_core.ids import EdgeId, PointId
from tieline_core.messages.telemetry import Stream
from tieline_core.timegrid import to_us

T0 = datetime(2026, 1, 15, 12, tzinfo=UTC)
EDGE = EdgeId("harbour")
POINT = PointId("harbour/site/load_w")
ROWS = 50
SEED = 20161214


def frame(seq: int) -> LedgerFrame:
    """Frame ``seq``: readings whose values count on over all frames."""
    first = (seq - 1) * ROWS
    numbers = np.arange(first, first + ROWS)
    batch = ReadingBatch(
        (POINT,), np.zeros(ROWS, np.int32), to_us(T0) + numbers * 1000, numbers.astype(np.float64), np.zeros(ROWS, np.uint8)
    )
    return LedgerFrame(EDGE, 1, Stream.MEASURE, seq, seq, f"{seq:064x}", T0, batch)


def assert_exact(store: PostgresStore, seq: int) -> None:
    """Frames 1 to ``seq`` are stored, each reading once, and nothing else is."""
    assert store.watermarks(EDGE)[Stream.MEASURE].seq == seq
    assert store.series(POINT, T0, T0 + timedelta(days=1)).values.tolist() == [float(n) for n in range(seq * ROWS)]
    assert store.statistics().readings == seq * ROWS


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    """A server that may be killed."""
    with postgres_server() as running:
        yield running


class Owner(threading.Thread):
    """A hub that commits frame after frame and goes back to the watermark whenever the ledger fails it."""

    def __init__(self, store: PostgresStore, last: int) -> None:
        super().__init__()
        self.store, self.last = store, last
        self.reported = 0
        self.failures = 0
        self.error: BaseException | None = None
        self.moved = threading.Condition()

    def run(self) -> None:
        try:
            while self.reported < self.last:
                first = self.reported + 1
                try:
                    outcome = self.store.commit([frame(seq) for seq in range(first, min(first + 5, self.last + 1))])
                except TransientError:
                    self.failures += 1
                    with self.moved:
                        self.moved.wait(0.02)
                    continue
                with self.moved:
                    self.reported = outcome.watermarks[EDGE, Stream.MEASURE].seq
                    self.moved.notify_all()
        except BaseException as error:  # noqa: BLE001 (raised again by the test)
            self.error = error
        finally:
            with self.moved:
                self.moved.notify_all()

    def wait_past(self, seq: int) -> None:
        """Wait until a commit past ``seq`` was reported."""
        with self.moved:
            assert self.moved.wait_for(lambda: self.reported > seq or not self.is_alive(), 30)


def test_a_server_killed_in_the_middle_of_batches_loses_nothing_it_acknowledged(server: PostgresServer) -> None:
    rng = random.Random(SEED)
    with server.database() as url, PostgresStore(url) as store:
        store.grant_epoch(EDGE, T0)
        owner = Owner(store, last=4000)
        owner.start()
        for _ in range(3):
            owner.wait_past(owner.reported + rng.randint(1, 60))
            server.kill()
            acknowledged = owner.reported
            server.start()
            with PostgresStore(url) as witness:
                assert witness.watermarks(EDGE)[Stream.MEASURE].seq >= acknowledged
        owner.last = owner.reported + 20
        owner.join(60)
        assert owner.error is None
        assert owner.failures >= 3
        assert_exact(store, owner.reported)
    assert store._sessions.reconnects >= 3


HUB = """
import sys
from tests.faults.test_postgres_ledger import EDGE, Stream, frame
import tieline_cloud.store.postgres_store as room
import tieline_cloud.store.postgres_writer as writing
from tieline_core.errors import TransientError

where = sys.argv[2]
real = {"between": room.insert_frames, "copying": writing.copy_chunks}

def stall():
    print("inside", flush=True)
    sys.stdin.readline()

def between(connection, frames, verdicts):
    stall()
    real["between"](connection, frames, verdicts)

def copying(connection, rows):
    def slow():
        for row in rows:
            yield row
            connection.pgconn.flush()
            stall()
    real["copying"](connection, slow())

store = room.PostgresStore(sys.argv[1])
if where == "between":
    room.insert_frames = between
else:
    writing.copy_chunks = copying
try:
    store.commit([frame(1), frame(2)])
    print("committed", flush=True)
except TransientError as error:
    print(type(error).__name__, flush=True)
room.insert_frames, writing.copy_chunks = real["between"], real["copying"]
print(*store.commit([frame(1), frame(2), frame(3)]).verdicts, flush=True)
store.close()
"""


@contextmanager
def stalled_hub(url: str, where: str) -> Iterator[subprocess.Popen[str]]:
    """Another hub's process, inside a transaction that holds the marks of the edge."""
    command = [sys.executable, "-c", HUB, url, where]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "inside\n"
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("where", ["between", "copying"])
def test_a_hub_frozen_inside_a_transaction_is_fenced_and_finds_its_marks_moved_when_it_wakes(postgres: str, where: str) -> None:
    with PostgresStore(postgres, patience=Patience(lock_s=0.2, fence_s=0.5)) as store:
        store.grant_epoch(EDGE, T0)
        with stalled_hub(postgres, where) as frozen:
            os.kill(frozen.pid, signal.SIGSTOP)
            waits = 0
            verdicts: tuple[Verdict, ...] = ()
            while not verdicts:
                try:
                    verdicts = store.commit([frame(1), frame(2)]).verdicts
                except TransientError:
                    waits += 1
                    assert waits < 30
            assert verdicts == (Verdict.ACCEPTED, Verdict.ACCEPTED)
            assert waits >= 2
            os.kill(frozen.pid, signal.SIGCONT)
            assert frozen.stdin is not None
            assert frozen.stdout is not None
            frozen.stdin.write("\n")
            frozen.stdin.flush()
            assert frozen.stdout.readline() == "StoreLostError\n"
            assert frozen.stdout.readline() == "duplicate duplicate accepted\n"
            assert frozen.wait(60) == 0
        assert_exact(store, 3)


@pytest.mark.parametrize("where", ["between", "copying"])
def test_a_hub_killed_inside_a_transaction_leaves_nothing_and_blocks_nobody(postgres: str, where: str) -> None:
    with PostgresStore(postgres) as store:
        store.grant_epoch(EDGE, T0)
        with stalled_hub(postgres, where) as victim:
            victim.kill()
            assert store.commit([frame(1), frame(2)]).verdicts == (Verdict.ACCEPTED, Verdict.ACCEPTED)
        assert_exact(store, 2)
