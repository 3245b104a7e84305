"""Schema versions, roll-ups and retention of the store in PostgreSQL."""

from __future__ import annotations

import threading
from datetime import timedelta

import numpy as np
import psycopg
import pytest

from tests.cloud.store.postgres_frames import EDGE, ROWS, T0, admin, counts, frame
from tieline_cloud.store.duckdb_file import StoreFormatError
from tieline_cloud.store.ports import RetentionPolicy, RollupLevel, RollupProgress, Verdict
from tieline_cloud.store.postgres_chunks import Columns, encode
from tieline_cloud.store.postgres_schema import migrations
from tieline_cloud.store.postgres_store import PostgresStore
from tieline_core.messages.telemetry import Stream
from tieline_core.timegrid import to_us


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
