"""What the hub asks of a store. An adapter is one file here, one line in the table of ``open_store``, one conformance run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from tieline_cloud.store.examination import (
    Arrival,
    Estimate,
    Examined,
    Examiner,
    Finding,
    Findings,
    Misdated,
)
from tieline_cloud.store.records import (
    Committed,
    Greeting,
    Ingested,
    LedgerFrame,
    Quarantined,
    RefusedBody,
    StoreStatistics,
    Verdict,
    Watermark,
)
from tieline_cloud.store.rollup import GroupFunction, RetentionPolicy, Rollup, RollupLevel, RollupProgress
from tieline_cloud.store.values import LastValue, Series
from tieline_core.frame import ReadingBatch
from tieline_core.ids import EdgeId, PointId
from tieline_core.messages.telemetry import Event, IssuedForecast, Skip, Stream
from tieline_core.reconcile import HourDigest

__all__ = [
    "Arrival",
    "Committed",
    "Estimate",
    "Examined",
    "Examiner",
    "Finding",
    "Findings",
    "Greeting",
    "GroupFunction",
    "Ingested",
    "LastValue",
    "Ledger",
    "LedgerFrame",
    "Misdated",
    "Quarantined",
    "ReadingQuery",
    "RefusedBody",
    "RetentionPolicy",
    "Rollup",
    "RollupLevel",
    "RollupProgress",
    "Series",
    "Store",
    "StoreStatistics",
    "Verdict",
    "Watermark",
]


class Ledger(Protocol):
    """Data and watermark in one transaction.

    Every method is synchronous and durable when it returns; calls from several threads wait for each other.
    """

    def watermarks(self, edge: EdgeId) -> dict[Stream, Watermark]:
        """Committed watermarks of every stream of an edge; empty when it was never granted an epoch."""
        ...

    def frame_sha256(self, edge: EdgeId, stream: Stream, epoch: int, seq: int) -> str | None:
        """Hash of a committed frame; None when the ledger holds no frame under that label."""
        ...

    def grant_epoch(self, edge: EdgeId, at: datetime, above: int = 0) -> int:
        """Store and return a new epoch for an edge, one above every epoch it ever had and above ``above``.

        Its watermarks start at 0.
        """
        ...

    def greet(self, greetings: Sequence[Greeting], at: datetime) -> tuple[int | None, ...]:
        """Keep what hellos of different edges leave, in one transaction; returns the epochs granted.

        The watermarks of a granted epoch start at 0.
        """
        ...

    def points_of(self, edge: EdgeId) -> int:
        """How many points of an edge are known."""
        ...

    def unknown_points(self, batches: Sequence[ReadingBatch]) -> list[PointId]:
        """Points of the batches that are not known, each once."""
        ...

    def commit(self, frames: Sequence[LedgerFrame]) -> Committed:
        """Commit frames in one transaction, each by compare-and-set of its stream's watermark.

        A frame at or below the watermark is skipped, a frame that would leave a gap is not taken; the content of a frame
        whose sha256 the ledger already holds for this edge and stream moves the watermark without storing twice.
        Readings of accepted frames are examined where the store was opened with an examiner; findings and misdated
        readings are kept in the same transaction.
        """
        ...

    def ingest_once(self, batch: ReadingBatch, source: str, key: str, sha256: str, at: datetime) -> tuple[Ingested, int]:
        """Store a delivery through a bulk door once per (source, key), in one transaction; returns the rows stored.

        Readings are examined as those of frames are. ``sha256`` is of the delivery as it came: the same key with another
        one is a conflict.
        """
        ...

    def quarantine(self, edge: str, topic: str, payload: bytes, reason: str, at: datetime) -> None:
        """Keep what could not be decoded, with the reason; the oldest go when there are too many."""
        ...

    def import_readings(self, batch: ReadingBatch, source: str, at: datetime) -> int:
        """Store imported history (idempotent per point and instant); returns the rows that were new."""
        ...

    def record_events(self, events: Sequence[Event]) -> None:
        """Keep events the hub itself raised; an event id that is already held is left as it is."""
        ...

    def record_forecasts(self, forecasts: Sequence[IssuedForecast]) -> None:
        """Keep forecasts the hub itself issued."""
        ...

    def record_estimates(self, estimates: Sequence[Estimate], at: datetime) -> None:
        """Keep estimated values; of several for a point and instant the newest stays. Readings are never touched."""
        ...

    def roll_up(self, now: datetime, budget_s: float) -> RollupProgress:
        """Bring roll-ups up to date, for at most about ``budget_s`` seconds; what has just come may be left to wait.

        Questions answer with everything committed, rolled up or not: this is about their price, not about their answer.
        """
        ...

    def retain(self, policy: RetentionPolicy, now: datetime) -> int:
        """Drop what is past retention, after it was rolled up; returns the rows dropped.

        A reading that arrives past retention still counts in the roll-ups that are kept.
        """
        ...

    def put_document(self, kind: str, key: str, body: bytes, at: datetime) -> None:
        """Keep the newest state of something that is no time series, such as a fleet entry; replaces the one before."""
        ...

    def documents(self, kind: str) -> dict[str, bytes]:
        """All kept documents of a kind by key."""
        ...


class ReadingQuery(Protocol):
    """Reading what is kept; safe to call from any thread, also while the ledger writes."""

    def points(self, edge: str | None = None, like: str | None = None) -> list[PointId]:
        """Known points, sorted; ``like`` is a shell pattern such as ``*/tr1/p_w``."""
        ...

    def series(self, point: PointId, start: datetime, end: datetime, limit: int | None = None) -> Series:
        """Raw readings in [start, end), ascending; with a limit the first ones."""
        ...

    def means(self, points: Sequence[PointId], start: datetime, end: datetime, step_s: int) -> dict[PointId, Series]:
        """Means of the good readings of each whole interval that starts in [start, end).

        Intervals lie on the UTC grid and are labelled by their start; one without a good reading is left out. Means of
        quarter-hours and their multiples are there as long as roll-ups of quarter-hours are, others as long as readings.
        """
        ...

    def rollups(self, points: Sequence[PointId], level: RollupLevel, start: datetime, end: datetime) -> dict[PointId, Rollup]:
        """Roll-ups of the intervals that start in [start, end), of every point asked for; one without readings is left out.

        Count, mean, extremes and last are over all readings with a number, whatever their quality, which stands beside.
        """
        ...

    def aggregate(
        self,
        groups: Mapping[str, Sequence[PointId]],
        level: RollupLevel,
        start: datetime,
        end: datetime,
        function: GroupFunction,
    ) -> dict[str, Series]:
        """One series a group, over the intervals that start in [start, end): the points' means summed or averaged, or the
        least of their minima, or the greatest of their maxima.

        Where a point of the group has no number in an interval, quality is UNCERTAIN at best. A series goes by the first
        point of its group; a group without points is left out.
        """
        ...

    def replay(self, after: int, limit_rows: int) -> tuple[int, ReadingBatch]:
        """Readings in the order they were stored, beginning above a position; returns the position reached.

        Only whole positions (commits) are given: as many as hold at most ``limit_rows``, but one at least. When the
        position returned is ``after``, nothing newer is stored; what retention has dropped is passed over.
        """
        ...

    def frame_digests(self, edge: EdgeId, stream: Stream, start: datetime, end: datetime) -> list[HourDigest]:
        """Committed frame contents of every hour that meets [start, end), counted and hashed; skips are left out."""
        ...

    def findings(self, point_like: str | None, rule: str | None, start: datetime, end: datetime, limit: int) -> list[Finding]:
        """Findings on readings measured in [start, end), newest first; ``point_like`` is a shell pattern."""
        ...

    def misdated(self, point_like: str | None, limit: int) -> list[Misdated]:
        """Readings whose instant is not believed, newest arrival first."""
        ...

    def estimates(self, point: PointId, start: datetime, end: datetime) -> list[Estimate]:
        """Estimated values in [start, end), ascending."""
        ...

    def last(self, points: Sequence[PointId] | None = None) -> list[LastValue]:
        """Last value of the points, or of all, sorted by point; a point that was never seen is left out."""
        ...

    def events(
        self, since: datetime | None = None, edge: str | None = None, limit: int = 200, until: datetime | None = None
    ) -> list[Event]:
        """Newest events first, in [since, until)."""
        ...

    def forecasts(self, point: PointId, start: datetime, end: datetime) -> list[IssuedForecast]:
        """Issued forecasts with ``issued_at`` in [start, end), oldest first."""
        ...

    def skips(self, edge: str | None = None) -> list[Skip]:
        """Declared gaps, in the order of their arrival."""
        ...

    def quarantined(self, limit: int = 100) -> list[Quarantined]:
        """What could not be decoded, newest first."""
        ...

    def statistics(self) -> StoreStatistics:
        """Sizes of what is kept."""
        ...

    def export(self, path: str | Path, start: datetime, end: datetime, edge: str | None = None) -> int:
        """Write all readings of [start, end) to a parquet file and return the rows.

        Columns: point (text), measured_at (timestamp in microseconds, UTC), value (float64, null = none), quality (text
        such as ``good``); sorted by point and instant.
        """
        ...


class Store(Ledger, ReadingQuery, Protocol):
    """Both sides of one store, to be closed after use."""

    def close(self) -> None:
        """Release the store; what was committed stays."""
        ...

    def __enter__(self) -> Self:
        """The store itself."""
        ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Close."""
        ...
