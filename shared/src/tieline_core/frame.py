"""The codec of the durable lane: one frame is one MQTT payload, byte layout in ``shared/docs/wire-contract.md``.

A frame names edge, epoch, stream and sequence number, and carries readings as columns (delta, byte shuffle, zstd), event
and forecast records, or a skip. Values are whole multiples of their point's declared resolution in 64-bit integers, or
raw float64 where that cannot hold them; nothing overflows, nothing drifts. Sizes are declared and checked before
anything is decompressed.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Annotated, Final

import numpy as np
import zstandard
from numpy.typing import NDArray
from pydantic import FailFast, TypeAdapter, ValidationError

from tieline_core.errors import FrameError
from tieline_core.ids import EdgeId, PointId
from tieline_core.messages.telemetry import MAX_EPOCH, MAX_SEQ, FrameKind, Record, Stream
from tieline_core.quantities import QUANTITIES, Quality, Reading
from tieline_core.timegrid import from_us, to_us

MAGIC: Final = b"TLF1"
#: magic, kind, stream, length of the edge id, reserved, epoch, seq, body length, CRC-32.
HEADER: Final = struct.Struct("<4sBBBBIQII")
#: number of readings, number of points, base time in microseconds since 1970, size of the columns before zstd.
READINGS_HEADER: Final = struct.Struct("<IHqI")
#: size of the JSON before zstd.
RECORDS_HEADER: Final = struct.Struct("<I")
_POINT: Final = struct.Struct("<bB")
_SCALED, _FLOAT64 = 0, 1
_NO_NUMBER: Final = 0x80
#: Largest whole number a float64 holds exactly.
_EXACT: Final = 2**53
_LEVEL: Final = 3


@dataclass(frozen=True, slots=True)
class Limits:
    """What a decoder is prepared to take; checked before memory is spent."""

    frame_bytes: int = 1024 * 1024
    readings: int = 65_536
    points: int = 4096
    raw_bytes: int = 8 * 1024 * 1024
    records: int = 4096


DEFAULT_LIMITS: Final = Limits()


@dataclass(frozen=True)
class Frame:
    """One unit of the durable lane."""

    edge: EdgeId
    epoch: int
    stream: Stream
    seq: int
    kind: FrameKind
    body: bytes

    @cached_property
    def sha256(self) -> str:
        """Hex hash of kind and body: the same content keeps it when it is sent again in another epoch."""
        return hashlib.sha256(bytes([self.kind]) + self.body).hexdigest()

    def relabelled(self, epoch: int, seq: int) -> Frame:
        """The same content under another epoch and sequence number."""
        return replace(self, epoch=epoch, seq=seq)


@dataclass(frozen=True, slots=True)
class ReadingBatch:
    """Readings as columns of equal length.

    Attributes:
        points: Dictionary of the batch.
        point_index: Index into ``points`` of each reading, int32 [n].
        at_us: Microseconds since 1970 UTC, int64 [n].
        values: Numbers, float64 [n]; NaN exactly where there is no number.
        quality: :class:`tieline_core.quantities.Quality`, uint8 [n].
    """

    points: tuple[PointId, ...]
    point_index: NDArray[np.int32]
    at_us: NDArray[np.int64]
    values: NDArray[np.float64]
    quality: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.at_us)

    @classmethod
    def of(cls, readings: Sequence[Reading]) -> ReadingBatch:
        """Columns of a sequence of readings, in its order."""
        index: dict[PointId, int] = {}
        rows = [index.setdefault(reading.point, len(index)) for reading in readings]
        return cls(
            tuple(index),
            np.array(rows, np.int32),
            np.array([to_us(reading.measured_at) for reading in readings], np.int64),
            np.array([np.nan if reading.value is None else reading.value for reading in readings], np.float64),
            np.array([reading.quality for reading in readings], np.uint8),
        )

    def readings(self) -> list[Reading]:
        """The rows as readings."""
        return [
            Reading(self.points[i], None if np.isnan(v) else float(v), from_us(int(t)), Quality(int(q)))
            for i, t, v, q in zip(self.point_index, self.at_us, self.values, self.quality, strict=True)
        ]


def encode(frame: Frame) -> bytes:
    """The bytes of a frame as they go over the wire."""
    edge = frame.edge.encode()
    bare = HEADER.pack(MAGIC, frame.kind, frame.stream.number, len(edge), 0, frame.epoch, frame.seq, len(frame.body), 0)
    crc = zlib.crc32(frame.body, zlib.crc32(edge, zlib.crc32(bare)))
    return bare[:-4] + struct.pack("<I", crc) + edge + frame.body


def decode(data: bytes, limits: Limits = DEFAULT_LIMITS) -> Frame:
    """Read the outer frame; the body stays as it is.

    Raises:
        FrameError: Too long, too short, wrong magic, wrong lengths, wrong CRC, unknown kind or stream, bad edge id.
    """
    if len(data) > limits.frame_bytes:
        raise FrameError(f"{len(data)} bytes, at most {limits.frame_bytes} are read")
    if len(data) < HEADER.size:
        raise FrameError(f"{len(data)} bytes are shorter than a header ({HEADER.size})")
    magic, kind, stream, edge_len, reserved, epoch, seq, body_len, crc = HEADER.unpack_from(data)
    if magic != MAGIC:
        raise FrameError(f"starts with {magic!r}, expected {MAGIC!r}")
    if reserved:
        raise FrameError(f"reserved byte is {reserved}, expected 0")
    if len(data) != HEADER.size + edge_len + body_len:
        raise FrameError(f"{len(data)} bytes, the header says {HEADER.size + edge_len + body_len}")
    edge, body = data[HEADER.size : HEADER.size + edge_len], data[HEADER.size + edge_len :]
    if zlib.crc32(body, zlib.crc32(edge, zlib.crc32(data[: HEADER.size - 4] + bytes(4)))) != crc:
        raise FrameError("the CRC-32 does not match")
    if not 1 <= epoch <= MAX_EPOCH or not 1 <= seq <= MAX_SEQ:
        raise FrameError(f"epoch {epoch} and seq {seq} start at 1 and end at {MAX_EPOCH} and {MAX_SEQ}")
    try:
        return Frame(EdgeId(edge.decode("ascii")), epoch, list(Stream)[stream], seq, FrameKind(kind), body)
    except (ValueError, IndexError) as error:
        raise FrameError(f"header names something unknown: {error}") from error


def exponent_of(point: PointId) -> int | None:
    """Declared resolution of a point as a power of ten; None when its quantity is not one of ours."""
    quantity = QUANTITIES.get(point.quantity)
    return None if quantity is None else quantity.exponent


def _steps(column: NDArray[np.int64]) -> NDArray[np.int64]:
    steps = column.copy()
    steps[1:] -= column[:-1]
    return steps


def _shuffle(column: NDArray[np.int64]) -> bytes:
    return column.astype("<i8").view(np.uint8).reshape(-1, 8).T.tobytes()


def _unshuffle(raw: bytes, offset: int, n: int) -> NDArray[np.int64]:
    planes = np.frombuffer(raw, np.uint8, 8 * n, offset).reshape(8, n)
    return np.ascontiguousarray(planes.T).view("<i8").ravel().astype(np.int64)


def _scaled(values: NDArray[np.float64], exponent: int | None) -> NDArray[np.int64] | None:
    """Whole multiples of the resolution, or None where 64-bit integers and float64 cannot hold them exactly."""
    if exponent is None:
        return None
    multiples = np.rint(values * 10.0**-exponent if exponent <= 0 else values / 10.0**exponent)
    if len(multiples) and np.abs(multiples).max() >= _EXACT:
        return None
    return multiples.astype(np.int64)


def _unscaled(multiples: NDArray[np.int64], exponent: int) -> NDArray[np.float64]:
    # One correctly rounded operation: the result is the float64 nearest to the decimal number.
    exact = multiples.astype(np.float64)
    return exact / np.float64(10**-exponent) if exponent < 0 else exact * np.float64(10**exponent)


def encode_readings(readings: Sequence[Reading]) -> bytes:
    """Body of a READINGS frame; see :func:`encode_batch`."""
    return encode_batch(ReadingBatch.of(readings))


def encode_batch(batch: ReadingBatch) -> bytes:
    """Body of a READINGS frame: rows sorted by point and time, values rounded to their declared resolution.

    Raises:
        ValueError: When the batch is empty or holds more points than an index can name.
    """
    if not len(batch) or len(batch.points) > 0xFFFF:
        raise ValueError(f"a frame holds 1 or more readings of at most {0xFFFF} points")
    names = np.argsort(np.array(batch.points, dtype=object))
    rank = np.empty(len(names), np.int32)
    rank[names] = np.arange(len(names), dtype=np.int32)
    order = np.lexsort((batch.at_us, rank[batch.point_index]))
    index, at_us = rank[batch.point_index][order], batch.at_us[order]
    values, absent = batch.values[order], np.isnan(batch.values[order])
    column = np.zeros(len(index), np.int64)
    table = bytearray()
    bounds = np.searchsorted(index, np.arange(len(names) + 1))
    for number, name in enumerate(names):
        point = batch.points[name]
        rows = slice(int(bounds[number]), int(bounds[number + 1]))
        held = np.where(absent[rows], 0.0, values[rows])
        exponent = exponent_of(point)
        whole = _scaled(held, exponent)
        if whole is None:
            column[rows] = held.view(np.int64)
        else:
            column[rows] = _steps(whole)
        text = point.encode()
        table += bytes([len(text)]) + text + _POINT.pack(exponent or 0, _FLOAT64 if whole is None else _SCALED)
    base_us = int(at_us.min())
    raw = b"".join(
        (
            bytes(table),
            _shuffle(_steps(index.astype(np.int64))),
            _shuffle(_steps(at_us - base_us)),
            np.where(absent, batch.quality[order] | _NO_NUMBER, batch.quality[order]).astype(np.uint8).tobytes(),
            _shuffle(column),
        )
    )
    return READINGS_HEADER.pack(len(index), len(names), base_us, len(raw)) + zstandard.ZstdCompressor(_LEVEL).compress(raw)


def _decompress(data: bytes, declared: int, limits: Limits) -> bytes:
    if declared > limits.raw_bytes:
        raise FrameError(f"declares {declared} bytes uncompressed, at most {limits.raw_bytes} are unpacked")
    try:
        if zstandard.frame_content_size(data) != declared:
            raise FrameError("the declared uncompressed size differs from the one in the zstd frame")
        return zstandard.ZstdDecompressor().decompress(data, max_output_size=declared, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise FrameError(f"zstd: {error}") from error


@dataclass(frozen=True, slots=True)
class _PointRow:
    point: PointId
    exponent: int
    mode: int


def _read_table(raw: bytes, count: int) -> tuple[list[_PointRow], int]:
    rows: list[_PointRow] = []
    offset = 0
    try:
        for _ in range(count):
            length = raw[offset]
            text = raw[offset + 1 : offset + 1 + length].decode("ascii")
            exponent, mode = _POINT.unpack_from(raw, offset + 1 + length)
            offset += 1 + length + _POINT.size
            if mode not in (_SCALED, _FLOAT64) or not -9 <= exponent <= 9:
                raise FrameError(f"point {text!r} has mode {mode} and exponent {exponent}")
            rows.append(_PointRow(PointId(text), exponent, mode))
    except (IndexError, ValueError, struct.error) as error:
        raise FrameError(f"point table: {error}") from error
    return rows, offset


def _checked(batch: ReadingBatch, absent: NDArray[np.bool_]) -> ReadingBatch:
    if int(batch.quality.max()) > max(Quality):
        raise FrameError(f"unknown quality {int(batch.quality.max())}")
    if not np.isfinite(batch.values[~absent]).all():
        raise FrameError("a number is not finite")
    carries = batch.quality[~absent] == Quality.BAD
    lacks = np.isin(batch.quality[absent], (Quality.GOOD, Quality.UNCERTAIN, Quality.SUBSTITUTED))
    if carries.any() or lacks.any():
        raise FrameError("a bad reading carries a number, or a good one carries none")
    return batch


def decode_readings(body: bytes, limits: Limits = DEFAULT_LIMITS) -> ReadingBatch:
    """Read the body of a READINGS frame.

    Raises:
        FrameError: When any size, index, quality or number is not as the contract says.
    """
    if len(body) < READINGS_HEADER.size:
        raise FrameError("the body is shorter than its header")
    n, points, base_us, declared = READINGS_HEADER.unpack_from(body)
    if not 1 <= n <= limits.readings or not 1 <= points <= limits.points:
        raise FrameError(f"{n} readings of {points} points; 1 to {limits.readings} of 1 to {limits.points} are read")
    raw = _decompress(body[READINGS_HEADER.size :], declared, limits)
    table, offset = _read_table(raw, points)
    if len(raw) != offset + 25 * n:
        raise FrameError(f"{len(raw)} bytes of columns, expected {offset + 25 * n}")
    index = np.cumsum(_unshuffle(raw, offset, n))
    at_us = np.cumsum(_unshuffle(raw, offset + 8 * n, n)) + base_us
    flags = np.frombuffer(raw, np.uint8, n, offset + 16 * n)
    column = _unshuffle(raw, offset + 17 * n, n)
    if index.min() < 0 or index.max() >= points or (np.diff(index) < 0).any():
        raise FrameError("point indices are out of range or out of order")
    values = np.empty(n, np.float64)
    bounds = np.searchsorted(index, np.arange(points + 1))
    for number, row in enumerate(table):
        rows = slice(int(bounds[number]), int(bounds[number + 1]))
        part = column[rows]
        values[rows] = _unscaled(np.cumsum(part), row.exponent) if row.mode == _SCALED else part.view(np.float64)
    absent = (flags & _NO_NUMBER) != 0
    values[absent] = np.nan
    quality = (flags & ~np.uint8(_NO_NUMBER)).astype(np.uint8)
    return _checked(ReadingBatch(tuple(row.point for row in table), index.astype(np.int32), at_us, values, quality), absent)


#: Stops at the first wrong record: a million wrong ones would take a million error texts.
_RECORDS: Final[TypeAdapter[list[Record]]] = TypeAdapter(Annotated[list[Record], FailFast()])


def encode_records(records: Sequence[Record]) -> bytes:
    """Body of a RECORDS frame: a JSON array of events and issued forecasts under zstd."""
    raw = _RECORDS.dump_json(list(records))
    return RECORDS_HEADER.pack(len(raw)) + zstandard.ZstdCompressor(_LEVEL).compress(raw)


def decode_records(body: bytes, limits: Limits = DEFAULT_LIMITS) -> list[Record]:
    """Read the body of a RECORDS frame.

    Raises:
        FrameError: When it is no such body or a record breaks its schema.
    """
    if len(body) < RECORDS_HEADER.size:
        raise FrameError("the body is shorter than its header")
    raw = _decompress(body[RECORDS_HEADER.size :], RECORDS_HEADER.unpack_from(body)[0], limits)
    try:
        records = _RECORDS.validate_json(raw)
    except ValidationError as error:
        first = error.errors()[0]
        raise FrameError(f"record {'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    if len(records) > limits.records:
        raise FrameError(f"{len(records)} records, at most {limits.records} are read")
    return records
