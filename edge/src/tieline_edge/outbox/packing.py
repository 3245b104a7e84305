"""From what callers hand in to the frames of one commit."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from tieline_core.errors import BadInputError
from tieline_core.frame import encode_readings, encode_records
from tieline_core.ids import EdgeId
from tieline_core.messages.telemetry import Event, FrameKind, IssuedForecast, Stream
from tieline_core.quantities import Reading
from tieline_core.timegrid import EARLIEST, LATEST, to_us
from tieline_edge.outbox.frame_table import NewFrame

_MAX_POINTS: Final = 4096
_MAX_RECORDS_BYTES: Final = 512 * 1024


@dataclass(frozen=True, slots=True)
class Entry:
    """What one caller waits for: readings or one record, and the future that releases the caller."""

    stream: Stream
    readings: Sequence[Reading]
    record: Event | IssuedForecast | None
    done: asyncio.Future[None]


def check(reading: Reading, edge: EdgeId) -> None:
    """Refuse by name what would make the hub refuse the whole frame.

    Raises:
        BadInputError: A point of another edge or an instant no clock shows.
    """
    if not reading.point.startswith(f"{edge}/"):
        raise BadInputError("outbox", str(reading.point), edge, "a point of another edge cannot be recorded here")
    if not EARLIEST <= reading.measured_at <= LATEST:
        reason = f"an instant from {EARLIEST.year} to {LATEST.year - 1} was expected"
        raise BadInputError("outbox", f"{reading.point}.measured_at", reading.measured_at.isoformat(), reason)


def pack(batch: Sequence[Entry], frame_readings: int) -> Iterator[NewFrame]:
    """Frames of one commit: readings in order of arrival, records by their stream."""
    readings = [reading for entry in batch for reading in entry.readings]
    step = min(frame_readings, _MAX_POINTS)
    for start in range(0, len(readings), step):
        part = readings[start : start + step]
        first = min(to_us(reading.measured_at) for reading in part)
        yield NewFrame(Stream.MEASURE, FrameKind.READINGS, encode_readings(part), len(part), first)
    for stream in (Stream.ALARM, Stream.BULK):
        part_records: list[Event | IssuedForecast] = []
        size = 0
        for record in (entry.record for entry in batch if entry.stream is stream and entry.record is not None):
            part_records.append(record)
            size += len(record.model_dump_json())
            if size > _MAX_RECORDS_BYTES:
                yield _records(stream, part_records)
                part_records, size = [], 0
        if part_records:
            yield _records(stream, part_records)


def _records(stream: Stream, records: Sequence[Event | IssuedForecast]) -> NewFrame:
    first = min(record.at if isinstance(record, Event) else record.issued_at for record in records)
    return NewFrame(stream, FrameKind.RECORDS, encode_records(records), 0, to_us(first))
