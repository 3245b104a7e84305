"""What only the store in PostgreSQL can get wrong: its address, its server, its partitions, its bounds."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import psycopg
import pytest

from tests.cloud.store.postgres_frames import EDGE, T0, admin, frame
from tests.postgres_server import PostgresServer
from tieline_cloud.store.adapters import open_store
from tieline_cloud.store.duckdb_file import StoreFormatError
from tieline_cloud.store.duckdb_rows import QUARANTINE_BYTES, QUARANTINE_ROWS
from tieline_cloud.store.ports import Verdict
from tieline_cloud.store.postgres_session import StoreLostError
from tieline_cloud.store.postgres_store import PostgresStore
from tieline_core.errors import BadInputError
from tieline_core.frame import ReadingBatch
from tieline_core.ids import PointId
from tieline_core.timegrid import to_us


@pytest.mark.parametrize("url", ["postgresql://hub:secret@db/tieline", "postgresql://hub@db/tieline?password=secret"])
def test_a_password_in_the_address_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(BadInputError, match="PGPASSFILE") as caught:
        open_store(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("url", ["postgresql://hub@db", "postgresql://hub@db:port/tieline?what=1"])
def test_an_address_that_names_no_database_says_how_to_write_it(url: str) -> None:
    with pytest.raises(BadInputError, match=r"postgresql://user@host:5432/database"):
        open_store(url)


def test_a_missing_driver_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "tieline_cloud.store.postgres_store", None)
    with pytest.raises(ImportError):  # some other module that is missing is not blamed on the driver
        open_store("postgresql://hub@db/tieline")
    monkeypatch.delitem(__import__("sys").modules, "tieline_cloud.store.postgres_store")
    for name in [name for name in __import__("sys").modules if name.startswith("tieline_cloud.store.postgres")]:
        monkeypatch.delitem(__import__("sys").modules, name)
    monkeypatch.setitem(__import__("sys").modules, "psycopg", None)
    with pytest.raises(BadInputError, match=r"tieline-cloud\[postgres\]"):
        open_store("postgresql://hub@db/tieline")


def test_a_server_that_is_away_can_be_tried_again(tmp_path: Path) -> None:
    with pytest.raises(StoreLostError, match="cannot be reached"):
        PostgresStore(f"postgresql:///tieline?host={tmp_path}")


@pytest.mark.parametrize("off", ["fsync", "full_page_writes"])
def test_a_server_whose_commits_are_not_durable_is_refused(postgres_cluster: PostgresServer, off: str) -> None:
    with postgres_cluster.database() as url:
        with psycopg.connect(postgres_cluster.url("postgres"), autocommit=True) as connection:
            connection.execute(f"ALTER SYSTEM SET {off} = off".encode())
            connection.execute("SELECT pg_reload_conf()")
        try:
            while admin(url, f"SHOW {off}") != [("off",)]:
                pass
            with pytest.raises(StoreFormatError, match=f"{off}=off"):
                PostgresStore(url)
        finally:
            admin(url, f"ALTER SYSTEM RESET {off}")
            admin(url, "SELECT pg_reload_conf()")
            while admin(url, f"SHOW {off}") != [("on",)]:
                pass


def test_a_commit_is_synchronous_whatever_the_database_says(postgres: str) -> None:
    name = postgres.rsplit("/", 1)[1]
    admin(postgres, f"ALTER DATABASE {name} SET synchronous_commit = off")
    with PostgresStore(postgres) as store, store._sessions.transaction() as connection:
        assert connection.execute("SHOW synchronous_commit").fetchall() == [("on",)]


def test_everything_is_there_after_the_store_was_opened_again(store: PostgresStore, postgres: str) -> None:
    store.commit([frame(1), frame(2)])
    before = (store.last(), store.points(), store.statistics(), store.watermarks(EDGE))
    with PostgresStore(postgres) as unsaved:  # the first hub was not closed: nothing is saved yet
        assert (unsaved.last(), unsaved.points(), unsaved.statistics(), unsaved.watermarks(EDGE)) == before
        assert unsaved.commit([frame(2), frame(3)]).verdicts == (Verdict.DUPLICATE, Verdict.ACCEPTED)
    before = (store.last(), store.points(), store.statistics(), store.watermarks(EDGE))
    with PostgresStore(postgres) as saved:
        assert admin(postgres, "SELECT count(*) FROM last_values") == [(1,)]
        assert (saved.last(), saved.points(), saved.statistics(), saved.watermarks(EDGE)) == before


def test_imported_numbers_finer_than_the_declared_resolution_are_kept_as_they_are(store: PostgresStore) -> None:
    point = PointId("harbour/site/load_w")
    numbers = np.array([1 / 3, 2e17, 0.1 + 0.2, -1e-300])
    batch = ReadingBatch(
        (point,), np.zeros(4, np.int32), to_us(T0) + np.arange(4, dtype=np.int64), numbers, np.zeros(4, np.uint8)
    )
    assert store.import_readings(batch, "x", T0) == 4
    assert store.series(point, T0, T0 + timedelta(days=1)).values.tolist() == numbers.tolist()


def test_readings_of_far_days_share_a_partition_until_their_day_comes(store: PostgresStore, postgres: str) -> None:
    far = T0 + timedelta(days=90)

    def at(day: datetime, value: float) -> ReadingBatch:
        return ReadingBatch(
            (PointId("harbour/site/load_w"),),
            np.zeros(1, np.int32),
            np.array([to_us(day)], np.int64),
            np.array([value]),
            np.zeros(1, np.uint8),
        )

    store.import_readings(at(far, 1.0), "x", T0)
    store.import_readings(at(T0 - timedelta(days=9000), 0.0), "x", T0)
    assert admin(postgres, "SELECT count(*) FROM chunks_far") == [(2,)]
    store.import_readings(at(far + timedelta(hours=1), 2.0), "y", far)
    assert admin(postgres, "SELECT count(*) FROM chunks_far") == [(1,)]
    found = store.series(PointId("harbour/site/load_w"), T0 - timedelta(days=10_000), far + timedelta(days=1))
    assert found.values.tolist() == [0.0, 1.0, 2.0]


def test_the_quarantine_is_bounded_and_takes_any_text(store: PostgresStore, postgres: str) -> None:
    store.quarantine("mill\0", "t\ud800", b"x" * 1_000_000, "too \0 long", T0)
    assert store.quarantined()[0].size == 1_000_000
    assert admin(postgres, "SELECT max(octet_length(payload)) FROM quarantine") == [(QUARANTINE_BYTES,)]
    query = "INSERT INTO quarantine (at_us, edge, topic, size, payload, reason) SELECT 0, 'e', 't', 0, '', '' "
    admin(postgres, query + "FROM generate_series(1, %s)", QUARANTINE_ROWS + 50)
    store.quarantine("mill", "t", b"last", "new", T0)
    assert store.statistics().quarantined == QUARANTINE_ROWS


def test_a_commit_that_fails_leaves_no_trace_on_disk_or_in_memory(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError("pulled plug")

    with monkeypatch.context() as patch:
        patch.setattr("tieline_cloud.store.postgres_store.move_marks", fail)
        with pytest.raises(OSError, match="pulled plug"):
            store.commit([frame(1)])
    assert store.points() == []
    assert store.last() == []
    assert store.statistics().readings == 0
    assert store.commit([frame(1)]).verdicts == (Verdict.ACCEPTED,)
    assert len(store.points()) == 10
