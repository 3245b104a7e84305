"""Questions about what became of readings: findings, misdated ones, estimates, frame contents by hour, and the replay."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np

from tieline_cloud.store.examination import Estimate, Finding, Misdated
from tieline_cloud.store.postgres_chunks import Columns, decode
from tieline_cloud.store.postgres_parts import merged, rollup_of
from tieline_cloud.store.postgres_points import KnownPoints
from tieline_cloud.store.postgres_query import PostgresQuery
from tieline_cloud.store.postgres_rollups import Rollups
from tieline_cloud.store.postgres_session import Sessions
from tieline_cloud.store.rollup import QUARTER_US, GroupFunction, Rollup, RollupLevel, grouped
from tieline_cloud.store.values import Series
from tieline_core.frame import ReadingBatch
from tieline_core.ids import EdgeId, PointId
from tieline_core.messages.telemetry import Stream
from tieline_core.reconcile import HourDigest, by_hour
from tieline_core.timegrid import ceil_to, floor_to, from_us, to_us


class PostgresAudit(PostgresQuery):
    """Roll-ups and questions about arrival, beside those about readings."""

    def __init__(self, sessions: Sessions, known: KnownPoints, zone: ZoneInfo) -> None:
        super().__init__(sessions, known)
        self._rollups = Rollups(sessions, known, zone)

    def means(self, points: Sequence[PointId], start: datetime, end: datetime, step_s: int) -> dict[PointId, Series]:
        """Means of the good readings of each whole interval; those of quarter-hours live as long as their roll-ups."""
        step, step_us = timedelta(seconds=step_s), step_s * 1_000_000
        if step_us % QUARTER_US:
            return super().means(points, start, end, step_s)
        numbers = self._numbers(points)
        span = to_us(ceil_to(start, step)), to_us(ceil_to(end, step))
        parts = self._rollups.parts(numbers, RollupLevel.QUARTER, *span)
        result = {}
        for point in points:
            mine = parts.of(numbers.get(point, -1))
            mine = mine.take(mine.good > 0)
            labels, owner = np.unique(mine.start_us // step_us, return_inverse=True)
            means = np.bincount(owner, mine.good_total, len(labels)) / np.bincount(owner, mine.good, len(labels))
            result[point] = Series(point, labels * step_us, means, np.zeros(len(labels), np.uint8))
        return result

    def rollups(self, points: Sequence[PointId], level: RollupLevel, start: datetime, end: datetime) -> dict[PointId, Rollup]:
        """Roll-ups of the intervals that start in [start, end), of every point asked for."""
        known = self._rollups.rollups(self._numbers(points), level, start, end)
        return {point: known[point] if point in known else rollup_of(point, merged([])) for point in points}

    def aggregate(
        self,
        groups: Mapping[str, Sequence[PointId]],
        level: RollupLevel,
        start: datetime,
        end: datetime,
        function: GroupFunction,
    ) -> dict[str, Series]:
        """One series a group: the points' means summed or averaged, or the extremes of their extremes."""
        every = list(dict.fromkeys(point for points in groups.values() for point in points))
        rolled = self.rollups(every, level, start, end) if every else {}
        members = {name: [rolled[point] for point in dict.fromkeys(points)] for name, points in groups.items() if points}
        return {name: grouped(rows, len(rows), function) for name, rows in members.items()}

    def replay(self, after: int, limit_rows: int) -> tuple[int, ReadingBatch]:
        """Readings in the order they were stored, beginning above a position; returns the position reached."""
        with self._sessions.reading() as connection:
            self._known.catch_up(connection)
            spans = connection.execute(
                "SELECT position, rows, first_day, last_day FROM positions WHERE position > %s ORDER BY position LIMIT %s",
                [after, max(1, limit_rows)],
            ).fetchall()
            if not spans:
                return after, ReadingBatch.of([])
            spans = spans[: max(1, int(np.searchsorted(np.cumsum([row[1] for row in spans]), limit_rows, "right")))]
            reached: int = spans[-1][0]
            query = "SELECT body FROM chunks WHERE day BETWEEN %s AND %s AND position > %s AND position <= %s ORDER BY position"
            days = [min(row[2] for row in spans), max(row[3] for row in spans)]
            rows = connection.cursor(binary=True).execute(query, [*days, after, reached]).fetchall()
        readings = Columns.joined([decode(body) for (body,) in rows])
        numbers, index = np.unique(readings.numbers, return_inverse=True)
        points = tuple(self._known.last.name(number) for number in numbers.tolist())
        return reached, ReadingBatch(points, index.astype(np.int32), readings.at_us, readings.values, readings.quality)

    def frame_digests(self, edge: EdgeId, stream: Stream, start: datetime, end: datetime) -> list[HourDigest]:
        """Frame contents of every hour that meets [start, end), counted and hashed."""
        hour = timedelta(hours=1)
        rows = self._rows(
            "SELECT first_us, sha256, readings FROM frames "
            "WHERE edge = %s AND stream = %s AND first_us >= %s AND first_us < %s",
            [str(edge), stream.value, to_us(floor_to(start, hour)), to_us(ceil_to(end, hour))],
        )
        return by_hour((first_us, sha256.hex(), readings) for first_us, sha256, readings in rows)

    def findings(self, point_like: str | None, rule: str | None, start: datetime, end: datetime, limit: int) -> list[Finding]:
        """Findings on readings measured in [start, end), newest first."""
        rows = self._rows(
            "SELECT p.name, f.at_us, f.received_at_us, f.rule, f.value, f.bound FROM findings f "
            "JOIN points p ON p.id = f.point_id "
            "WHERE f.at_us >= %s AND f.at_us < %s AND f.rule = coalesce(%s, f.rule) AND (%s::int[] IS NULL OR p.id = ANY(%s)) "
            "ORDER BY f.at_us DESC, p.name, f.rule LIMIT %s",
            [to_us(start), to_us(end), rule, *[self._alike(point_like)] * 2, limit],
        )
        return [Finding(PointId(row[0]), from_us(row[1]), from_us(row[2]), *row[3:]) for row in rows]

    def misdated(self, point_like: str | None, limit: int) -> list[Misdated]:
        """Readings whose instant is not believed, newest arrival first."""
        rows = self._rows(
            "SELECT p.name, m.at_us, m.received_at_us, m.value, m.quality, m.rule FROM misdated m "
            "JOIN points p ON p.id = m.point_id WHERE %s::int[] IS NULL OR p.id = ANY(%s) "
            "ORDER BY m.received_at_us DESC, m.at_us DESC, p.name LIMIT %s",
            [*[self._alike(point_like)] * 2, limit],
        )
        return [Misdated(PointId(row[0]), from_us(row[1]), from_us(row[2]), *row[3:]) for row in rows]

    def _alike(self, point_like: str | None) -> list[int] | None:
        """Numbers of the points a shell pattern names; None for all."""
        if point_like is None:
            return None
        return list(self._numbers(self.points(like=point_like)).values())

    def estimates(self, point: PointId, start: datetime, end: datetime) -> list[Estimate]:
        """Estimated values in [start, end), ascending."""
        rows = self._rows(
            "SELECT e.at_us, e.value, e.method FROM estimates e JOIN points p ON p.id = e.point_id "
            "WHERE p.name = %s AND e.at_us >= %s AND e.at_us < %s ORDER BY e.at_us",
            [str(point), to_us(start), to_us(end)],
        )
        return [Estimate(point, from_us(at_us), value, method) for at_us, value, method in rows]
