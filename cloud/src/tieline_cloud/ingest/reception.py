"""From bytes on a topic to something the ledger can take, or to the reason why not. Nothing is stored here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final

import numpy as np

from tieline_cloud.store.ports import LedgerFrame, RefusedBody
from tieline_core import topics
from tieline_core.errors import BadInputError, FrameError
from tieline_core.frame import HEADER, Frame, Limits, ReadingBatch, decode, decode_readings, decode_records
from tieline_core.ids import EdgeId
from tieline_core.messages.telemetry import Event, FrameKind, Hello, IssuedForecast, Record, Skip
from tieline_core.timegrid import to_us

#: A clock may be wrong by decades: such readings are set apart on arrival one by one. Beyond these a frame is garbage.
_EARLIEST_US: Final = to_us(datetime(1900, 1, 1, tzinfo=UTC))
_LATEST_US: Final = to_us(datetime(3000, 1, 1, tzinfo=UTC))
_HELLO_BYTES: Final = 16 * 1024
#: Of a refused frame, which is kept.
_KEPT_BYTES: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class Garbage:
    """Something that is no frame of the edge whose topic it came on; ``edge`` is the topic's, empty when it names none."""

    edge: str
    topic: str
    payload: bytes
    reason: str


def edge_on(topic: str) -> EdgeId | None:
    """The edge a topic belongs to, None when it is none of ours."""
    try:
        return topics.edge_of(topic)
    except ValueError:
        return None


def read_hello(topic: str, payload: bytes) -> Hello | Garbage:
    """Read a hello; it has to come on its own edge's topic and name each of its streams soundly."""
    edge = edge_on(topic)
    try:
        hello = Hello.from_bytes(payload, topic, _HELLO_BYTES)
    except BadInputError as error:
        return Garbage(edge or "", topic, payload, str(error))
    if hello.edge_id != edge:
        return Garbage(edge or "", topic, payload, f"a hello of {hello.edge_id!r} on the topic of {edge!r}")
    return hello


def read_frame(
    topic: str, payload: bytes, received_at: datetime, limits: Limits, packet_bytes: int = 0
) -> LedgerFrame | Garbage:
    """Read a durable frame of at most ``packet_bytes``; one that is longer than the limits say is not read further.

    A frame that arrived whole but whose body breaks the contract comes back as one with ``refused``: sending it again
    cannot mend it, so its content goes to quarantine and the stream goes on behind it.
    """
    edge = edge_on(topic)
    try:
        frame = decode(payload, replace(limits, frame_bytes=max(packet_bytes, limits.frame_bytes)))
        stream = topics.stream_of(topic)
    except (FrameError, ValueError) as error:
        return Garbage(edge or "", topic, payload, str(error))
    if frame.edge != edge or frame.stream.value != stream:
        return Garbage(edge or "", topic, payload, f"a frame of {frame.edge}/{frame.stream} on the topic of {edge}/{stream}")
    try:
        return _read_body(frame, received_at, limits)
    except (FrameError, BadInputError) as error:
        refused = RefusedBody(topic, payload[:_KEPT_BYTES], str(error))
        return LedgerFrame(
            frame.edge, frame.epoch, frame.stream, frame.seq, frame.seq, frame.sha256, received_at, refused=refused
        )


def _read_body(frame: Frame, received_at: datetime, limits: Limits) -> LedgerFrame:
    if HEADER.size + len(frame.edge) + len(frame.body) > limits.frame_bytes:
        raise FrameError(f"{len(frame.body)} bytes of body, a frame of at most {limits.frame_bytes} bytes is read")
    first = frame.seq
    readings: ReadingBatch | None = None
    records: Sequence[Record] = ()
    skip: Skip | None = None
    if frame.kind is FrameKind.READINGS:
        readings = _own(frame.edge, decode_readings(frame.body, limits))
    elif frame.kind is FrameKind.RECORDS:
        records = _own_records(frame.edge, decode_records(frame.body, limits))
    else:
        skip = Skip.from_bytes(frame.body, "skip")
        if not skip.first <= skip.last == frame.seq:
            raise FrameError(f"frame {frame.seq} skips {skip.first} to {skip.last}; it has to be the last of them")
        first = skip.first
    return LedgerFrame(
        frame.edge,
        frame.epoch,
        frame.stream,
        first,
        frame.seq,
        frame.sha256,
        received_at,
        readings,
        tuple(record for record in records if isinstance(record, Event)),
        tuple(record for record in records if isinstance(record, IssuedForecast)),
        skip,
    )


def _own(edge: EdgeId, batch: ReadingBatch) -> ReadingBatch:
    # The table ascends, so that all points between two of one edge are that edge's.
    for point in (batch.points[0], batch.points[-1]):
        if not point.startswith(edge + "/"):
            raise FrameError(f"{point} is no point of {edge}")
    # Bounds before differences: a sum of hostile steps may have wrapped around.
    if int(np.min(batch.at_us)) < _EARLIEST_US or int(np.max(batch.at_us)) > _LATEST_US:
        raise FrameError("an instant lies outside the years 1900 to 3000")
    return batch


def _own_records(edge: EdgeId, records: Sequence[Record]) -> Sequence[Record]:
    for record in records:
        owner = record.edge_id if isinstance(record, Event) else record.point.edge
        if owner != edge:
            raise FrameError(f"a record of {owner} in a frame of {edge}")
        instants = (record.at,) if isinstance(record, Event) else (record.issued_at, record.start)
        if any(not _EARLIEST_US <= to_us(instant) <= _LATEST_US for instant in instants):
            raise FrameError("an instant of a record lies outside the years 1900 to 3000")
    return records
