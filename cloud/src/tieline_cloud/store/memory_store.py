"""The store in memory: the same promises without a disk, for tests and trials. What is closed is gone."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from types import TracebackType
from typing import Self

import numpy as np

from tieline_cloud.store.acceptance import decide, label_of, lane_of, oldest_us
from tieline_cloud.store.arriving import Arriving, gather
from tieline_cloud.store.memory_columns import LEVELS
from tieline_cloud.store.memory_query import MemoryQuery
from tieline_cloud.store.ports import (
    Committed,
    Estimate,
    Finding,
    Greeting,
    Ingested,
    LedgerFrame,
    Misdated,
    Quarantined,
    RetentionPolicy,
    RollupProgress,
    Watermark,
)
from tieline_cloud.store.rollup import kept_from_us
from tieline_core.frame import ReadingBatch
from tieline_core.ids import EdgeId, PointId
from tieline_core.messages.telemetry import Event, IssuedForecast, Stream
from tieline_core.quantities import Quality, Reading
from tieline_core.timegrid import from_us, to_us


class MemoryStore(MemoryQuery):
    """Ledger and queries in memory."""

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

    def greet(self, greetings: Sequence[Greeting], at: datetime) -> tuple[int | None, ...]:
        """Keep what hellos leave; returns the epochs granted."""
        with self._lock:
            epochs = tuple(None if one.above is None else self.grant_epoch(one.edge, at, one.above) for one in greetings)
            for one in greetings:
                for kind, body in one.documents.items():
                    self.put_document(kind, one.edge, body, at)
                self.record_events(one.events)
        return epochs

    def points_of(self, edge: EdgeId) -> int:
        """How many points of an edge are known."""
        return self._last.of_edge(edge)

    def unknown_points(self, batches: Sequence[ReadingBatch]) -> list[PointId]:
        """Points of the batches that are not known, each once."""
        return self._last.unknown(batches)

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
