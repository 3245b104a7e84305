"""What only the store in PostgreSQL can get wrong: other hubs, lost connections, lost answers, servers, schema versions."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest

from tests.postgres_server import PostgresServer
from tieline_cloud.store.adapters import open_store
from tieline_cloud.store.duckdb_file import StoreFormatError
from tieline_cloud.store.duckdb_rows import QUARANTINE_BYTES, QUARANTINE_ROWS
from tieline_cloud.store.ports import LedgerFrame, RetentionPolicy, RollupLevel, RollupProgress, Verdict
from tieline_cloud.store.postgres_chunks import Columns, encode
from tieline_cloud.store.postgres_schema import migrations
from tieline_cloud.store.postgres_session import READER, WRITER, StoreLostError
from tieline_cloud.store.postgres_store import PostgresStore
from tieline_core.errors import BadInputError, TransientError
from tieline_core.frame import ReadingBatch
from tieline_core.ids import EdgeId, PointId
from tieline_core.messages.telemetry import Event, Severity, Stream
from tieline_core.timegrid import to_us

T0 = datetime(2026, 1, 15, 12, tzinfo=UTC)
EDGE = EdgeId("harbour")
ROWS = 100


def frame(seq: int, edge: EdgeId = EDGE, epoch: int = 1) -> LedgerFrame:
    """Frame ``seq`` of a made-up edge: 100 readings of ten points whose values name the frame."""
    points = tuple(PointId(f"{edge}/m{n:02d}/p_w") for n in range(10))
    batch = ReadingBatch(
        points,
        (np.arange(ROWS) % len(points)).astype(np.int32),
        np.arange(ROWS, dtype=np.int64) + (to_us(T0) + seq * ROWS),
        np.full(ROWS, float(seq)),
        np.zeros(ROWS, np.uint8),
    )
    content = f"{edge}/{seq}".encode().hex()[:64].ljust(64, "0")
    return LedgerFrame(edge, epoch, Stream.MEASURE, seq, seq, content, T0, batch)


def counts(store: PostgresStore, edge: EdgeId = EDGE) -> dict[float, int]:
    """How often each frame's number is stored."""
    series = [store.series(point, T0, T0 + timedelta(days=1)).values for point in store.points(edge=edge)]
    return dict(zip(*(column.tolist() for column in np.unique(np.concatenate(series), return_counts=True)), strict=True))


def admin(url: str, query: str, *parameters: object) -> list[tuple[Any, ...]]:
    """Rows of a question asked beside the store."""
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(query.encode(), parameters or None)
        return cursor.fetchall() if cursor.description else []


@pytest.fixture
def store(postgres: str) -> Iterator[PostgresStore]:
    with PostgresStore(postgres) as opened:
        opened.grant_epoch(EDGE, T0)
        yield opened


# The address


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


# Schema


def test_migrations_run_once_and_are_numbered_without_holes(postgres: str) -> None:
    numbers = [number for number, _, _ in migrations()]
    assert numbers == list(range(1, len(numbers) + 1))
    failures: list[BaseException] = []

    def start() -> None:
        try:
            PostgresStore(postgres).close()
        except BaseException as error:  # noqa: BLE001 (told to the test below)
            failures.append(error)

    hubs = [threading.Thread(target=start) for _ in range(4)]
    for hub in hubs:
        hub.start()
    for hub in hubs:
        hub.join()
    assert failures == []
    assert admin(postgres, "SELECT version FROM schema_version ORDER BY 1") == [(number,) for number in numbers]


def test_a_schema_of_a_newer_release_is_left_alone(postgres: str) -> None:
    PostgresStore(postgres).close()
    admin(postgres, "INSERT INTO schema_version VALUES (9999, 'from the future')")
    with pytest.raises(StoreFormatError, match="9999"):
        PostgresStore(postgres)


# What is kept


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


# Other threads and other hubs


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


def test_several_threads_may_write_at_once(store: PostgresStore) -> None:
    def write(name: str) -> None:
        points = tuple(PointId(f"{name}/m{n}/p_w") for n in range(20))
        index, at_us = np.arange(20, dtype=np.int32), np.arange(20, dtype=np.int64) + to_us(T0)
        store.import_readings(ReadingBatch(points, index, at_us, np.full(20, 1.0), np.zeros(20, np.uint8)), name, T0)

    threads = [threading.Thread(target=write, args=(f"edge{n}",)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(store.points()) == store.statistics().points == len(store.last()) == 120


def test_what_another_hub_stores_is_seen(store: PostgresStore, postgres: str) -> None:
    with PostgresStore(postgres) as other:
        other.grant_epoch(EdgeId("mill"), T0)
        store.commit([frame(1)])
        other.commit([frame(1, EdgeId("mill"))])
        store.commit([frame(2)])
        for hub in (store, other):
            assert len(hub.points()) == 20
            assert {(row.point.partition("/")[0], row.value) for row in hub.last()} == {("harbour", 2.0), ("mill", 1.0)}
            assert counts(hub) == {1.0: ROWS, 2.0: ROWS}


def test_two_hubs_that_commit_the_same_edges_store_each_frame_once_and_never_block_each_other(postgres: str) -> None:
    edges = [EdgeId("harbour"), EdgeId("mill")]
    last, taken, failures = 60, [0, 0], []
    with PostgresStore(postgres) as first, PostgresStore(postgres) as second:
        for edge in edges:
            first.grant_epoch(edge, T0)

        def own(number: int, hub: PostgresStore) -> None:
            rng = np.random.default_rng(number)
            try:
                while True:
                    seqs = {edge: hub.watermarks(edge)[Stream.MEASURE].seq for edge in edges}
                    if min(seqs.values()) == last:
                        return
                    batch = [
                        frame(seq, edge)
                        for edge in (edges if number else edges[::-1])
                        for seq in range(seqs[edge] + 1, min(last, seqs[edge] + int(rng.integers(1, 6))) + 1)
                    ]
                    outcome = hub.commit(batch)
                    taken[number] += outcome.verdicts.count(Verdict.ACCEPTED)
                    assert Verdict.CONFLICT not in outcome.verdicts
            except BaseException as error:  # noqa: BLE001 (told to the test below)
                failures.append(error)

        owners = [threading.Thread(target=own, args=(number, hub)) for number, hub in enumerate((first, second))]
        for owner in owners:
            owner.start()
        for owner in owners:
            owner.join(60)
        assert failures == []
        assert sum(taken) == len(edges) * last
        assert min(taken) > 0
        for edge in edges:
            assert counts(second, edge) == {float(seq): ROWS for seq in range(1, last + 1)}
        assert first.statistics().readings == len(edges) * last * ROWS
        assert len(first.last()) == len(second.last()) == 20


# Lost connections


def end_sessions(url: str, name: str) -> None:
    """End the sessions of a name in a database and wait until they are gone."""
    query = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = current_database() "
    admin(url, query + "AND application_name = %s", name)


class Saboteur:
    """Ends the writing session right before its n-th statement, or before the commit."""

    def __init__(self, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.url = url
        self.left: int | None = None
        self.steps = 0
        for kind, name in ((psycopg.Cursor, "execute"), (psycopg.Cursor, "copy"), (psycopg.Connection, "commit")):
            monkeypatch.setattr(kind, name, self._wrapped(getattr(kind, name)))

    def _wrapped(self, real: Any) -> Any:
        def step(subject: Any, *args: Any, **options: Any) -> Any:
            connection = subject if isinstance(subject, psycopg.Connection) else subject.connection
            if self.left is not None and connection.info.get_parameters().get("application_name") == WRITER:
                self.steps += 1
                self.left -= 1
                if self.left == 0:
                    self.left = None
                    end_sessions(self.url, WRITER)
            return real(subject, *args, **options)

        return step


def test_a_session_ended_before_any_step_of_a_commit_costs_nothing(
    store: PostgresStore, postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    event = Event(event_id="event-0001", edge_id=EDGE, severity=Severity.ALARM, code="a.bc", text="x", at=T0)
    alarm = LedgerFrame(EDGE, 1, Stream.ALARM, 1, 1, "a" * 64, T0, events=(event,))
    saboteur = Saboteur(postgres, monkeypatch)
    seq, step, lost = 1, 0, 0
    while saboteur.left is None:  # until a commit has fewer steps than this
        step += 1
        saboteur.left = step
        batch = [alarm, frame(seq), frame(seq + 1)]
        for _ in range(3):
            try:
                outcome = store.commit(batch)
                break
            except TransientError:
                lost += 1
                assert store.watermarks(EDGE)[Stream.MEASURE].seq == seq - 1
        else:
            pytest.fail("a commit did not pass although the server is there")
        assert outcome.verdicts[1:] == (Verdict.ACCEPTED, Verdict.ACCEPTED)
        seq += 2
    assert step > 8
    assert lost >= step - 3  # a session ended before COMMIT is looked up and committed again by itself
    saboteur.left = None
    assert counts(store) == {float(n): ROWS for n in range(1, seq)}
    assert store.events() == [event]
    assert store.statistics().readings == (seq - 1) * ROWS


@pytest.mark.parametrize("arrives", [True, False], ids=["it was committed", "it was not"])
def test_a_commit_whose_answer_is_lost_is_known_by_its_watermark(
    store: PostgresStore, postgres: str, monkeypatch: pytest.MonkeyPatch, arrives: bool
) -> None:
    cut = Cut(monkeypatch, postgres, arrives=arrives)
    store.commit([frame(1)])
    cut.armed = 1
    outcome = store.commit([frame(2), frame(3)])
    assert cut.armed == 0
    assert outcome.verdicts == (Verdict.ACCEPTED, Verdict.ACCEPTED)
    assert outcome.watermarks[EDGE, Stream.MEASURE].seq == 3
    assert outcome.rows == 2 * ROWS
    assert counts(store) == {1.0: ROWS, 2.0: ROWS, 3.0: ROWS}
    assert {row.value for row in store.last()} == {3.0}


@pytest.mark.parametrize("arrives", [True, False], ids=["it was committed", "it was not"])
def test_a_lost_answer_is_remembered_while_the_server_is_away(
    store: PostgresStore, postgres: str, monkeypatch: pytest.MonkeyPatch, arrives: bool
) -> None:
    cut = Cut(monkeypatch, postgres, arrives=arrives)
    cut.armed = 1
    with monkeypatch.context() as patch:
        patch.setattr(store._sessions, "conninfo", "host=/nowhere dbname=x connect_timeout=1")
        for _ in range(2):  # the second finds the back-off running and asks nobody
            with pytest.raises(StoreLostError):
                store.commit([frame(1)])
    store._sessions._not_before_s = 0.0
    outcome = store.commit([frame(1)])
    assert outcome.verdicts == (Verdict.ACCEPTED,)
    assert store.commit([frame(1)]).verdicts == (Verdict.DUPLICATE,)
    assert counts(store) == {1.0: ROWS}


class Cut:
    """Breaks the writing connection at COMMIT, before the server hears of it or after it has committed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, url: str, *, arrives: bool) -> None:
        self.armed = 0
        real = psycopg.Connection.commit

        def commit(connection: psycopg.Connection[Any]) -> None:
            if self.armed:
                self.armed -= 1
                if arrives:
                    real(connection)
                end_sessions(url, WRITER)
                connection.close()
                raise psycopg.OperationalError("server closed the connection unexpectedly")
            real(connection)

        monkeypatch.setattr(psycopg.Connection, "commit", commit)


def test_a_reader_whose_session_was_ended_while_idle_notices_nothing(store: PostgresStore, postgres: str) -> None:
    store.commit([frame(1)])
    assert len(store.last()) == 10
    end_sessions(postgres, READER)
    assert len(store.last()) == 10


# Migrations and roll-ups


def test_a_filled_store_of_the_first_schema_is_brought_up_to_date_without_loss(
    postgres: str,
) -> None:
    steps = migrations()
    body = encode(Columns(*(np.arange(4).astype(kind) for kind in (np.int32, np.int64, float, np.uint8))), np.zeros(4, np.int8))
    with psycopg.connect(postgres) as connection:
        connection.execute("CREATE TABLE schema_version (version integer PRIMARY KEY, name text NOT NULL)")
        connection.execute(steps[0][2].encode())
        connection.execute("INSERT INTO schema_version VALUES (1, %s)", [steps[0][1]])
        for number in range(4):
            connection.execute("INSERT INTO points VALUES (%s, %s)", [number, f"harbour/m{number}/p_w"])
        for position in (1, 2):
            row = [position, 0, 3, to_us(T0), "1970-01-01", 4, 0, 3, "harbour", body]
            connection.execute("INSERT INTO chunks VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %b)", row)
        connection.execute("UPDATE ledger SET position = 2, readings = 8, frames = 1")
        connection.execute("INSERT INTO epochs VALUES ('harbour', 1, 0)")
        connection.execute("INSERT INTO marks VALUES ('harbour', 'measure', 1, 1, decode(repeat('ab', 32), 'hex'))")
        values = [1, 1, 1, 0, 8, "harbour", "measure", "accepted", bytes.fromhex("ab" * 32)]
        connection.execute("INSERT INTO frames VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %b)", values)
    with PostgresStore(postgres) as store:
        assert admin(postgres, "SELECT max(version) FROM schema_version") == [(steps[-1][0],)]
        assert store.watermarks(EDGE)[Stream.MEASURE].seq == 1
        assert store.frame_sha256(EDGE, Stream.MEASURE, 1, 1) == "ab" * 32
        assert (store.statistics().readings, len(store.points()), len(store.last())) == (8, 4, 4)
        position, batch = store.replay(0, 4)
        assert (position, len(batch)) == (1, 4)
        assert store.replay(2, 4)[0] == 2
        assert store.roll_up(T0 + timedelta(days=1), 10.0).waiting == 0
        assert admin(postgres, "SELECT count, total FROM rollups_day ORDER BY point_id") == [
            (2, 0.0),
            (2, 2.0),
            (2, 4.0),
            (2, 6.0),
        ]


def test_roll_ups_can_be_read_with_sql_under_the_names_of_points(store: PostgresStore, postgres: str) -> None:
    store.commit([frame(seq) for seq in range(1, 4)])
    assert store.roll_up(T0 + timedelta(hours=2), 10.0) == RollupProgress(20, 0, 0.0)
    rows = admin(postgres, "SELECT start_at, count, good, minimum, maximum, mean, last FROM rollups_by_name WHERE level = '1h'")
    assert rows == [(T0, 30, 30, 1.0, 3.0, 2.0, 3.0)] * 10


def test_several_hubs_that_fold_at_once_count_every_reading_once(store: PostgresStore, postgres: str) -> None:
    with PostgresStore(postgres) as other:
        for seq in range(1, 31):
            store.commit([frame(seq)])
        hubs = [threading.Thread(target=hub._rollups.advance, args=(T0 + timedelta(hours=2), 20.0)) for hub in (store, other)]
        for hub in hubs:
            hub.start()
        for hub in hubs:
            hub.join()
        assert admin(postgres, "SELECT sum(count)::int FROM rollups_hour") == [(30 * ROWS,)]
        assert admin(postgres, "SELECT sum(count)::int FROM rollups_day") == [(30 * ROWS,)]


def test_retention_gives_the_partition_of_a_day_back(store: PostgresStore, postgres: str) -> None:
    store.commit([frame(1)])
    assert admin(postgres, "SELECT count(*) FROM pg_class WHERE relname = 'chunks_20260115'") == [(1,)]
    assert store.retain(RetentionPolicy(raw_days=30), T0 + timedelta(days=31)) == ROWS
    assert admin(postgres, "SELECT count(*) FROM pg_class WHERE relname = 'chunks_20260115'") == [(0,)]
    assert store.statistics().readings == 0
    assert store.replay(0, 10)[1].points == ()
    late = store.commit([frame(2)])  # what comes late for a day that is gone is taken all the same
    assert late.verdicts == (Verdict.ACCEPTED,)
    assert counts(store) == {2.0: ROWS}
    hours = store.rollups(store.points(), RollupLevel.HOUR, T0, T0 + timedelta(days=1))
    assert sum(int(row.count.sum()) for row in hours.values()) == 2 * ROWS
