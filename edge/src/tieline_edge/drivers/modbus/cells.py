"""Where each register lies in the answers to a poll, worked out once: what is read every second only unpacks. Pure.

:class:`Cell` gives exactly what :class:`tieline_edge.drivers.modbus.registers.Words` gives for the same register; that one
finds its way anew at each question, which is right for a discovery and too dear for fifteen thousand values a second.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Final

from tieline_edge.drivers.catalog.entry import Register, RegisterType
from tieline_edge.drivers.modbus.registers import NOT_IMPLEMENTED, STRUCT, Block, coalesce, decode_raw, decode_scale_factor

_POWERS: Final = {exponent: 10.0**exponent for exponent in range(-10, 11)}


def as_bytes(held: Sequence[int]) -> bytes:
    """The words of an answer as they stood on the wire, high byte first."""
    return struct.pack(f">{len(held)}H", *held)


class Cell:
    """One register in the answer to the read of its block.

    Args:
        register: The register.
        block: The block that covers it and its scale factor.

    Attributes:
        block: Likewise.
        scaled: It has a scale factor of its own in the block.
    """

    __slots__ = ("_at", "_factor_at", "_offset", "_register", "_scale", "_unpack", "_unset", "_words", "block", "scaled")

    def __init__(self, register: Register, block: Block) -> None:
        self.block = block
        self.scaled = register.scale_factor is not None
        self._register = register
        self._words = register.type.words
        self._at = 2 * (register.address - block.start)
        self._factor_at = None if register.scale_factor is None else 2 * (register.scale_factor - block.start)
        plain = register.type is not RegisterType.BOOL and register.byte_order == "ABCD" and not register.absent
        self._unpack = struct.Struct(STRUCT[register.type]).unpack_from if plain else None
        self._unset = NOT_IMPLEMENTED.get(register.type) if register.model is not None else None
        self._scale, self._offset = register.scale, register.offset

    @classmethod
    def within(cls, register: Register, blocks: Sequence[Block]) -> Cell:
        """The cell of a register in the first block that covers it.

        Raises:
            ValueError: When none does.
        """
        for block in blocks:
            same = (block.table, block.group) == (register.table, register.model or 0)
            if same and block.start <= register.address <= block.start + block.count - register.type.words:
                return cls(register, block)
        raise ValueError(f"{register.label} is in none of the blocks that are read")

    def exponent(self, data: bytes) -> int | None:
        """Its scale factor in the answer; 0 when it has none, None when it is not implemented."""
        if self._factor_at is None:
            return 0
        return decode_scale_factor(int.from_bytes(data[self._factor_at : self._factor_at + 2], "big"))

    def value(self, data: bytes) -> float | None:
        """The number in the register's unit; None when the device has not implemented it or it is no number."""
        raw: float | int | None
        if self._unpack is not None:
            raw = self._unpack(data, self._at)[0]
            if raw == self._unset or (isinstance(raw, float) and not math.isfinite(raw)):
                return None
        else:
            raw = decode_raw(struct.unpack_from(f">{self._words}H", data, self._at), self._register)
        if raw is None:
            return None
        if self._factor_at is None:
            return raw * self._scale + self._offset
        exponent = self.exponent(data)
        return None if exponent is None else raw * self._scale * _POWERS[exponent] + self._offset


@dataclass(frozen=True, slots=True)
class Sheet:
    """What a poll reads and where it lies; one for all devices with the same registers.

    Attributes:
        blocks: The reads.
        cells: The cell of each register, in their order; None where there is none.
        scaled: By block, the cells with a scale factor.
    """

    blocks: tuple[Block, ...]
    cells: tuple[Cell | None, ...]
    scaled: Mapping[Block, tuple[Cell, ...]]


@lru_cache(maxsize=256)
def sheet_of(registers: tuple[Register | None, ...], max_fill: int) -> Sheet:
    """The sheet of these registers; holes of so many addresses are read over."""
    blocks = coalesce((register for register in registers if register), max_fill)
    cells = tuple(None if register is None else Cell.within(register, blocks) for register in registers)
    scaled = {block: tuple(cell for cell in cells if cell and cell.scaled and cell.block == block) for block in blocks}
    return Sheet(blocks, cells, MappingProxyType(scaled))
