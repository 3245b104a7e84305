"""What the hub asks of a store. An adapter is one file here, one line in the table of ``open_store``, one conformance run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from tieline_core.frame import ReadingBatch
from tieline_core.ids import EdgeId, PointId
from tieline_core.messages.telemetry import Event, IssuedForecast, Skip, Stream


@dataclass(frozen=True, slots=True)
class RefusedBody:
    """A body that could not be decoded though its frame arrived whole: kept in quarantine, so that the stream can go on."""

    topic: str
    payload: bytes
    reason: str


@dataclass(frozen=True, slots=True)
class LedgerFrame:
    """One durable frame on its way into the ledger."""

    edge: EdgeId
    epoch: int
    stream: Stream
    first_seq: int
    seq: int
    """Last sequence number covered: equal to first_seq but for a skip."""
    sha256: str
    received_at: datetime
    readings: ReadingBatch | None = None
    events: tuple[Event, ...] = ()
    forecasts: tuple[IssuedForecast, ...] = ()
    skip: Skip | None = None
    refused: RefusedBody | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.first_seq <= self.seq:
            raise ValueError(f"{self.edge}/{self.stream}: a frame cannot cover {self.first_seq}..{self.seq}")


@dataclass(frozen=True, slots=True)
class Watermark:
    """What is committed of one stream of one edge in its current epoch."""

    epoch: int
    seq: int
    sha256: str | None


class Verdict(StrEnum):
    """What became of one frame handed to :meth:`Ledger.commit`."""

    ACCEPTED = "accepted"
    """Stored, watermark moved."""
    REPEATED = "repeated"
    """Next in line, its content is already held (sent before in an earlier epoch): watermark moved, nothing stored."""
    DUPLICATE = "duplicate"
    """At or below the watermark: nothing to do."""
    GAP = "gap"
    """Would leave a gap: not taken, the edge has to go back."""
    FOREIGN = "foreign"
    """Of another epoch, or of an edge without one: not taken."""
    CONFLICT = "conflict"
    """Same label as a committed frame, other content: two senders under one name, or a restored one; not taken."""


@dataclass(frozen=True, slots=True)
class Committed:
    """Outcome of one commit.

    Attributes:
        verdicts: One for each frame, in the order handed in.
        watermarks: After the commit, of every stream that was named; a stream of an edge without an epoch is absent.
        rows: Readings stored.
    """

    verdicts: tuple[Verdict, ...]
    watermarks: Mapping[tuple[EdgeId, Stream], Watermark]
    rows: int


@dataclass(frozen=True, slots=True)
class Series:
    """A time series of one point: instants [us], values (NaN = none), quality; ascending."""

    point: PointId
    at_us: NDArray[np.int64]
    values: NDArray[np.float64]
    quality: NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class LastValue:
    """Last known value of a point."""

    point: PointId
    value: float | None
    at: datetime
    quality: int


@dataclass(frozen=True, slots=True)
class Quarantined:
    """Something that could not be decoded."""

    at: datetime
    edge: str
    topic: str
    size: int
    reason: str


@dataclass(frozen=True, slots=True)
class StoreStatistics:
    """Sizes of what is kept."""

    points: int
    readings: int
    frames: int
    events: int
    forecasts: int
    quarantined: int


@dataclass(frozen=True, slots=True)
class Arrival:
    """Readings on their way into the ledger, as columns of one length n.

    Attributes:
        numbers: Number of the point of each reading in this store, int32 [n].
        at_us: Measured at, microseconds since 1970 UTC, int64 [n].
        values: float64 [n]; NaN exactly where there is no number.
        quality: :class:`tieline_core.quantities.Quality`, uint8 [n].
        received_us: When the hub received each, int64 [n].
        name: Point of a number, also of one that is new with this arrival.
    """

    numbers: NDArray[np.int32]
    at_us: NDArray[np.int64]
    values: NDArray[np.float64]
    quality: NDArray[np.uint8]
    received_us: NDArray[np.int64]
    name: Callable[[int], PointId]


@dataclass(frozen=True, slots=True)
class Findings:
    """What the rules of data quality say of some rows of an arrival, as columns of one length k.

    Attributes:
        rows: Index into the arrival, int64 [k]; one row may have several findings.
        rules: Name of the rule of each, such as ``future`` or ``spike``.
        limits: The figure the rule compared with, float64 [k]; NaN where there is none.
    """

    rows: NDArray[np.int64]
    rules: tuple[str, ...]
    limits: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True, slots=True)
class Examined:
    """An arrival after examination.

    Attributes:
        values: As stored, float64 [n]: NaN where a rule made the quality bad; the number received stays in the finding.
        quality: As stored, uint8 [n].
        dated: bool [n]; False where the instant cannot be believed: such a row goes to the misdated ones with both of its
            times, never among the readings.
        findings: What was found, in the order of the rows.
        state: For :meth:`Examiner.settle`; opaque to the store.
    """

    values: NDArray[np.float64]
    quality: NDArray[np.uint8]
    dated: NDArray[np.bool_]
    findings: Findings
    state: object = None


class Examiner(Protocol):
    """Validation on arrival (VEE): called by a store inside each commit, in one thread at a time."""

    def restore(self, last: Sequence[LastValue], number: Callable[[PointId], int | None]) -> None:
        """Begin from the last values of a store that has just been opened."""
        ...

    def examine(self, arrival: Arrival) -> Examined:
        """Judge an arrival; nothing changes before :meth:`settle`, so that a commit rolled back leaves no trace."""
        ...

    def settle(self, examined: Examined) -> None:
        """The commit of what was examined is durable: take its state over."""
        ...


@dataclass(frozen=True, slots=True)
class Finding:
    """One verdict of a rule on a stored reading."""

    point: PointId
    measured_at: datetime
    received_at: datetime
    rule: str
    value: float | None
    """The number as received, None where there was none."""
    limit: float | None


@dataclass(frozen=True, slots=True)
class Misdated:
    """A reading whose instant cannot be believed: kept with both of its times, outside the series."""

    point: PointId
    measured_at: datetime
    received_at: datetime
    value: float | None
    quality: int
    rule: str


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value that stands where nothing good was measured; its quality is SUBSTITUTED wherever it is shown."""

    point: PointId
    at: datetime
    value: float
    method: str
    """How it was made, such as ``linear`` or ``like_day``."""


class RollupLevel(StrEnum):
    """Lengths of roll-up intervals; a day is a local day of the installation's time zone."""

    MINUTE = "1min"
    QUARTER = "15min"
    HOUR = "1h"
    DAY = "1d"


@dataclass(frozen=True, slots=True)
class Rollup:
    """A rolled-up series of one point, columns of one length, ascending; an interval is labelled by its start.

    Attributes:
        point: The point.
        start_us: Start of each interval, int64.
        count: Readings with a number, int64.
        good: Those of good quality, int64.
        minimum: float64, NaN where ``count`` is 0; likewise ``maximum``, ``mean`` and ``last``.
        maximum: float64.
        mean: float64.
        last: float64.
        quality: Worst quality met in the interval, uint8.
    """

    point: PointId
    start_us: NDArray[np.int64]
    count: NDArray[np.int64]
    good: NDArray[np.int64]
    minimum: NDArray[np.float64]
    maximum: NDArray[np.float64]
    mean: NDArray[np.float64]
    last: NDArray[np.float64]
    quality: NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class RollupProgress:
    """How far roll-ups are behind the ledger.

    Attributes:
        buckets: Intervals brought up to date by the call.
        waiting: Hours of points that still wait.
        lag_s: Age of the oldest commit that is not rolled up yet [s]; 0 = none waits.
    """

    buckets: int
    waiting: int
    lag_s: float


class Ingested(StrEnum):
    """What became of a delivery through a bulk door."""

    STORED = "stored"
    REPEATED = "repeated"
    """The key and the same content were stored before: nothing was done."""
    CONFLICT = "conflict"
    """The key was used before for other content: nothing was done."""


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

    def commit(self, frames: Sequence[LedgerFrame]) -> Committed:
        """Commit frames in one transaction, each by compare-and-set of its stream's watermark.

        A frame at or below the watermark is skipped, a frame that would leave a gap is not taken; the content of a frame
        whose sha256 the ledger already holds for this edge and stream moves the watermark without storing twice.
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

        Intervals lie on the UTC grid and are labelled by their start; one without a good reading is left out.
        """
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
