"""The store in memory: the same promises without a disk, for tests and trials. What is closed is gone."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import pyarrow as pa

from tieline_cloud.store.acceptance import Label, Lane, decide, label_of, lane_of, oldest_us
from tieline_cloud.store.arriving import Arriving, gather
from tieline_cloud.store.last_values import LastValues
from tieline_cloud.store.memory_columns import LEVELS, Columns
from tieline_cloud.store.parquet import export_table, number_column, write_export
from tieline_cloud.store.ports import (
    Committed,
    Estimate,
    Examiner,
    Finding,
    GroupFunction,
    Ingested,
    LastValue,
    LedgerFrame,
    Misdated,
    Quarantined,
    RetentionPolicy,
    Rollup,
    RollupLevel,
    RollupProgress,
    Series,
    StoreStatistics,
    Watermark,
)
from tieline_cloud.store.rollup import cover, grouped, kept_from_us, rolled_up, zone_of
from tieline_core.frame import ReadingBatch
from tieline_core.ids import EdgeId, PointId
from tieline_core.messages.telemetry import Event, IssuedForecast, Skip, Stream
from tieline_core.quantities import Quality, Reading
from tieline_core.reconcile import HourDigest, by_hour
from tieline_core.timegrid import ceil_to, floor_to, from_us, to_us


class MemoryStore:
    """Ledger and queries in memory."""

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

    def close(self) -> None:
        """Nothing to release."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    # Ledger

    def watermarks(self, edge: EdgeId) -> dict[Stream, Watermark]:
        """Committed watermarks of every stream of an edge."""
        with self._lock:
            return {stream: mark for (owner, stream), mark in self._marks.items() if owner == edge}

    def frame_sha256(self, edge: EdgeId, stream: Stream, epoch: int, seq: int) -> str | None:
        """Hash of a committed frame; None when there is no frame under that label."""
        with self._lock:
            return self._labels.get((edge, stream, epoch, seq))

    def grant_epoch(self, edge: EdgeId, at: datetime, above: int = 0) -> int:
        """Keep and return a new epoch for an edge."""
        del at  # kept by stores that keep history
        with self._lock:
            epoch = max(self._epochs.get(edge, 0), above) + 1
            self._epochs[edge] = epoch
            self._marks.update({(edge, stream): Watermark(epoch, 0, None) for stream in Stream})
            return epoch

    def commit(self, frames: Sequence[LedgerFrame]) -> Committed:
        """Take frames, each by compare-and-set of its stream's watermark."""
        with self._lock:
            decision = decide(self._marks, frames, self._content, self._labels)
            taken = decision.taken(frames)
            batches = [
                (frame.readings, to_us(frame.received_at))
                for frame in taken
                if frame.readings is not None and len(frame.readings)
            ]
            rows = self._store(gather(self._last, batches, self._examiner)) if batches else 0
            for frame in taken:
                self._take_records(frame)
            for frame in decision.moving(frames):
                self._labels[label_of(frame)] = frame.sha256
                self._content.add((*lane_of(frame), frame.sha256))
                if (first_us := oldest_us(frame)) is not None:
                    readings = 0 if frame.readings is None else len(frame.readings)
                    self._contents.setdefault(lane_of(frame), []).append((first_us, frame.sha256, readings))
            self._marks = decision.watermarks
            named = {lane_of(frame) for frame in frames} & self._marks.keys()
            return Committed(decision.verdicts, {lane: self._marks[lane] for lane in named}, rows)

    def _store(self, arriving: Arriving) -> int:
        readings, arrival = arriving.dated(), arriving.arrival
        self._position += 1
        self._columns.append(readings, self._position)

        def row(at: int) -> tuple[PointId, datetime, datetime, float | None]:
            value = float(arrival.values[at])
            number = None if np.isnan(value) else value
            measured, received = from_us(int(arrival.at_us[at])), from_us(int(arrival.received_us[at]))
            return arrival.name(int(arrival.numbers[at])), measured, received, number

        found, aside = arriving.found(), arriving.set_aside()
        for at, rule, limit in zip(found.rows, found.rules, found.limits, strict=True):
            point, measured, received, value = row(at)
            self._findings.append(Finding(point, measured, received, rule, value, None if np.isnan(limit) else float(limit)))
        for at, rule in zip(aside.rows, aside.rules, strict=True):
            self._misdated.append(Misdated(*row(at), int(arrival.quality[at]), rule))
        self._last.add(arriving.new)
        self._last.update(readings.numbers, readings.at_us, readings.values, readings.quality)
        if self._examiner is not None and arriving.examined is not None:
            self._examiner.settle(arriving.examined)
        return len(readings)

    def _take_records(self, frame: LedgerFrame) -> None:
        self.record_events(frame.events)
        self.record_forecasts(frame.forecasts)
        if frame.skip is not None:
            self._skips.append((frame.edge, frame.skip))
        if frame.refused is not None:
            refused = frame.refused
            self.quarantine(frame.edge, refused.topic, refused.payload, refused.reason, frame.received_at)

    def quarantine(self, edge: str, topic: str, payload: bytes, reason: str, at: datetime) -> None:
        """Keep what could not be decoded, with the reason."""
        with self._lock:
            self._quarantine.append(Quarantined(at, edge, topic, len(payload), reason))

    def ingest_once(self, batch: ReadingBatch, source: str, key: str, sha256: str, at: datetime) -> tuple[Ingested, int]:
        """Take a delivery through a bulk door once per (source, key)."""
        with self._lock:
            known = self._deliveries.get((source, key))
            if known is not None:
                return (Ingested.REPEATED if known == sha256 else Ingested.CONFLICT), 0
            rows = self._store(gather(self._last, [(batch, to_us(at))], self._examiner)) if len(batch) else 0
            self._deliveries[source, key] = sha256
            return Ingested.STORED, rows

    def import_readings(self, batch: ReadingBatch, source: str, at: datetime) -> int:
        """Keep imported history, once per point and instant; returns the rows that were new."""
        del source  # kept by stores that keep history
        with self._lock:
            shown = ~self._columns.gone[0]
            known = set(zip(self._columns.numbers[shown].tolist(), self._columns.at_us[shown].tolist(), strict=True))
            self._last.add(self._last.unknown([batch]))
            rows = []
            for row, key in enumerate(zip(self._last.numbers(batch, {}).tolist(), batch.at_us.tolist(), strict=True)):
                if key not in known:
                    known.add(key)
                    rows.append(row)
            if not rows:
                return 0
            index = np.array(rows, np.intp)
            fresh = ReadingBatch(
                batch.points, batch.point_index[index], batch.at_us[index], batch.values[index], batch.quality[index]
            )
            return self._store(gather(self._last, [(fresh, to_us(at))], None))

    def record_estimates(self, estimates: Sequence[Estimate], at: datetime) -> None:
        """Keep estimated values; of several for a point and instant the newest stays."""
        del at  # kept by stores that keep history
        with self._lock:
            self._last.add(
                self._last.unknown([ReadingBatch.of([Reading(e.point, e.value, e.at, Quality.GOOD)]) for e in estimates])
            )
            self._estimates.update({(estimate.point, to_us(estimate.at)): estimate for estimate in estimates})

    def roll_up(self, now: datetime, budget_s: float) -> RollupProgress:
        """Nothing to do: roll-ups are made when they are asked for."""
        del now, budget_s
        return RollupProgress(0, 0, 0.0)

    def retain(self, policy: RetentionPolicy, now: datetime) -> int:
        """Let go what is past retention; returns the rows that went, of readings and of each level."""
        dropped = 0
        with self._lock:
            for point in self._last.names():
                number = self._last.number(point)
                for level in LEVELS:
                    days = policy.days(level, point)
                    if number is not None and days is not None:
                        dropped += self._columns.drop(number, level, kept_from_us(days, now))
                if (days := policy.days(None, point)) is not None:
                    kept = from_us(kept_from_us(days, now))
                    self._findings = [row for row in self._findings if row.point != point or row.measured_at >= kept]
                    self._misdated = [row for row in self._misdated if row.point != point or row.measured_at >= kept]
        return dropped

    def record_events(self, events: Sequence[Event]) -> None:
        """Keep events; an event id that is already held is left as it is."""
        with self._lock:
            for event in events:
                self._events.setdefault(event.event_id, event)

    def record_forecasts(self, forecasts: Sequence[IssuedForecast]) -> None:
        """Keep issued forecasts."""
        with self._lock:
            self._forecasts.extend(forecasts)

    def put_document(self, kind: str, key: str, body: bytes, at: datetime) -> None:
        """Keep the newest state of something; replaces the one before."""
        del at  # kept by stores that keep history
        with self._lock:
            self._documents[kind, key] = body

    def documents(self, kind: str) -> dict[str, bytes]:
        """All kept documents of a kind by key."""
        with self._lock:
            return {key: body for (held, key), body in sorted(self._documents.items()) if held == kind}

    # Queries

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
        result = {}
        for point in points:
            raw = self.series(point, first, beyond)
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
