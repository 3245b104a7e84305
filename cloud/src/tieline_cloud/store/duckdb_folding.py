"""Keeping roll-ups up to date, and dropping what is past retention.

A fold reads what lies above the position of a level in the next finer one, groups it and appends the parts, and moves the
level's position in the same transaction: every reading is in every level once, whenever the process dies. It runs on a
cursor of its own, so ingest never waits for it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final
from zoneinfo import ZoneInfo

import duckdb
import numpy as np
import pyarrow as pa

from tieline_cloud.store.duckdb_parts import (
    FINER,
    TABLES,
    Bounds,
    append,
    append_days,
    merged,
    of_readings,
    of_table,
    positions_of,
)
from tieline_cloud.store.duckdb_readings import registered, transaction
from tieline_cloud.store.last_values import LastValues
from tieline_cloud.store.rollup import RetentionPolicy, RollupLevel, RollupProgress, kept_from_us
from tieline_core.timegrid import to_us

#: What waits this long [s], or makes this many rows, is folded; folding sooner would leave more parts to an interval.
_WAIT_S: Final = {RollupLevel.MINUTE: 60, RollupLevel.QUARTER: 900, RollupLevel.HOUR: 3600, RollupLevel.DAY: 21_600}
_ROWS: Final = 8_000_000
#: Rows of one fold, which is one transaction.
_FOLD_ROWS: Final = 4_000_000
#: Rows it groups at a time, by ranges of points: bounds its memory without leaving more parts to an interval.
_SLICE_ROWS: Final = 1_000_000
#: Frames are known by their content at least this long: no edge keeps its own longer.
_FRAME_DAYS: Final = 60


class Folding:
    """Folds of one store; :meth:`advance` and :meth:`retain` are called by one thread at a time.

    Args:
        root: Connection cursors are made from.
        last: Knows the points by number.
        zone: Whose days are made.
    """

    def __init__(self, root: duckdb.DuckDBPyConnection, last: LastValues, zone: ZoneInfo) -> None:
        self._root = root
        self._last = last
        self._zone = zone

    def advance(self, now: datetime, budget_s: float) -> RollupProgress:
        """Fold what is due until nothing is or the budget is spent."""
        return self._fold(now, time.monotonic() + budget_s, everything=False)

    def _fold(self, now: datetime, deadline_s: float, *, everything: bool) -> RollupProgress:
        buckets = 0
        for level in RollupLevel:
            while everything or time.monotonic() < deadline_s:
                with transaction(self._root) as cursor:
                    upto = self._due(cursor, level, to_us(now), everything=everything)
                    if upto is None:
                        break
                    buckets += self._fold_one(cursor, level, upto, to_us(now))
        return self._progress(buckets, now)

    def _due(self, cursor: duckdb.DuckDBPyConnection, level: RollupLevel, now_us: int, *, everything: bool) -> int | None:
        """Position up to which a level is to be folded next; None when that can wait."""
        position, folded_at_us = cursor.execute(
            "SELECT position, at_us FROM progress WHERE name = ?", [level.value]
        ).fetchall()[0]
        finer = FINER[level]
        if finer is None:
            waiting = cursor.execute(
                "SELECT position, readings, stored_at_us FROM positions WHERE position > ? ORDER BY position", [position]
            ).fetchnumpy()
            oldest_us = int(waiting["stored_at_us"].min()) if len(waiting["position"]) else 0
        else:
            waiting = cursor.execute(
                f"SELECT position, count(*) AS readings FROM {TABLES[finer]} WHERE position > ? GROUP BY 1 ORDER BY 1",  # noqa: S608 (our table)
                [position],
            ).fetchnumpy()
            oldest_us = folded_at_us
        if not len(waiting["position"]):
            return None
        sums = np.cumsum(waiting["readings"].astype(np.int64))
        late = now_us - oldest_us >= _WAIT_S[level] * 1_000_000 or now_us < oldest_us
        if not (everything or late or sums[-1] >= _ROWS):
            return None
        taken = max(1, int(np.searchsorted(sums, _FOLD_ROWS, "right")))
        return int(waiting["position"][taken - 1])

    def _fold_one(self, cursor: duckdb.DuckDBPyConnection, level: RollupLevel, upto: int, now_us: int) -> int:
        above, finer = positions_of(cursor)[level], FINER[level]
        made = 0
        for bounds in self._slices(cursor, finer, Bounds(above, upto)):
            if level is RollupLevel.DAY:
                made += append_days(cursor, of_table(RollupLevel.QUARTER, bounds), self._zone, upto)
            else:
                parts = of_readings(level, bounds) if finer is None else merged(level, [of_table(finer, bounds)])
                made += append(cursor, level, parts, upto)
        cursor.execute("UPDATE progress SET position = ?, at_us = ? WHERE name = ?", [upto, now_us, level.value])
        return made

    def _slices(self, cursor: duckdb.DuckDBPyConnection, finer: RollupLevel | None, bounds: Bounds) -> list[Bounds]:
        """The same rows as ranges of points, ascending and without an end, of about the rows of a slice each."""
        table, instant = ("readings", "at_us") if finer is None else (TABLES[finer], "start_us")
        rows = cursor.execute(f"SELECT count(*) FROM {table} WHERE {bounds.condition(instant)}").fetchall()[0][0]  # noqa: S608 (our own words)
        slices = max(1, min(-(-rows // _SLICE_ROWS), len(self._last)))
        edges = [len(self._last) * number // slices for number in range(1, slices)]
        lows = [f"point_id >= {low}" for low in edges]
        highs = [f"point_id < {high}" for high in edges]
        ranges = [" AND ".join(pair) for pair in zip(["true", *lows], [*highs, "true"], strict=True)]
        return [replace(bounds, points=points) for points in ranges]

    def _progress(self, buckets: int, now: datetime) -> RollupProgress:
        with transaction(self._root) as cursor:
            waiting, oldest_us = cursor.execute(
                "SELECT coalesce(sum(readings), 0)::BIGINT, min(stored_at_us) FROM positions "
                "WHERE position > (SELECT position FROM progress WHERE name = '1min')"
            ).fetchall()[0]
        return RollupProgress(buckets, waiting, 0.0 if oldest_us is None else max(0.0, (to_us(now) - oldest_us) / 1e6))

    # Retention

    def retain(self, policy: RetentionPolicy, now: datetime) -> int:
        """Roll everything up, then drop what is past retention; returns the rows dropped."""
        self._fold(now, 0.0, everything=True)
        dropped = 0
        for level, table, instant in (
            (None, "readings", "at_us"),
            (RollupLevel.MINUTE, TABLES[RollupLevel.MINUTE], "start_us"),
            (RollupLevel.QUARTER, TABLES[RollupLevel.QUARTER], "start_us"),
            (RollupLevel.HOUR, TABLES[RollupLevel.HOUR], "start_us"),
        ):
            for days, numbers in self._classes(policy, level).items():
                before_us = kept_from_us(days, now)
                with transaction(self._root) as cursor:
                    dropped += _drop(cursor, table, f"{instant} < {before_us}{_folded(cursor, level)}", numbers)
                    if level is None:
                        for aside in ("findings", "misdated"):
                            dropped += _drop(cursor, aside, f"at_us < {before_us}", numbers)
        self._drop_labels(policy, now)
        return dropped

    def _classes(self, policy: RetentionPolicy, level: RollupLevel | None) -> dict[int, Sequence[int] | None]:
        """Numbers of the points by days kept; None for all points there are."""
        classes: dict[int | None, list[int]] = {}
        for point in self._last.names():
            number = self._last.number(point)
            if number is not None:
                classes.setdefault(policy.days(level, point), []).append(number)
        if len(classes) == 1:
            return {days: None for days in classes if days is not None}
        return {days: numbers for days, numbers in classes.items() if days is not None}

    def _drop_labels(self, policy: RetentionPolicy, now: datetime) -> None:
        if policy.raw_days is None:
            return
        with transaction(self._root) as cursor:
            cursor.execute(
                "DELETE FROM frames WHERE received_at_us < ? AND NOT EXISTS (SELECT 1 FROM marks m WHERE m.edge = frames.edge "
                "AND m.stream = frames.stream AND m.epoch = frames.epoch AND m.seq = frames.seq)",
                [kept_from_us(max(policy.raw_days, _FRAME_DAYS), now)],
            )
            # The newest row stays: it says which position comes next.
            cursor.execute(
                "DELETE FROM positions WHERE stored_at_us < ? AND position < (SELECT max(position) FROM positions) "
                "AND position <= (SELECT position FROM progress WHERE name = '1min')",
                [kept_from_us(policy.raw_days, now)],
            )


def _folded(cursor: duckdb.DuckDBPyConnection, level: RollupLevel | None) -> str:
    """Condition that keeps what a coarser level has not taken up yet."""
    positions = positions_of(cursor)
    above = [positions[coarser] for coarser, finer in FINER.items() if finer is level]
    return f" AND position <= {min(above)}" if above else ""


def _drop(cursor: duckdb.DuckDBPyConnection, table: str, condition: str, numbers: Sequence[int] | None) -> int:
    if numbers is None:
        return int(cursor.execute(f"DELETE FROM {table} WHERE {condition}").fetchall()[0][0])  # noqa: S608 (our own words)
    with registered(cursor, "meant", pa.table({"id": np.array(numbers, np.int32)})):
        rows = cursor.execute(
            f"DELETE FROM {table} WHERE {condition} AND point_id IN (SELECT id FROM meant)"  # noqa: S608 (our own words)
        ).fetchall()
    return int(rows[0][0])
