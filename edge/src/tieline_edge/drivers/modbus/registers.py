"""Registers as numbers and back, and which of them are read together. Pure."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from tieline_edge.drivers.catalog.entry import Register, RegisterType, Table

#: Modbus Application Protocol V1.1b3, 6.3: at most 125 registers a read; 6.1: 2000 bits.
MAX_WORDS: Final = 125
MAX_BITS: Final = 2000

STRUCT: Final = {
    RegisterType.INT16: ">h",
    RegisterType.UINT16: ">H",
    RegisterType.INT32: ">i",
    RegisterType.UINT32: ">I",
    RegisterType.ACC32: ">I",
    RegisterType.INT64: ">q",
    RegisterType.UINT64: ">Q",
    RegisterType.FLOAT32: ">f",
    RegisterType.FLOAT64: ">d",
}
#: SunSpec's "not implemented" patterns. An accumulator has none here: its 0 also means "nothing counted yet".
NOT_IMPLEMENTED: Final = {
    RegisterType.INT16: -0x8000,
    RegisterType.UINT16: 0xFFFF,
    RegisterType.INT32: -0x80000000,
    RegisterType.UINT32: 0xFFFFFFFF,
    RegisterType.INT64: -0x8000000000000000,
    RegisterType.UINT64: 0xFFFFFFFFFFFFFFFF,
}
_INTEGER_RANGE: Final = {
    RegisterType.BOOL: (0, 1),
    RegisterType.INT16: (-0x7FFF, 0x7FFF),
    RegisterType.UINT16: (0, 0xFFFF),
    RegisterType.INT32: (-0x7FFFFFFF, 0x7FFFFFFF),
    RegisterType.UINT32: (0, 0xFFFFFFFF),
    RegisterType.ACC32: (0, 0xFFFFFFFF),
    RegisterType.INT64: (-0x7FFFFFFFFFFFFFFF, 0x7FFFFFFFFFFFFFFF),
    RegisterType.UINT64: (0, 0xFFFFFFFFFFFFFFFF),
}


def _range(register: Register) -> tuple[int, int]:
    """Whole numbers the register can say; a SunSpec pattern for "not implemented" is none."""
    low, high = _INTEGER_RANGE[register.type]
    return low, high - (register.model is not None and high == NOT_IMPLEMENTED.get(register.type))


#: Table, group (0 = plain, else the SunSpec model), first address, address after the last.
Span = tuple[Table, int, int, int]


@dataclass(frozen=True, slots=True, order=True)
class Block:
    """Neighbouring registers read in one request; ``group`` is 0 for plain registers, else the SunSpec model."""

    table: Table
    group: int
    start: int
    count: int


def _reorder(data: bytes, byte_order: str) -> bytes:
    if byte_order in ("BADC", "DCBA"):
        data = b"".join(data[at : at + 2][::-1] for at in range(0, len(data), 2))
    if byte_order in ("CDAB", "DCBA"):
        data = b"".join(data[at : at + 2] for at in range(len(data) - 2, -1, -2))
    return data


def decode_raw(words: Sequence[int], register: Register) -> float | int | None:
    """The number as transmitted, before any scale; None for a SunSpec "not implemented" and for a float that is no number."""
    if register.type is RegisterType.BOOL:
        return int(bool(words[0]))
    data = _reorder(struct.pack(f">{len(words)}H", *words), register.byte_order)
    raw: float | int = struct.unpack(STRUCT[register.type], data)[0]
    if isinstance(raw, float) and not math.isfinite(raw):
        return None
    if register.model is not None and raw == NOT_IMPLEMENTED.get(register.type):
        return None
    return None if register.absent and int.from_bytes(data, "big") in register.absent else raw


def decode_scale_factor(word: int) -> int | None:
    """A ``sunssf`` register as an exponent from -10 to 10; None when not implemented or out of range."""
    exponent = word - 0x10000 if word >= 0x8000 else word
    return exponent if -10 <= exponent <= 10 else None


def encode_raw(value: float, register: Register, exponent: int = 0) -> tuple[int, ...]:
    """Words that hold ``value`` at the register's resolution.

    Raises:
        ValueError: When the value does not fit the register.
    """
    if not math.isfinite(value):
        raise ValueError(f"{value} is not a finite number")
    scaled = (value - register.offset) / (register.scale * 10.0**exponent)
    if register.type in (RegisterType.FLOAT32, RegisterType.FLOAT64):
        data = struct.pack(STRUCT[register.type], scaled)
    else:
        raw = round(scaled)
        low, high = _range(register)
        if not low <= raw <= high:
            raise ValueError(f"{value:g} is {raw} in {register.label}, which holds {low} to {high}")
        if register.type is RegisterType.BOOL:
            return (raw,)
        data = struct.pack(STRUCT[register.type], raw)
    data = _reorder(data, register.byte_order)
    return struct.unpack(f">{len(data) // 2}H", data)


def largest(register: Register) -> float:
    """Largest value an integer register holds, scale factor apart; infinite for a float."""
    if register.type not in _INTEGER_RANGE:
        return math.inf
    return _range(register)[1] * register.scale + register.offset


def coalesce(registers: Iterable[Register], max_fill: int = 0) -> tuple[Block, ...]:
    """The fewest reads that cover the registers and their scale factors.

    Inside a SunSpec model every address may be read, so gaps are bridged. Plain registers join only over holes of at most
    ``max_fill`` addresses: an address that no sheet names may answer with an exception.
    """
    spans: set[Span] = set()
    for register in registers:
        start, end = register.address, register.address + register.type.words
        spans.add((register.table, register.model or 0, start, end))
        if register.scale_factor is not None:
            spans.add((register.table, register.model or 0, register.scale_factor, register.scale_factor + 1))
    return cover(spans, max_fill)


def cover(spans: Iterable[Span], max_fill: int = 0) -> tuple[Block, ...]:
    """The fewest reads that cover the spans; see :func:`coalesce`."""
    blocks: list[Block] = []
    for table, group, start, end in sorted(set(spans)):
        last = blocks[-1] if blocks else None
        limit = MAX_BITS if table.is_bits else MAX_WORDS
        if (
            last is not None
            and (last.table, last.group) == (table, group)
            and (group or start <= last.start + last.count + max_fill)
            and max(end, last.start + last.count) - last.start <= limit
        ):
            blocks[-1] = Block(table, group, last.start, max(end - last.start, last.count))
        else:
            blocks.append(Block(table, group, start, end - start))
    return tuple(blocks)


class Words:
    """What was read: lookup of a register's words in the blocks that arrived."""

    def __init__(self) -> None:
        self._blocks: dict[Block, Sequence[int]] = {}

    def add(self, block: Block, words: Sequence[int]) -> None:
        """Keep the answer to one read."""
        self._blocks[block] = words

    def _cut(self, table: Table, group: int, start: int, count: int) -> Sequence[int] | None:
        for block, words in self._blocks.items():
            if (block.table, block.group) == (table, group) and block.start <= start <= block.start + block.count - count:
                return words[start - block.start : start - block.start + count]
        return None

    def word(self, table: Table, group: int, address: int) -> int | None:
        """One word; None when it did not arrive."""
        found = self._cut(table, group, address, 1)
        return None if found is None else found[0]

    def exponent(self, register: Register) -> int | None:
        """The register's scale factor; 0 when it has none, None when it did not arrive or is not implemented."""
        if register.scale_factor is None:
            return 0
        words = self._cut(register.table, register.model or 0, register.scale_factor, 1)
        return None if words is None else decode_scale_factor(words[0])

    def raw(self, register: Register) -> float | int | None:
        """The number as transmitted; None when it did not arrive or is not implemented."""
        words = self._cut(register.table, register.model or 0, register.address, register.type.words)
        return None if words is None else decode_raw(words, register)

    def arrived(self, register: Register) -> bool:
        """True when the register was part of an answer."""
        return self._cut(register.table, register.model or 0, register.address, register.type.words) is not None

    def value(self, register: Register) -> float | None:
        """The number in the register's unit; None when absent."""
        raw, exponent = self.raw(register), self.exponent(register)
        return None if raw is None or exponent is None else raw * register.scale * 10.0**exponent + register.offset
