"""What every commit asks of DuckDB."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pytest

from tieline_cloud.store.duckdb_file import connect
from tieline_cloud.store.duckdb_rows import grant_epochs, held, marks, move_marks
from tieline_cloud.store.ports import LedgerFrame, Watermark
from tieline_core.frame import ReadingBatch
from tieline_core.ids import EdgeId, PointId
from tieline_core.messages.telemetry import Stream
from tieline_core.quantities import Reading

T0 = datetime(2026, 1, 1, tzinfo=UTC)
EDGES = [EdgeId(f"edge-{number}") for number in range(40)]


class _Planned:
    """Takes down the plan of everything that is asked, then asks it."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection
        self.plans: list[str] = []

    def execute(self, sql: str, parameters: Any = None) -> duckdb.DuckDBPyConnection:
        self.plans += [row[1] for row in self._connection.execute(f"EXPLAIN {sql}", parameters).fetchall()]
        return self._connection.execute(sql, parameters)


def _frame(edge: EdgeId, number: int) -> LedgerFrame:
    batch = ReadingBatch.of([Reading(PointId(f"{edge}/m1/p_w"), 1.0, T0)])
    return LedgerFrame(edge, 1, Stream.MEASURE, 1, 1, f"{number:064x}", T0, readings=batch)


@pytest.fixture
def connection(tmp_path: Path) -> duckdb.DuckDBPyConnection:
    return connect(tmp_path / "hub.duckdb", "64MB")


def test_no_statement_of_a_live_commit_is_a_hash_join(connection: duckdb.DuckDBPyConnection) -> None:
    """DuckDB remembers the blocks of each until thousands have gathered: the hub's memory grew by several MB a minute."""
    grant_epochs(connection, dict.fromkeys(EDGES, 0), 0)
    asked: Any = _Planned(connection)

    before = marks(asked, EDGES)
    held(asked, [_frame(edge, number) for number, edge in enumerate(EDGES)], first_release=False)
    move_marks(asked, before, {lane: Watermark(mark.epoch, 7, "a" * 64) for lane, mark in before.items()})

    assert len(asked.plans) == 3
    assert not [plan for plan in asked.plans if "JOIN" in plan]
    assert {mark.seq for mark in marks(connection, EDGES).values()} == {7}


def test_a_watermark_that_was_moved_meanwhile_is_never_overwritten(connection: duckdb.DuckDBPyConnection) -> None:
    grant_epochs(connection, dict.fromkeys(EDGES, 0), 0)
    before = marks(connection, EDGES)
    connection.execute("UPDATE marks SET seq = 3 WHERE edge = 'edge-5' AND stream = 'measure'")
    after = {lane: Watermark(mark.epoch, 7, "a" * 64) for lane, mark in before.items()}

    with pytest.raises(RuntimeError, match="moved under a running commit"):
        move_marks(connection, before, after)
    kept = marks(connection, EDGES)[EDGES[5], Stream.MEASURE]
    assert (kept.seq, kept.sha256) == (3, None)
