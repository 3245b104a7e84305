"""The reading side of the store in memory."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
import pyarrow as pa

from tieline_cloud.store.acceptance import Label, Lane
from tieline_cloud.store.last_values import LastValues
from tieline_cloud.store.memory_columns import Columns
from tieline_cloud.store.parquet import export_table, number_column, write_export
from tieline_cloud.store.ports import (
    Estimate,
    Examiner,
    Finding,
    GroupFunction,
    LastValue,
    Misdated,
    Quarantined,
    Rollup,
    RollupLevel,
    Series,
    StoreStatistics,
    Watermark,
)
from tieline_cloud.store.rollup import QUARTER_US, cover, grouped, rolled_up, zone_of
from tieline_core.frame import ReadingBatch
from tieline_core.ids import EdgeId, PointId
from tieline_core.messages.telemetry import Event, IssuedForecast, Skip, Stream
from tieline_core.quantities import Quality
from tieline_core.reconcile import HourDigest, by_hour
from tieline_core.timegrid import ceil_to, floor_to, to_us


class MemoryQuery:
    """Queries over what is held."""

    def __init__(self, examiner: Examiner | None = None, timezone: str = "UTC") -> None:
        self._lock = threading.RLock()
        self._last = LastValues()
        self._columns = Columns()
        self._examiner = examiner
        self._zone = zone_of(timezone)
        self._position = 0
        self._contents: dict[Lane, list[tuple[int, str, int]]] = {}
        self._findings: list[Finding] = []
        self._misdated: list[Misdated] = []
        self._estimates: dict[tuple[PointId, int], Estimate] = {}
        self._deliveries: dict[tuple[str, str], str] = {}
        self._epochs: dict[EdgeId, int] = {}
        self._marks: dict[Lane, Watermark] = {}
        self._labels: dict[Label, str] = {}
        self._content: set[tuple[EdgeId, Stream, str]] = set()
        self._events: dict[str, Event] = {}
        self._forecasts: list[IssuedForecast] = []
        self._skips: list[tuple[EdgeId, Skip]] = []
        self._quarantine: list[Quarantined] = []
        self._documents: dict[tuple[str, str], bytes] = {}

    def documents(self, kind: str) -> dict[str, bytes]:
        """All kept documents of a kind by key."""
        with self._lock:
            return {key: body for (held, key), body in sorted(self._documents.items()) if held == kind}

    def points(self, edge: str | None = None, like: str | None = None) -> list[PointId]:
        """Known points, sorted."""
        return self._last.names(edge, like)

    def series(self, point: PointId, start: datetime, end: datetime, limit: int | None = None) -> Series:
        """Raw readings in [start, end), ascending."""
        with self._lock:
            held = self._columns
            rows = held.select(self._last.number(point), to_us(start), to_us(end))[:limit]
            return Series(point, held.at_us[rows], held.values[rows], held.quality[rows])

    def means(self, points: Sequence[PointId], start: datetime, end: datetime, step_s: int) -> dict[PointId, Series]:
        """Means of the good readings of each whole interval that starts in [start, end)."""
        step = timedelta(seconds=step_s)
        first, beyond = ceil_to(start, step), ceil_to(end, step)
        level = RollupLevel.QUARTER if step_s * 1_000_000 % QUARTER_US == 0 else None
        result = {}
        for point in points:
            with self._lock:
                held = self._columns
                rows = held.select(self._last.number(point), to_us(first), to_us(beyond), level)
                raw = Series(point, held.at_us[rows], held.values[rows], held.quality[rows])
            good = (raw.quality == Quality.GOOD) & ~np.isnan(raw.values)
            labels, owner = np.unique(raw.at_us[good] // (step_s * 1_000_000), return_inverse=True)
            sums = np.bincount(owner, raw.values[good], len(labels))
            counts = np.bincount(owner, minlength=len(labels))
            means = sums / np.maximum(counts, 1)
            result[point] = Series(point, labels * (step_s * 1_000_000), means, np.zeros(len(labels), np.uint8))
        return result

    def last(self, points: Sequence[PointId] | None = None) -> list[LastValue]:
        """Last value of the points, or of all, sorted by point."""
        return self._last.rows(points)

    def events(
        self, since: datetime | None = None, edge: str | None = None, limit: int = 200, until: datetime | None = None
    ) -> list[Event]:
        """Newest events first, in [since, until)."""
        with self._lock:
            held = sorted(self._events.values(), key=lambda event: (event.at, event.event_id), reverse=True)
        found = [
            event
            for event in held
            if (since is None or event.at >= since) and (until is None or event.at < until) and edge in (None, event.edge_id)
        ]
        return found[:limit]

    def forecasts(self, point: PointId, start: datetime, end: datetime) -> list[IssuedForecast]:
        """Issued forecasts with ``issued_at`` in [start, end), oldest first."""
        with self._lock:
            found = [held for held in self._forecasts if held.point == point and start <= held.issued_at < end]
        return sorted(found, key=lambda forecast: forecast.issued_at)

    def skips(self, edge: str | None = None) -> list[Skip]:
        """Declared gaps, in the order of their arrival."""
        with self._lock:
            return [skip for owner, skip in self._skips if edge in (None, owner)]

    def quarantined(self, limit: int = 100) -> list[Quarantined]:
        """What could not be decoded, newest first."""
        with self._lock:
            return self._quarantine[::-1][:limit]

    def rollups(self, points: Sequence[PointId], level: RollupLevel, start: datetime, end: datetime) -> dict[PointId, Rollup]:
        """Roll-ups of the intervals that start in [start, end), of every point asked for."""
        whole = cover(level, start, end, self._zone)
        with self._lock:
            held, result = self._columns, {}
            for point in points:
                rows = held.select(self._last.number(point), whole.first_us, whole.end_us, level)
                raw = Series(point, held.at_us[rows], held.values[rows], held.quality[rows])
                result[point] = rolled_up(raw, level, self._zone)
            return result

    def aggregate(
        self,
        groups: Mapping[str, Sequence[PointId]],
        level: RollupLevel,
        start: datetime,
        end: datetime,
        function: GroupFunction,
    ) -> dict[str, Series]:
        """One series a group: the points' means summed or averaged, or the extremes of their extremes."""
        result = {}
        for name, points in groups.items():
            members = list(self.rollups(tuple(dict.fromkeys(points)), level, start, end).values())
            if members:
                result[name] = grouped(members, len(members), function)
        return result

    def replay(self, after: int, limit_rows: int) -> tuple[int, ReadingBatch]:
        """Readings in the order they were stored, beginning above a position; returns the position reached."""
        with self._lock:
            held = self._columns
            positions, counts = np.unique(held.positions[held.positions > after], return_counts=True)
            if not len(positions):
                return after, ReadingBatch.of([])
            reached = int(positions[max(1, int(np.searchsorted(np.cumsum(counts), limit_rows, "right"))) - 1])
            rows = np.flatnonzero((held.positions > after) & (held.positions <= reached) & ~held.gone[0])
            numbers, index = np.unique(held.numbers[rows], return_inverse=True)
            points = tuple(self._last.name(number) for number in numbers.tolist())
            return reached, ReadingBatch(
                points, index.astype(np.int32), held.at_us[rows], held.values[rows], held.quality[rows]
            )

    def frame_digests(self, edge: EdgeId, stream: Stream, start: datetime, end: datetime) -> list[HourDigest]:
        """Frame contents of every hour that meets [start, end), counted and hashed."""
        hour = timedelta(hours=1)
        first_us, end_us = to_us(floor_to(start, hour)), to_us(ceil_to(end, hour))
        with self._lock:
            return by_hour(row for row in self._contents.get((edge, stream), ()) if first_us <= row[0] < end_us)

    def findings(self, point_like: str | None, rule: str | None, start: datetime, end: datetime, limit: int) -> list[Finding]:
        """Findings on readings measured in [start, end), newest first."""
        with self._lock:
            found = [
                row
                for row in self._findings
                if start <= row.measured_at < end
                and rule in (None, row.rule)
                and (point_like is None or fnmatchcase(row.point, point_like))
            ]
        return sorted(found, key=lambda row: (-to_us(row.measured_at), row.point, row.rule))[:limit]

    def misdated(self, point_like: str | None, limit: int) -> list[Misdated]:
        """Readings whose instant is not believed, newest arrival first."""
        with self._lock:
            found = [row for row in self._misdated if point_like is None or fnmatchcase(row.point, point_like)]
        return sorted(found, key=lambda row: (-to_us(row.received_at), -to_us(row.measured_at), row.point))[:limit]

    def estimates(self, point: PointId, start: datetime, end: datetime) -> list[Estimate]:
        """Estimated values in [start, end), ascending."""
        with self._lock:
            held = [row for row in self._estimates.values() if row.point == point and start <= row.at < end]
        return sorted(held, key=lambda row: row.at)

    def statistics(self) -> StoreStatistics:
        """Sizes of what is kept."""
        with self._lock:
            return StoreStatistics(
                points=len(self._last),
                readings=int((~self._columns.gone[0]).sum()),
                frames=len(self._labels),
                events=len(self._events),
                forecasts=len(self._forecasts),
                quarantined=len(self._quarantine),
                findings=len(self._findings),
                misdated=len(self._misdated),
                estimates=len(self._estimates),
                rollups=0,
            )

    def export(self, path: str | Path, start: datetime, end: datetime, edge: str | None = None) -> int:
        """Write all readings of [start, end) to a parquet file and return the rows."""
        tables = []
        for point in self.points(edge):
            raw = self.series(point, start, end)
            names = pa.array([str(point)] * len(raw.at_us), pa.string())
            tables.append(export_table(names, pa.array(raw.at_us), number_column(raw.values), pa.array(raw.quality)))
        return write_export(Path(path), tables)
