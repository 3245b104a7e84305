"""Rows out of an SQLite file that SQLite itself no longer opens: table leaf pages are read one by one, trees are ignored.

File format: https://sqlite.org/fileformat2.html, sections 1.6 (b-tree pages), 2.1 (records) and 4 (write-ahead log). What
is read here may be stale or garbled; whoever uses it has to check it by a hash.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

Value = int | float | str | bytes | None

_MAGIC: Final = b"SQLite format 3\x00"
_DEFAULT_PAGE: Final = 4096
_WAL_MAGIC: Final = (0x377F0682, 0x377F0683)
_WAL_HEADER: Final = struct.Struct(">8I")
_WAL_FRAME: Final = struct.Struct(">6I")
_LEAF: Final = 0x0D
_MAX_PAYLOAD: Final = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Cell:
    """Where a row lies."""

    page: int
    offset: int


@dataclass(frozen=True, slots=True)
class Row:
    """One row as it lies in the file."""

    cell: Cell
    rowid: int
    values: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Log:
    """What a write-ahead log holds.

    Attributes:
        pages: Offset of the newest whole copy of each page.
        broken: True when committed pages follow a page that is not whole: no power cut leaves that behind.
    """

    pages: dict[int, int]
    broken: bool


def read_log(data: bytes, page_size: int | None = None) -> Log:
    """Every page of a write-ahead log whose checksum holds and whose transaction was committed."""
    if len(data) < _WAL_HEADER.size:
        return Log({}, broken=False)
    magic, _, size, _, salt1, salt2, sum1, sum2 = _WAL_HEADER.unpack_from(data)
    if magic not in _WAL_MAGIC or not _is_page_size(size) or page_size not in (None, size):
        return Log({}, broken=len(data) > _WAL_HEADER.size and any(data))
    big = bool(magic & 1)
    seed = _checksum(data[:24], (0, 0), big=big)
    if seed != (sum1, sum2):
        return Log({}, broken=True)
    committed: dict[int, int] = {}
    open_pages: dict[int, int] = {}
    commits_since_break: int | None = None
    for offset in range(_WAL_HEADER.size, len(data) - _WAL_FRAME.size - size + 1, _WAL_FRAME.size + size):
        number, commit, frame_salt1, frame_salt2, *sums = _WAL_FRAME.unpack_from(data, offset)
        body = offset + _WAL_FRAME.size
        if (frame_salt1, frame_salt2) != (salt1, salt2):
            whole = False
        else:
            after_head = _checksum(data[offset : offset + 8], seed, big=big)
            whole = _checksum(data[body : body + size], after_head, big=big) == tuple(sums)
        # A later frame goes on from the sums that stand here, whether or not this one is whole.
        seed = (sums[0], sums[1])
        if not whole:
            commits_since_break = commits_since_break or 0
            open_pages.clear()
            continue
        open_pages[number] = body
        if commit:
            committed.update(open_pages)
            open_pages.clear()
            if commits_since_break is not None:
                commits_since_break += 1
    # The first commit after a break may be the end of the very transaction a power cut tore.
    return Log(committed, broken=(commits_since_break or 0) >= 2)


def _checksum(data: bytes, seed: tuple[int, int], *, big: bool) -> tuple[int, int]:
    first, second = seed
    words = struct.unpack(f"{'>' if big else '<'}{len(data) // 4}I", data)
    for place in range(0, len(words), 2):
        first = (first + words[place] + second) & 0xFFFFFFFF
        second = (second + words[place + 1] + first) & 0xFFFFFFFF
    return first, second


def _is_page_size(size: int) -> bool:
    return 512 <= size <= 65536 and size & (size - 1) == 0


class PageFile:
    """The pages of a database file as they stand after its log.

    Args:
        path: The file; its log is looked for beside it.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        beside = path.with_name(f"{path.name}-wal")
        self._log_data = beside.read_bytes() if beside.exists() else b""
        head = self._file.read(100)
        size = int.from_bytes(head[16:18], "big") if head.startswith(_MAGIC) else 0
        size = 65536 if size == 1 else size
        if not _is_page_size(size):
            size = int.from_bytes(self._log_data[8:12], "big") if self._log_data else 0
        self.page_size = size if _is_page_size(size) else _DEFAULT_PAGE
        self._log = read_log(self._log_data, self.page_size).pages
        length = path.stat().st_size
        self._count = max([-(-length // self.page_size), *self._log])

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def page(self, number: int) -> bytes:
        """A page by its number, from 1; what the file does not hold comes as zeros."""
        if not 1 <= number <= self._count:
            raise ValueError(f"there is no page {number}")
        offset = self._log.get(number)
        if offset is not None:
            return self._log_data[offset : offset + self.page_size]
        self._file.seek((number - 1) * self.page_size)
        return self._file.read(self.page_size).ljust(self.page_size, b"\0")

    def rows(self, columns: int) -> Iterator[Row]:
        """Every row with so many columns that can be read, in the order of the pages."""
        for number in range(1, self._count + 1):
            data = self.page(number)
            start = 100 if number == 1 else 0
            if data[start] != _LEAF:
                continue
            cells = int.from_bytes(data[start + 3 : start + 5], "big")
            for place in range(min(cells, self.page_size // 4)):
                at = start + 8 + 2 * place
                row = self.row(Cell(number, int.from_bytes(data[at : at + 2], "big")), columns)
                if row is not None:
                    yield row

    def row(self, cell: Cell, columns: int) -> Row | None:
        """One row; None when there is none with so many columns."""
        try:
            data = self.page(cell.page)
            length, at = _varint(data, cell.offset)
            rowid, at = _varint(data, at)
            if not columns < length <= _MAX_PAYLOAD:
                return None
            if _columns(data, at) != columns:
                return None
            return Row(cell, _signed(rowid), _values(self._payload(data, at, length)))
        except (ValueError, IndexError, struct.error):
            return None

    def _payload(self, data: bytes, at: int, length: int) -> bytes:
        most = self.page_size - 35
        if length <= most:
            return data[at : at + length]
        least = (self.page_size - 12) * 32 // 255 - 23
        local = least + (length - least) % (self.page_size - 4)
        local = local if local <= most else least
        parts, have = [data[at : at + local]], local
        following = int.from_bytes(data[at + local : at + local + 4], "big")
        while have < length:
            more = self.page(following)
            parts.append(more[4 : 4 + length - have])
            have += len(parts[-1])
            following = int.from_bytes(more[:4], "big")
        return b"".join(parts)


def _varint(data: bytes, at: int) -> tuple[int, int]:
    number = 0
    for place in range(8):
        byte = data[at + place]
        number = number << 7 | byte & 0x7F
        if byte < 0x80:
            return number, at + place + 1
    return number << 8 | data[at + 8], at + 9


def _signed(number: int) -> int:
    return number - (1 << 64) if number >= 1 << 63 else number


def _columns(payload: bytes, start: int = 0) -> int:
    """How many columns a record has, from the part of its header that lies here."""
    size, at = _varint(payload, start)
    count = 0
    while at < start + size:
        _, at = _varint(payload, at)
        count += 1
    return count


def _values(payload: bytes) -> tuple[Value, ...]:
    size, at = _varint(payload, 0)
    place, values = size, []
    while at < size:
        kind, at = _varint(payload, at)
        value, place = _value(kind, payload, place)
        values.append(value)
    return tuple(values)


_INTEGER_BYTES: Final = (0, 1, 2, 3, 4, 6, 8)


def _value(kind: int, payload: bytes, at: int) -> tuple[Value, int]:
    if kind == 0:
        return None, at
    if kind < 7:
        end = at + _INTEGER_BYTES[kind]
        return int.from_bytes(payload[at:end], "big", signed=True), end
    if kind == 7:
        return float(struct.unpack_from(">d", payload, at)[0]), at + 8
    if kind < 10:
        return kind - 8, at
    end = at + (kind - 12) // 2
    if end > len(payload) or kind < 12:
        raise ValueError("a value reaches beyond its record")
    return (payload[at:end].decode("utf-8") if kind % 2 else payload[at:end]), end
