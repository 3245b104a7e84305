"""The store in memory: the same promises without a disk, for tests and trials. What is closed is gone."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tieline_cloud.store.acceptance import Label, Lane, decide, label_of, lane_of
from tieline_cloud.store.last_values import LastValues
from tieline_cloud.store.parquet import export_table, number_column, write_export
from tieline_cloud.store.ports import (
    Committed,
    LastValue,
    LedgerFrame,
    Quarantined,
    Series,
    StoreStatistics,
    Watermark,
)
from tieline_core.frame import ReadingBatch
from tieline_core.ids import EdgeId, PointId
from tieline_core.messages.telemetry import Event, IssuedForecast, Skip, Stream
from tieline_core.quantities import Quality
from tieline_core.timegrid import ceil_to, to_us


class _Columns:
    """All readings, in the order of their arrival."""

    def __init__(self) -> None:
        self.numbers: NDArray[np.int32] = np.zeros(0, np.int32)
        self.at_us: NDArray[np.int64] = np.zeros(0, np.int64)
        self.values: NDArray[np.float64] = np.zeros(0)
        self.quality: NDArray[np.uint8] = np.zeros(0, np.uint8)

    def append(self, numbers: NDArray[np.int32], batch: ReadingBatch, rows: NDArray[np.intp]) -> None:
        self.numbers = np.concatenate([self.numbers, numbers[rows]])
        self.at_us = np.concatenate([self.at_us, batch.at_us[rows]])
        self.values = np.concatenate([self.values, batch.values[rows]])
        self.quality = np.concatenate([self.quality, batch.quality[rows]])

    def select(self, number: int | None, start_us: int, end_us: int) -> NDArray[np.intp]:
        """Rows of a point in a span, ascending in time."""
        inside = (self.numbers == (-1 if number is None else number)) & (self.at_us >= start_us) & (self.at_us < end_us)
        rows = np.flatnonzero(inside)
        return rows[np.argsort(self.at_us[rows], kind="stable")]


class MemoryStore:
    """Ledger and queries in memory."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._last = LastValues()
        self._columns = _Columns()
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
            rows = 0
            for frame in decision.taken(frames):
                if frame.readings is not None:
                    rows += self._append(frame.readings, np.arange(len(frame.readings)))
                self._take_records(frame)
            for frame in decision.moving(frames):
                self._labels[label_of(frame)] = frame.sha256
                self._content.add((*lane_of(frame), frame.sha256))
            self._marks = decision.watermarks
            named = {lane_of(frame) for frame in frames} & self._marks.keys()
            return Committed(decision.verdicts, {lane: self._marks[lane] for lane in named}, rows)

    def _append(self, batch: ReadingBatch, rows: NDArray[np.intp]) -> int:
        self._last.add(self._last.unknown([batch]))
        numbers = self._last.numbers(batch, {})
        self._columns.append(numbers, batch, rows)
        self._last.update(numbers[rows], batch.at_us[rows], batch.values[rows], batch.quality[rows])
        return len(rows)

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

    def import_readings(self, batch: ReadingBatch, source: str, at: datetime) -> int:
        """Keep imported history, once per point and instant; returns the rows that were new."""
        del source, at  # kept by stores that keep history
        with self._lock:
            known = set(zip(self._columns.numbers.tolist(), self._columns.at_us.tolist(), strict=True))
            self._last.add(self._last.unknown([batch]))
            rows = []
            for row, key in enumerate(zip(self._last.numbers(batch, {}).tolist(), batch.at_us.tolist(), strict=True)):
                if key not in known:
                    known.add(key)
                    rows.append(row)
            return self._append(batch, np.array(rows, np.intp))

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

    def statistics(self) -> StoreStatistics:
        """Sizes of what is kept."""
        with self._lock:
            return StoreStatistics(
                points=len(self._last),
                readings=len(self._columns.at_us),
                frames=len(self._labels),
                events=len(self._events),
                forecasts=len(self._forecasts),
                quarantined=len(self._quarantine),
            )

    def export(self, path: str | Path, start: datetime, end: datetime, edge: str | None = None) -> int:
        """Write all readings of [start, end) to a parquet file and return the rows."""
        tables = []
        for point in self.points(edge):
            raw = self.series(point, start, end)
            names = pa.array([str(point)] * len(raw.at_us), pa.string())
            tables.append(export_table(names, pa.array(raw.at_us), number_column(raw.values), pa.array(raw.quality)))
        return write_export(Path(path), tables)
