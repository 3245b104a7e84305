"""What the hub asks of a store. An adapter is one file here, one line in the table of ``open_store``, one conformance run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tieline_core.frame import ReadingBatch
from tieline_core.ids import EdgeId, PointId
from tieline_core.messages.telemetry import Event, IssuedForecast, Stream


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


@dataclass(frozen=True, slots=True)
class Watermark:
    """What is committed of one stream of one edge in its current epoch."""

    epoch: int
    seq: int
    sha256: str | None


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


class Ledger(Protocol):
    """Data and watermark in one transaction. Every method is synchronous; the ingest room owns the one writer thread."""

    def watermarks(self, edge: EdgeId) -> dict[Stream, Watermark]:
        """Committed watermarks of an edge; empty when it was never seen."""
        ...

    def grant_epoch(self, edge: EdgeId, at: datetime) -> int:
        """Store and return a new epoch for an edge, one above every epoch it ever had; watermarks start at 0."""
        ...

    def commit(self, frames: Sequence[LedgerFrame]) -> dict[tuple[EdgeId, Stream], int]:
        """Commit frames in one transaction, each by compare-and-set of its stream's watermark.

        A frame at or below the watermark is skipped, a frame that would leave a gap is not taken; the content of a frame
        whose sha256 the ledger already holds for this edge and stream moves the watermark without storing twice.

        Returns:
            The watermark of every stream that was named, after the commit.
        """
        ...

    def quarantine(self, edge: str, topic: str, payload: bytes, reason: str, at: datetime) -> None:
        """Keep what could not be decoded, with the reason."""
        ...

    def import_readings(self, batch: ReadingBatch, source: str, at: datetime) -> int:
        """Store imported history (idempotent per point and instant); returns the rows that were new."""
        ...


class ReadingQuery(Protocol):
    """Reading what is kept; safe to call from any thread."""

    def points(self, edge: str | None = None, like: str | None = None) -> list[PointId]:
        """Known points, sorted."""
        ...

    def series(self, point: PointId, start: datetime, end: datetime, limit: int | None = None) -> Series:
        """Raw readings in [start, end)."""
        ...

    def means(self, points: Sequence[PointId], start: datetime, end: datetime, step_s: int) -> dict[PointId, Series]:
        """Time means of good readings per interval start in [start, end); absent intervals are left out."""
        ...

    def last(self, points: Sequence[PointId] | None = None) -> list[LastValue]:
        """Last value of the points, or of all."""
        ...

    def events(self, since: datetime | None = None, edge: str | None = None, limit: int = 200) -> list[Event]:
        """Newest events first."""
        ...

    def forecasts(self, point: PointId, start: datetime, end: datetime) -> list[IssuedForecast]:
        """Issued forecasts with ``issued_at`` in [start, end), oldest first."""
        ...

    def export(self, path: str, start: datetime, end: datetime, edge: str | None = None) -> int:
        """Write all readings of the span to a parquet file: point, measured_at, value, quality; returns the rows."""
        ...
