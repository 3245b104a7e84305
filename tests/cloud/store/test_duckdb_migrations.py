"""A store of an older release, filled, is brought up to date without losing or doubling anything."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pytest

from tieline_cloud.store.duckdb_file import StoreFormatError, migrations
from tieline_cloud.store.duckdb_parts import append
from tieline_cloud.store.duckdb_store import DuckDbStore
from tieline_cloud.store.ports import LedgerFrame, RetentionPolicy, RollupLevel, Verdict, Watermark
from tieline_core.frame import ReadingBatch
from tieline_core.ids import EdgeId, PointId
from tieline_core.messages.telemetry import Event, Severity, Stream
from tieline_core.quantities import Quality, Reading
from tieline_core.timegrid import to_us

T0 = datetime(2026, 1, 15, 12, tzinfo=UTC)
HARBOUR = EdgeId("harbour")
POINTS = tuple(PointId(f"harbour/m{n}/p_w") for n in range(3))
READINGS = 150_000
EVENT = Event(event_id="event-0001", edge_id=HARBOUR, severity=Severity.ALARM, code="a.bc", text="x", at=T0)


def fill(path: Path) -> None:
    """What the first release would have left: schema 1, an edge, frames, readings, an event, an import."""
    with duckdb.connect(str(path)) as connection:
        connection.execute("CREATE TABLE schema_version (version INTEGER NOT NULL, name VARCHAR NOT NULL)")
        connection.execute(migrations()[0][2])
        connection.execute("INSERT INTO schema_version VALUES (1, '0001_ledger.sql')")
        connection.executemany("INSERT INTO points VALUES (?, ?)", list(enumerate(POINTS)))
        connection.execute(
            "INSERT INTO readings SELECT n % 3, ? + n * 1000000, CASE WHEN n % 1000 = 7 THEN NULL ELSE n END, "
            "CASE WHEN n % 1000 = 7 THEN 4 ELSE 0 END FROM range(?) AS numbers(n)",
            [to_us(T0), READINGS],
        )
        connection.execute("INSERT INTO epochs VALUES ('harbour', 3, ?)", [to_us(T0)])
        for stream, seq in (("measure", 2), ("alarm", 1), ("bulk", 0)):
            connection.execute("INSERT INTO marks VALUES ('harbour', ?, 3, ?, ?)", [stream, seq, "b" * 64 if seq else None])
        for seq, sha256 in ((1, "a" * 64), (2, "b" * 64)):
            connection.execute(
                "INSERT INTO frames VALUES ('harbour', 'measure', 3, ?, ?, ?, ?, 'accepted', ?)",
                [seq, seq, sha256, READINGS // 2, to_us(T0)],
            )
        connection.execute(
            "INSERT INTO events VALUES (?, 'harbour', ?, 'ALARM', 'a.bc', ?)",
            [EVENT.event_id, to_us(T0), EVENT.model_dump_json()],
        )
        connection.execute("INSERT INTO documents VALUES ('fleet', 'harbour', 0, 'x'::BLOB)")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DuckDbStore]:
    fill(tmp_path / "hub.duckdb")
    with DuckDbStore(tmp_path / "hub.duckdb", timezone="Europe/Berlin") as opened:
        yield opened


def frame(seq: int, sha256: str, value: float) -> LedgerFrame:
    batch = ReadingBatch.of([Reading(POINTS[0], value, T0 + timedelta(days=9), Quality.GOOD)])
    return LedgerFrame(HARBOUR, 3, Stream.MEASURE, seq, seq, sha256, T0, batch)


def test_all_that_was_stored_is_still_there(store: DuckDbStore) -> None:
    counted = store.statistics()
    assert (counted.points, counted.readings, counted.frames, counted.events) == (3, READINGS, 2, 1)
    assert store.watermarks(HARBOUR)[Stream.MEASURE] == Watermark(3, 2, "b" * 64)
    assert store.frame_sha256(HARBOUR, Stream.MEASURE, 3, 1) == "a" * 64
    assert store.events() == [EVENT]
    assert store.documents("fleet") == {"harbour": b"x"}
    raw = store.series(POINTS[1], T0, T0 + timedelta(seconds=12))
    assert raw.values[[0, 1, 3]].tolist() == [1.0, 4.0, 10.0]
    assert raw.quality.tolist() == [0, 0, 4, 0]
    assert [last.value for last in store.last()] == [READINGS - 3.0, READINGS - 2.0, READINGS - 1.0]


def test_old_readings_are_rolled_up_and_replayed(store: DuckDbStore) -> None:
    for _ in range(2):
        hours = store.rollups(POINTS, RollupLevel.HOUR, T0, T0 + timedelta(days=3))
        assert sum(int(rollup.count.sum()) for rollup in hours.values()) == READINGS - READINGS // 1000
        store.roll_up(T0 + timedelta(days=3), 60.0)
    seen, position = 0, 0
    while (step := store.replay(position, 1))[0] != position:
        assert len(step[1]) <= 100_000
        position, seen = step[0], seen + len(step[1])
    assert seen == READINGS


def test_content_the_old_release_stored_is_not_stored_again(store: DuckDbStore) -> None:
    verdicts = store.commit([frame(3, "a" * 64, 1.0), frame(4, "c" * 64, 2.0), frame(2, "x" * 64, 3.0)]).verdicts
    assert verdicts == (Verdict.REPEATED, Verdict.ACCEPTED, Verdict.CONFLICT)
    assert store.statistics().readings == READINGS + 1


def test_a_step_that_fails_leaves_the_store_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "hub.duckdb"
    fill(path)
    steps = migrations()
    broken = [*steps[:-1], (steps[-1][0], steps[-1][1], steps[-1][2] + "\nINSERT INTO nowhere VALUES (1);")]
    with monkeypatch.context() as patch:
        patch.setattr("tieline_cloud.store.duckdb_file.migrations", lambda: broken)
        with pytest.raises(duckdb.Error, match="nowhere"):
            DuckDbStore(path)
    with duckdb.connect(str(path)) as connection:
        assert connection.execute("SELECT max(version) FROM schema_version").fetchall() == [(steps[-2][0],)]
    with DuckDbStore(path) as store:
        assert store.statistics().readings == READINGS


def test_a_store_of_a_newer_release_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "hub.duckdb"
    fill(path)
    with duckdb.connect(str(path)) as connection:
        connection.execute("INSERT INTO schema_version VALUES (4000, '4000_far.sql')")
    with pytest.raises(StoreFormatError, match="4000"):
        DuckDbStore(path)
    with duckdb.connect(str(path)) as connection:
        assert connection.execute("SELECT count(*) FROM readings").fetchall() == [(READINGS,)]


def test_days_are_made_anew_when_the_installation_moves_to_another_time_zone(tmp_path: Path) -> None:
    path = tmp_path / "hub.duckdb"
    fill(path)
    span = (T0 - timedelta(days=2), T0 + timedelta(days=4))
    with DuckDbStore(path, timezone="Europe/Berlin") as store:
        store.roll_up(T0 + timedelta(days=30), 60.0)
        before = store.rollups(POINTS[:1], RollupLevel.DAY, *span)[POINTS[0]]
    with DuckDbStore(path, timezone="Asia/Kathmandu") as store:
        after = store.rollups(POINTS[:1], RollupLevel.DAY, *span)[POINTS[0]]
    assert int(before.start_us[0]) == to_us(T0 - timedelta(hours=13))
    assert int(after.start_us[0]) == to_us(T0.replace(hour=0) - timedelta(hours=5, minutes=45) + timedelta(days=0))
    assert after.count.sum() == before.count.sum()
    assert after.maximum.max() == before.maximum.max()


def test_a_fold_that_fails_leaves_nothing_and_is_made_again_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "hub.duckdb"
    fill(path)
    span = (T0, T0 + timedelta(days=4))
    with DuckDbStore(path) as store:
        expected = store.rollups(POINTS, RollupLevel.MINUTE, *span)

        def fail(cursor: duckdb.DuckDBPyConnection, level: RollupLevel, parts: str, upto: int) -> int:
            append(cursor, level, parts, upto)
            raise OSError("pulled plug")

        with monkeypatch.context() as patch:
            patch.setattr("tieline_cloud.store.duckdb_folding.append", fail)
            with pytest.raises(OSError, match="pulled plug"):
                store.roll_up(T0 + timedelta(days=30), 60.0)
        assert store.statistics().rollups == 0
        store.roll_up(T0 + timedelta(days=30), 60.0)
    with DuckDbStore(path) as store:
        store.retain(RetentionPolicy(raw_days=1), T0 + timedelta(days=20))
        assert store.statistics().readings == 0
        again = store.rollups(POINTS, RollupLevel.MINUTE, *span)
        assert all((again[p].count == expected[p].count).all() and (again[p].mean == expected[p].mean).all() for p in POINTS)
        assert [last.value for last in store.last()] == [READINGS - 3.0, READINGS - 2.0, READINGS - 1.0]
    with DuckDbStore(path) as store:
        # Last values outlive the readings they were.
        assert [last.value for last in store.last()] == [READINGS - 3.0, READINGS - 2.0, READINGS - 1.0]
        assert store.commit([frame(3, "d" * 64, 5.0)]).rows == 1
        assert len(store.replay(0, 10)[1]) == 1
