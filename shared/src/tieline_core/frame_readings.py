"""Readings of a durable frame as columns: delta, byte shuffle, zstd; layout in ``shared/docs/wire-contract.md``.

Values are whole multiples of their point's declared resolution in 64-bit integers, or raw float64 where that cannot hold
them; nothing overflows, nothing drifts. Work is done on whole columns: what is needed a point at a time, its name and its
resolution, is remembered from one frame to the next, because the frames of an edge name the same points again and again.
"""

from __future__ import annotations

import struct
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

import numpy as np
import zstandard
from numpy.typing import NDArray

from tieline_core.errors import FrameError
from tieline_core.ids import PointId
from tieline_core.quantities import QUANTITIES, Quality, Reading
from tieline_core.timegrid import from_us, to_us

#: number of readings, number of points, base time in microseconds since 1970, size of the columns before zstd.
READINGS_HEADER: Final = struct.Struct("<IHqI")
LEVEL: Final = 3
_POINT: Final = struct.Struct("<bB")
_SCALED, _FLOAT64 = 0, 1
_NO_NUMBER: Final = 0x80
#: Largest whole number a float64 holds exactly.
_EXACT: Final = 2**53
#: By absence of a number and quality: what cannot be.
_CONTRADICTS: Final = np.array(
    [[q is Quality.BAD for q in Quality], [q in (Quality.GOOD, Quality.UNCERTAIN, Quality.SUBSTITUTED) for q in Quality]]
)
_EARLIEST_US: Final = to_us(datetime.min.replace(tzinfo=UTC))
_LATEST_US: Final = to_us(datetime.max.replace(tzinfo=UTC))
#: Bytes of point tables remembered by a decoder, as they stand in frames; parsed they take about four times as much.
_REMEMBERED_BYTES: Final = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """What a decoder is prepared to take; checked before memory is spent."""

    frame_bytes: int = 1024 * 1024
    readings: int = 65_536
    points: int = 4096
    raw_bytes: int = 8 * 1024 * 1024
    records: int = 4096


DEFAULT_LIMITS: Final = Limits()


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


@lru_cache(maxsize=16_384)
def exponent_of(point: PointId) -> int | None:
    """Declared resolution of a point as a power of ten; None when its quantity is not one of ours."""
    quantity = QUANTITIES.get(point.quantity)
    return None if quantity is None else quantity.exponent


def _scales(exponents: Sequence[int]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Powers of ten to multiply and to divide a multiple with; one of the two is always 1.

    With integers below 2**53 that makes a single correctly rounded operation: the float64 nearest to the decimal number.
    """
    times = np.array([10.0**e if e > 0 else 1.0 for e in exponents], np.float64)
    parts = np.array([10.0**-e if e < 0 else 1.0 for e in exponents], np.float64)
    return times, parts


def _steps(column: NDArray[np.int64]) -> NDArray[np.int64]:
    steps = column.copy()
    steps[1:] -= column[:-1]
    return steps


def _shuffle(column: NDArray[np.int64]) -> bytes:
    return column.astype("<i8").view(np.uint8).reshape(-1, 8).T.tobytes()


def _unshuffle(raw: bytes, offset: int, n: int) -> NDArray[np.int64]:
    planes = np.frombuffer(raw, np.uint8, 8 * n, offset).reshape(8, n)
    return np.ascontiguousarray(planes.T).view("<i8").ravel().astype(np.int64, copy=False)


# Encoding


@dataclass(frozen=True, slots=True)
class _Layout:
    """What does not depend on the numbers of a batch.

    Attributes:
        rank: Place of each point of the batch in the table, int32 [points].
        table: Point table with all modes scaled.
        modes: Offset of each mode in the table, in its order, int64 [points].
        times: See :func:`_scales`, in the order of the table.
        parts: Likewise.
        unscaled: Points without a declared resolution, in the order of the table, bool [points].
    """

    rank: NDArray[np.int32]
    table: bytes
    modes: NDArray[np.int64]
    times: NDArray[np.float64]
    parts: NDArray[np.float64]
    unscaled: NDArray[np.bool_]


@lru_cache(maxsize=32)
def _layout(points: tuple[PointId, ...]) -> _Layout:
    order = sorted(range(len(points)), key=points.__getitem__)
    rank = np.empty(len(order), np.int32)
    rank[order] = np.arange(len(order), dtype=np.int32)
    exponents = [exponent_of(points[number]) for number in order]
    table, modes = bytearray(), []
    for number, exponent in zip(order, exponents, strict=True):
        text = points[number].encode()
        table += bytes([len(text)]) + text + _POINT.pack(exponent or 0, _SCALED)
        modes.append(len(table) - 1)
    times, parts = _scales([exponent or 0 for exponent in exponents])
    unscaled = np.array([exponent is None for exponent in exponents])
    return _Layout(rank, bytes(table), np.array(modes, np.int64), times, parts, unscaled)


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
    layout = _layout(batch.points)
    ranked = layout.rank[batch.point_index]
    order = np.lexsort((batch.at_us, ranked))
    index, at_us, absent = ranked[order], batch.at_us[order], np.isnan(batch.values[order])
    column, floats = _column(np.where(absent, 0.0, batch.values[order]), index, layout)
    table = np.frombuffer(layout.table, np.uint8).copy()
    table[layout.modes[floats]] = _FLOAT64
    base_us = int(at_us.min())
    raw = b"".join(
        (
            table.tobytes(),
            _shuffle(_steps(index.astype(np.int64))),
            _shuffle(_steps(at_us - base_us)),
            np.where(absent, batch.quality[order] | _NO_NUMBER, batch.quality[order]).astype(np.uint8).tobytes(),
            _shuffle(column),
        )
    )
    header = READINGS_HEADER.pack(len(index), len(batch.points), base_us, len(raw))
    return header + zstandard.ZstdCompressor(LEVEL).compress(raw)


def _column(
    held: NDArray[np.float64], index: NDArray[np.int32], layout: _Layout
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """The value column before its bytes are shuffled, and which points of the table travel as float64."""
    with np.errstate(over="ignore"):
        multiples = np.rint(held * layout.parts[index] / layout.times[index])
    floats = layout.unscaled.copy()
    floats[index[np.abs(multiples) >= _EXACT]] = True
    raw = floats[index]
    whole = np.where(raw, 0.0, multiples).astype(np.int64)
    column = _steps(whole)
    first = np.ones(len(index), bool)
    np.not_equal(index[1:], index[:-1], out=first[1:])
    column[first] = whole[first]
    return np.where(raw, held.view(np.int64), column), floats


# Decoding


@dataclass(frozen=True, slots=True)
class _PointTable:
    points: tuple[PointId, ...]
    times: NDArray[np.float64]
    parts: NDArray[np.float64]
    floats: NDArray[np.bool_]


class _TableMemory:
    """Point tables met before, the longest unused forgotten first; safe in several threads."""

    def __init__(self, most_bytes: int) -> None:
        self._most = most_bytes
        self._held = 0
        self._tables: OrderedDict[bytes, _PointTable] = OrderedDict()
        self._lock = threading.Lock()

    def find(self, raw: bytes) -> _PointTable:
        """The parsed table of these bytes.

        Raises:
            FrameError: It is none.
        """
        with self._lock:
            table = self._tables.get(raw)
            if table is not None:
                self._tables.move_to_end(raw)
                return table
        table = _read_table(raw)
        with self._lock:
            if raw not in self._tables:
                self._tables[raw] = table
                self._held += len(raw)
            while self._held > self._most:
                forgotten, _ = self._tables.popitem(last=False)
                self._held -= len(forgotten)
        return table


_TABLES: Final = _TableMemory(_REMEMBERED_BYTES)


def _read_table(raw: bytes) -> _PointTable:
    points: list[PointId] = []
    exponents: list[int] = []
    floats: list[bool] = []
    offset = 0
    try:
        while offset < len(raw):
            length = raw[offset]
            text = raw[offset + 1 : offset + 1 + length].decode("ascii")
            exponent, mode = _POINT.unpack_from(raw, offset + 1 + length)
            offset += 1 + length + _POINT.size
            if mode not in (_SCALED, _FLOAT64) or not -9 <= exponent <= 9:
                raise FrameError(f"point {text!r} has mode {mode} and exponent {exponent}")
            points.append(PointId(text))
            if len(points) > 1 and points[-1] <= points[-2]:
                raise FrameError(f"point {text!r} stands behind {points[-2]!r}; the table ascends")
            exponents.append(exponent)
            floats.append(mode == _FLOAT64)
    except (IndexError, ValueError, struct.error) as error:
        raise FrameError(f"point table: {error}") from error
    return _PointTable(tuple(points), *_scales(exponents), np.array(floats))


def decompress(data: bytes, declared: int, limits: Limits) -> bytes:
    if declared > limits.raw_bytes:
        raise FrameError(f"declares {declared} bytes uncompressed, at most {limits.raw_bytes} are unpacked")
    try:
        if zstandard.frame_content_size(data) != declared:
            raise FrameError("the declared uncompressed size differs from the one in the zstd frame")
        return zstandard.ZstdDecompressor().decompress(data, max_output_size=declared, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise FrameError(f"zstd: {error}") from error


def _checked(batch: ReadingBatch, absent: NDArray[np.bool_]) -> ReadingBatch:
    if int(batch.quality.max()) > max(Quality):
        raise FrameError(f"unknown quality {int(batch.quality.max())}")
    if batch.at_us.min() < _EARLIEST_US or batch.at_us.max() > _LATEST_US:
        raise FrameError("an instant lies outside the years 1 to 9999")
    if not (np.isfinite(batch.values) | absent).all():
        raise FrameError("a number is not finite")
    if _CONTRADICTS[absent.view(np.uint8), batch.quality].any():
        raise FrameError("a bad reading carries a number, or a good one carries none")
    return batch


def decode_readings(body: bytes, limits: Limits = DEFAULT_LIMITS) -> ReadingBatch:
    """Read the body of a READINGS frame.

    Bodies that name the same points give the same ``points`` object as long as the decoder remembers them.

    Raises:
        FrameError: When any size, index, quality or number is not as the contract says.
    """
    if len(body) < READINGS_HEADER.size:
        raise FrameError("the body is shorter than its header")
    n, points, base_us, declared = READINGS_HEADER.unpack_from(body)
    if not 1 <= n <= limits.readings or not 1 <= points <= limits.points:
        raise FrameError(f"{n} readings of {points} points; 1 to {limits.readings} of 1 to {limits.points} are read")
    # Shortest and longest table there can be: nothing else is unpacked.
    if declared <= limits.raw_bytes and not 25 * n + 8 * points <= declared <= 25 * n + 258 * points:
        raise FrameError(f"declares {declared} bytes uncompressed for {n} readings of {points} points")
    raw = decompress(body[READINGS_HEADER.size :], declared, limits)
    offset = len(raw) - 25 * n
    table = _TABLES.find(raw[:offset])
    if len(table.points) != points:
        raise FrameError(f"the point table names {len(table.points)} points, the header {points}")
    steps = _unshuffle(raw, offset, n)
    index = np.cumsum(steps)
    if index.min() < 0 or index.max() >= points or (steps[1:] < 0).any():
        raise FrameError("point indices are out of range or out of order")
    at_us = np.cumsum(_unshuffle(raw, offset + 8 * n, n)) + base_us
    flags = np.frombuffer(raw, np.uint8, n, offset + 16 * n)
    column = _unshuffle(raw, offset + 17 * n, n)
    values = _values(column, index, table)
    absent = (flags & _NO_NUMBER) != 0
    values[absent] = np.nan
    quality = (flags & ~np.uint8(_NO_NUMBER)).astype(np.uint8)
    return _checked(ReadingBatch(table.points, index.astype(np.int32), at_us, values, quality), absent)


def _values(column: NDArray[np.int64], index: NDArray[np.int64], table: _PointTable) -> NDArray[np.float64]:
    """Numbers of a value column; sums within a point are differences of one running sum, exact modulo 2**64."""
    first = np.searchsorted(index, np.arange(len(table.points)))[index]
    running = np.cumsum(column)
    multiples = running - (running[first] - column[first])
    values = multiples.astype(np.float64) * table.times[index] / table.parts[index]
    if table.floats.any():
        raw = table.floats[index]
        values[raw] = column.view(np.float64)[raw]
    return values
