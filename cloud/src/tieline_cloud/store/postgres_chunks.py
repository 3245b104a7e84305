"""Readings as compressed columns, the form in which they rest in PostgreSQL: about two to four bytes a reading.

Other than a frame of the wire, a chunk names its points by their numbers in the store and gives back every float64 it was
given: what is no whole multiple of its point's declared resolution, such as imported history, is kept as it is.

Layout: header, then one zstd frame over point numbers, rows of each point, exponent of each point, instants, values and
quality. Integers are zigzag coded and split into as many byte planes as the largest needs.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import zstandard
from numpy.typing import NDArray

from tieline_core.errors import PermanentError

#: version, value mode, planes of numbers, counts, instants and values; rows, points, exceptions; base and unit of instants.
_HEADER: Final = struct.Struct("<BBBBBBIIIqI")
_VERSION: Final = 1
_SCALED, _FLOAT64 = 0, 1
_UNITS_US: Final = (1_000_000, 1_000, 1)
_LEVEL: Final = 3
#: Largest whole number a float64 holds exactly.
_EXACT: Final = 2.0**53
#: Most rows of one chunk: what a query of one point has to unpack at least.
CHUNK_ROWS: Final = 65_536


class ChunkDamagedError(PermanentError):
    """Bytes in the table of chunks that are no chunk."""


@dataclass(frozen=True, slots=True)
class Columns:
    """Readings as columns of one length: point number int32, instant int64 [us], value float64 (NaN = none), quality uint8."""

    numbers: NDArray[np.int32]
    at_us: NDArray[np.int64]
    values: NDArray[np.float64]
    quality: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.at_us)

    def take(self, rows: NDArray[np.intp] | NDArray[np.bool_] | slice) -> Columns:
        """Some of the rows."""
        return Columns(self.numbers[rows], self.at_us[rows], self.values[rows], self.quality[rows])

    def between(self, first: int, last: int) -> Columns:
        """Those of the points from one number to another, of rows ascending by number."""
        # In the column's own type: with any other the whole column would be converted at each call.
        return self.take(slice(*np.searchsorted(self.numbers, np.array([first, last + 1], np.int32))))

    @classmethod
    def joined(cls, parts: list[Columns]) -> Columns:
        """Rows of all parts, in their order; no parts give no rows."""
        if not parts:
            return cls(np.zeros(0, np.int32), np.zeros(0, np.int64), np.zeros(0), np.zeros(0, np.uint8))
        if len(parts) == 1:
            return parts[0]
        return cls(
            np.concatenate([part.numbers for part in parts]),
            np.concatenate([part.at_us for part in parts]),
            np.concatenate([part.values for part in parts]),
            np.concatenate([part.quality for part in parts]),
        )


def _planes(column: NDArray[np.int64]) -> tuple[int, bytes]:
    """Byte planes of a column of signed integers, lowest first, as many as the largest needs."""
    folded = ((column << 1) ^ (column >> 63)).view(np.uint64)
    width = max(1, (int(folded.max()).bit_length() + 7) // 8)
    return width, folded.astype("<u8").view(np.uint8).reshape(-1, 8)[:, :width].T.tobytes()


class _Reader:
    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self._offset = 0

    def bytes(self, count: int) -> NDArray[np.uint8]:
        found = np.frombuffer(self._raw, np.uint8, count, self._offset)
        self._offset += count
        return found

    def planes(self, width: int, count: int) -> NDArray[np.int64]:
        wide = np.zeros((count, 8), np.uint8)
        wide[:, :width] = self.bytes(width * count).reshape(width, count).T
        folded = wide.view("<u8").ravel()
        return (folded >> np.uint64(1)).astype(np.int64) ^ -(folded & np.uint64(1)).astype(np.int64)


def _steps(column: NDArray[np.int64], starts: NDArray[np.intp]) -> NDArray[np.int64]:
    """Differences within each run; a run begins with its own value."""
    steps = column.copy()
    steps[1:] -= column[:-1]
    steps[starts] = column[starts]
    return steps


def _sums(steps: NDArray[np.int64], starts: NDArray[np.intp], counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """The inverse of :func:`_steps`."""
    sums = np.cumsum(steps)
    before = sums[starts] - steps[starts]
    return np.asarray(sums - np.repeat(before, counts), np.int64)


def encode(rows: Columns, exponents: NDArray[np.int8]) -> bytes:
    """The bytes of a chunk.

    Args:
        rows: One reading at least, ascending by number and instant.
        exponents: Declared resolution of each point by its number, as a power of ten.
    """
    n = len(rows)
    starts = np.flatnonzero(np.diff(rows.numbers, prepend=rows.numbers[0] - 1))
    points = rows.numbers[starts].astype(np.int64)
    counts = np.diff(starts, append=n)
    base_us = int(rows.at_us.min())
    offsets = rows.at_us - base_us
    unit_us = next(unit for unit in _UNITS_US if unit == 1 or not (offsets % unit).any())
    scale = np.repeat(10.0 ** -exponents[points].astype(np.float64), counts)
    absent = np.isnan(rows.values)
    held = np.where(absent, 0.0, rows.values)
    with np.errstate(over="ignore"):  # what is too large for a whole number is kept as it is
        multiples = np.rint(held * scale)
    odd = np.flatnonzero((multiples / scale != held) | (np.abs(multiples) >= _EXACT))
    mode = _FLOAT64 if len(odd) > n // 4 else _SCALED
    if mode == _FLOAT64:
        odd = odd[:0]
        value_width, values = 8, held.astype("<f8").view(np.uint8).reshape(-1, 8).T.tobytes()
    else:
        multiples[odd] = 0.0
        value_width, values = _planes(_steps(multiples.astype(np.int64), starts))
    number_width, numbers = _planes(np.diff(points, prepend=0))
    count_width, lengths = _planes(counts)
    time_width, times = _planes(_steps(offsets // unit_us, starts))
    flags = np.where(absent, rows.quality | 0x80, rows.quality).astype(np.uint8)
    exceptions = odd.astype("<u4").tobytes() + held[odd].astype("<f8").tobytes()
    raw = b"".join((numbers, lengths, exponents[points].tobytes(), times, flags.tobytes(), values, exceptions))
    widths = (mode, number_width, count_width, time_width, value_width)
    header = _HEADER.pack(_VERSION, *widths, n, len(points), len(odd), base_us, unit_us)
    return header + zstandard.ZstdCompressor(_LEVEL, write_checksum=True).compress(raw)


def decode(body: bytes) -> Columns:
    """The readings of a chunk, ascending by number and instant.

    Raises:
        ChunkDamagedError: When the bytes are no chunk.
    """
    try:
        version, mode, *widths, n, k, odd, base_us, unit_us = _HEADER.unpack_from(body)
        if version != _VERSION or mode not in (_SCALED, _FLOAT64) or not 1 <= k <= n <= CHUNK_ROWS or odd > n:
            raise ChunkDamagedError(f"a chunk says version {version}, mode {mode}, {n} readings of {k} points")
        number_width, count_width, time_width, value_width = widths
        size = k * (number_width + count_width + 1) + n * (time_width + value_width + 1) + 12 * odd
        if max(widths) > 8 or (mode == _FLOAT64 and value_width != 8):
            raise ChunkDamagedError("a chunk says widths no column can have")
        if zstandard.frame_content_size(body[_HEADER.size :]) != size:
            raise ChunkDamagedError("a chunk has another length than it says")
        reader = _Reader(zstandard.ZstdDecompressor().decompress(body[_HEADER.size :], max_output_size=size))
    except (struct.error, zstandard.ZstdError) as error:
        raise ChunkDamagedError(f"a chunk cannot be read: {error}") from error
    points = np.cumsum(reader.planes(number_width, k))
    counts = reader.planes(count_width, k)
    if counts.min() < 1 or int(counts.sum()) != n:
        raise ChunkDamagedError("the rows of a chunk's points do not add up")
    starts = np.cumsum(counts) - counts
    exponents = reader.bytes(k).view(np.int8)
    at_us = _sums(reader.planes(time_width, n), starts, counts) * unit_us + base_us
    flags = reader.bytes(n)
    if mode == _FLOAT64:
        values = np.ascontiguousarray(reader.bytes(8 * n).reshape(8, n).T).view("<f8").ravel().astype(np.float64)
    else:
        scale = np.repeat(10.0 ** -exponents.astype(np.float64), counts)
        values = _sums(reader.planes(value_width, n), starts, counts) / scale
        rows = np.ascontiguousarray(reader.bytes(4 * odd)).view("<u4")
        values[rows] = np.ascontiguousarray(reader.bytes(8 * odd)).view("<f8")
    values[(flags & 0x80) != 0] = np.nan
    numbers = np.repeat(points.astype(np.int32), counts)
    return Columns(numbers, at_us, values, flags & np.uint8(0x7F))


def pieces(rows: Columns, edges: NDArray[np.int32], day_us: int) -> Iterator[tuple[int, int, Columns]]:
    """Cut readings into what becomes a chunk each: (edge, day since 1970, rows ascending by number and instant).

    Args:
        rows: Readings in any order.
        edges: Number of the edge of each point by the point's number.
        day_us: Length of a day [us].
    """
    days, owners = rows.at_us // day_us, edges[rows.numbers]
    order = np.lexsort((rows.at_us, rows.numbers, days, owners))
    rows, days, owners = rows.take(order), days[order], owners[order]
    cuts = np.flatnonzero((np.diff(days) != 0) | (np.diff(owners) != 0)) + 1
    for begin, end in zip([0, *cuts.tolist()], [*cuts.tolist(), len(rows)], strict=True):
        for first in range(begin, end, CHUNK_ROWS):
            part = slice(first, min(first + CHUNK_ROWS, end))
            yield int(owners[first]), int(days[first]), rows.take(part)
