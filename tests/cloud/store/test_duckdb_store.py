"""What only the store on disk can get wrong: locks, crashes, rollbacks, readers beside the writer, schema versions."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import numpy as np
import pytest

from tieline_cloud.store.duckdb_file import StoreBusyError, StoreFormatError, migrations
from tieline_cloud.store.duckdb_rows import QUARANTINE_BYTES, QUARANTINE_ROWS
from tieline_cloud.store.duckdb_store import DuckDbStore
from tieline_cloud.store.ports import LedgerFrame, RetentionPolicy, RollupLevel, Verdict
from tieline_core.frame import ReadingBatch
from tieline_core.ids import EdgeId, PointId
from tieline_core.messages.telemetry import Event, Severity, Stream

T0 = datetime(2026, 1, 15, 12, tzinfo=UTC)
EDGE = EdgeId("harbour")
POINTS = tuple(PointId(f"harbour/m{n:02d}/p_w") for n in range(10))
FRAME_ROWS = 100


def frame(seq: int, epoch: int = 1) -> LedgerFrame:
    """Frame ``seq`` of a made-up edge: 100 readings whose values name the frame."""
    batch = ReadingBatch(
        POINTS,
        (np.arange(FRAME_ROWS) % len(POINTS)).astype(np.int32),
        np.arange(FRAME_ROWS, dtype=np.int64) + (1_768_478_400_000_000 + seq * FRAME_ROWS),
        np.full(FRAME_ROWS, float(seq)),
        np.zeros(FRAME_ROWS, np.uint8),
    )
    return LedgerFrame(EDGE, epoch, Stream.MEASURE, seq, seq, f"{seq:064x}", T0, batch)


def test_everything_is_there_after_the_store_was_opened_again(tmp_path: Path) -> None:
    with DuckDbStore(tmp_path / "hub.duckdb") as store:
        store.grant_epoch(EDGE, T0)
        store.commit([frame(1), frame(2)])
        before = (store.last(), store.points(), store.statistics(), store.watermarks(EDGE))
    with DuckDbStore(tmp_path / "hub.duckdb") as store:
        assert (store.last(), store.points(), store.statistics(), store.watermarks(EDGE)) == before
        assert store.commit([frame(2), frame(3)]).verdicts == (Verdict.DUPLICATE, Verdict.ACCEPTED)


def test_a_store_held_by_another_process_says_by_which(tmp_path: Path) -> None:
    path = tmp_path / "hub.duckdb"
    with DuckDbStore(path):
        program = (
            "import sys\nfrom pathlib import Path\n"
            "from tieline_cloud.store.duckdb_file import StoreBusyError\n"
            "from tieline_cloud.store.duckdb_store import DuckDbStore\n"
            "try:\n    DuckDbStore(Path(sys.argv[1]))\n"
            "except StoreBusyError as error:\n    print(error.pid, error)\n"
        )
        answer = subprocess.run([sys.executable, "-c", program, path], capture_output=True, text=True, check=True)
    pid, text = answer.stdout.split(" ", 1)
    assert int(pid) == os.getpid()
    assert f"process {os.getpid()}" in text
    assert str(path) in text


def test_a_busy_error_without_a_pid_still_says_what_to_do(tmp_path: Path) -> None:
    assert "another process holds the store" in str(StoreBusyError(tmp_path / "x", None, ""))


def test_a_file_that_is_no_store_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "hub.duckdb"
    path.write_bytes(b"not a database" * 1000)
    with pytest.raises(StoreFormatError, match=r"hub\.duckdb"):
        DuckDbStore(path)


def test_migrations_run_once_and_are_numbered_without_holes(tmp_path: Path) -> None:
    assert [number for number, _, _ in migrations()] == list(range(1, len(migrations()) + 1))
    for _ in range(2):
        DuckDbStore(tmp_path / "hub.duckdb").close()
    with duckdb.connect(str(tmp_path / "hub.duckdb")) as connection:
        rows = connection.execute("SELECT version FROM schema_version ORDER BY 1").fetchall()
    assert rows == [(number,) for number, _, _ in migrations()]


def test_a_schema_of_a_newer_release_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "hub.duckdb"
    DuckDbStore(path).close()
    with duckdb.connect(str(path)) as connection:
        connection.execute("INSERT INTO schema_version VALUES (9999, 'from the future')")
    with pytest.raises(StoreFormatError, match="9999"):
        DuckDbStore(path)


def test_a_commit_that_fails_leaves_no_trace_on_disk_or_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError("pulled plug")

    with DuckDbStore(tmp_path / "hub.duckdb") as store:
        store.grant_epoch(EDGE, T0)
        with monkeypatch.context() as patch:
            patch.setattr("tieline_cloud.store.duckdb_store.move_marks", fail)
            with pytest.raises(OSError, match="pulled plug"):
                store.commit([frame(1)])
        assert store.points() == []
        assert store.last() == []
        assert store.statistics().readings == 0
        assert store.commit([frame(1)]).verdicts == (Verdict.ACCEPTED,)
        assert store.points() == sorted(POINTS)


def test_readers_see_whole_commits_while_the_writer_writes(tmp_path: Path) -> None:
    with DuckDbStore(tmp_path / "hub.duckdb") as store:
        store.grant_epoch(EDGE, T0)
        counts: list[int] = []
        done = threading.Event()

        def read() -> None:
            while not done.is_set():
                counts.append(store.statistics().readings)
                store.last()
                store.means([POINTS[0]], T0, T0 + timedelta(days=1), 60)

        readers = [threading.Thread(target=read) for _ in range(2)]
        for reader in readers:
            reader.start()
        for seq in range(1, 60):
            store.commit([frame(seq)])
        done.set()
        for reader in readers:
            reader.join()
    assert counts
    assert all(count % FRAME_ROWS == 0 for count in counts)


def test_upkeep_beside_the_writer_loses_and_doubles_nothing(tmp_path: Path) -> None:
    later = T0 + timedelta(days=30)
    with DuckDbStore(tmp_path / "hub.duckdb") as store:
        store.grant_epoch(EDGE, T0)
        done = threading.Event()
        errors: list[Exception] = []
        counts: list[int] = []

        def keep_up() -> None:
            try:
                while not done.is_set():
                    store.roll_up(later, 1.0)
                    store.retain(RetentionPolicy(raw_days=1, minute_days=1), later)
                    days = store.rollups(POINTS, RollupLevel.DAY, T0 - timedelta(days=1), T0 + timedelta(days=1))
                    counts.append(sum(int(rollup.count.sum()) for rollup in days.values()))
            except Exception as error:  # noqa: BLE001 (whatever it is, the test has to see it)
                errors.append(error)

        keeper = threading.Thread(target=keep_up)
        keeper.start()
        for seq in range(1, 61):
            store.commit([frame(seq)])
        done.set()
        keeper.join()
        assert errors == []
        assert all(count % FRAME_ROWS == 0 for count in counts)
        assert counts == sorted(counts)
        store.retain(RetentionPolicy(raw_days=1), later)
        days = store.rollups(POINTS, RollupLevel.DAY, T0 - timedelta(days=1), T0 + timedelta(days=1))
        assert sum(int(rollup.count.sum()) for rollup in days.values()) == 60 * FRAME_ROWS
        assert store.statistics().readings == 0
    with DuckDbStore(tmp_path / "hub.duckdb") as store:
        assert store.commit([frame(61)]).rows == FRAME_ROWS
        assert len(store.replay(0, 10)[1]) == FRAME_ROWS


def test_several_threads_may_write_at_once(tmp_path: Path) -> None:
    with DuckDbStore(tmp_path / "hub.duckdb") as store:

        def write(name: str) -> None:
            points = tuple(PointId(f"{name}/m{n}/p_w") for n in range(20))
            index, at_us = np.arange(20, dtype=np.int32), np.arange(20, dtype=np.int64)
            batch = ReadingBatch(points, index, at_us, np.full(20, 1.0), np.zeros(20, np.uint8))
            store.import_readings(batch, name, T0)

        threads = [threading.Thread(target=write, args=(f"edge{n}",)) for n in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(store.points()) == 120
        assert store.statistics().points == 120
        assert len(store.last()) == 120


def test_the_quarantine_is_bounded(tmp_path: Path) -> None:
    with DuckDbStore(tmp_path / "hub.duckdb") as store:
        store.quarantine("mill", "t", b"x" * 1_000_000, "too long", T0)
        assert store.quarantined()[0].size == 1_000_000
        kept = store._connection.execute("SELECT max(octet_length(payload)) FROM quarantine").fetchall()
        assert kept == [(QUARANTINE_BYTES,)]
        store._connection.execute(
            "INSERT INTO quarantine (at_us, edge, topic, size, payload, reason) "
            "SELECT 0, 'e', 't', 0, '', '' FROM range(?::BIGINT)",
            [QUARANTINE_ROWS + 50],
        )
        store.quarantine("mill", "t", b"last", "new", T0)
        assert store.statistics().quarantined == QUARANTINE_ROWS


WRITER = """
import sys
from datetime import UTC, datetime
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_duckdb_store import EDGE, T0, frame
from tieline_cloud.store.duckdb_store import DuckDbStore
store = DuckDbStore(Path(sys.argv[1]))
first = 1
if store.watermarks(EDGE):
    first = next(mark.seq for stream, mark in store.watermarks(EDGE).items() if stream == "measure") + 1
else:
    store.grant_epoch(EDGE, T0)
for seq in range(first, 100000, 3):
    store.commit([frame(seq), frame(seq + 1), frame(seq + 2)])
    print(seq + 2, flush=True)
"""


def test_a_killed_writer_loses_nothing_it_reported_and_stores_nothing_by_halves(tmp_path: Path) -> None:
    path = tmp_path / "hub.duckdb"
    command = [sys.executable, "-c", WRITER, str(path), str(Path(__file__).parent)]
    for kill_after in (2, 9, 17):
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            reported = [int(process.stdout.readline()) for _ in range(kill_after)][-1]
            process.kill()
            reported = max([reported, *(int(line) for line in process.stdout.read().split("\n")[:-1])])
        with DuckDbStore(path) as store:
            mark = store.watermarks(EDGE)[Stream.MEASURE]
            assert mark.seq >= reported
            assert store.statistics().readings == mark.seq * FRAME_ROWS
            values = np.concatenate([store.series(p, T0, T0 + timedelta(days=1)).values for p in POINTS])
            assert np.unique(values, return_counts=True)[1].tolist() == [FRAME_ROWS] * mark.seq


def test_an_event_frame_is_stored_with_its_watermark(tmp_path: Path) -> None:
    event = Event(event_id="event-0001", edge_id=EDGE, severity=Severity.ALARM, code="a.bc", text="x", at=T0)
    with DuckDbStore(tmp_path / "hub.duckdb") as store:
        store.grant_epoch(EDGE, T0)
        store.commit([LedgerFrame(EDGE, 1, Stream.ALARM, 1, 1, "a" * 64, T0, events=(event,))])
    with DuckDbStore(tmp_path / "hub.duckdb") as store:
        assert store.events() == [event]
        assert store.watermarks(EDGE)[Stream.ALARM].seq == 1
