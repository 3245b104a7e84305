"""Several hubs and threads on one ledger in PostgreSQL; lost connections and lost answers."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import psycopg
import pytest

from tests.cloud.store.postgres_frames import EDGE, ROWS, T0, counts, end_sessions, frame
from tieline_cloud.store.ports import LedgerFrame, Verdict
from tieline_cloud.store.postgres_session import READER, WRITER, StoreLostError
from tieline_cloud.store.postgres_store import PostgresStore
from tieline_core.errors import TransientError
from tieline_core.frame import ReadingBatch
from tieline_core.ids import EdgeId, PointId
from tieline_core.messages.telemetry import Event, Severity, Stream
from tieline_core.timegrid import to_us


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


def test_a_reader_whose_session_was_ended_while_idle_notices_nothing(store: PostgresStore, postgres: str) -> None:
    store.commit([frame(1)])
    assert len(store.last()) == 10
    end_sessions(postgres, READER)
    assert len(store.last()) == 10
