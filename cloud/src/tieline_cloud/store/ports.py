"""What the hub asks of a store. An adapter is one file here, one line in the table of ``open_store``, one conformance run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
