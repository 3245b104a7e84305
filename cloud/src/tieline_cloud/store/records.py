"""What is handed to a ledger and what it answers: frames, watermarks, greetings, verdicts. Values only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from tieline_core.frame import ReadingBatch
from tieline_core.ids import EdgeId
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


@dataclass(frozen=True, slots=True)
class Greeting:
    """What one hello leaves in the ledger.

    Attributes:
        edge: Who said it.
        above: A new epoch is granted, one above this and above every epoch the edge ever had; None = it goes on in its own.
        documents: Bodies to keep under the edge's name, by kind.
        events: What there is to tell of it.
    """

    edge: EdgeId
    above: int | None
    documents: Mapping[str, bytes]
    events: tuple[Event, ...] = ()


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
    findings: int
    misdated: int
    estimates: int
    rollups: int
    """Rolled-up intervals, as they lie in the store: one may lie in several parts until it is tidied."""


class Ingested(StrEnum):
    """What became of a delivery through a bulk door."""

    STORED = "stored"
    REPEATED = "repeated"
    """The key and the same content were stored before: nothing was done."""
    CONFLICT = "conflict"
    """The key was used before for other content: nothing was done."""
