"""A compiled cell reads what the general lookup reads, whatever the register and the words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tieline_edge.drivers.catalog.entry import Register, RegisterType, Table
from tieline_edge.drivers.modbus.cells import Cell, as_bytes
from tieline_edge.drivers.modbus.registers import Words, coalesce

WORD = st.integers(0, 0xFFFF) | st.sampled_from([0, 0x7F80, 0x7FC0, 0x7FFF, 0x8000, 0xFFFF])
PLAIN = st.builds(
    Register,
    address=st.integers(0, 40),
    type=st.sampled_from([kind for kind in RegisterType if kind is not RegisterType.BOOL]),
    byte_order=st.sampled_from(["ABCD", "CDAB", "BADC", "DCBA"]),
    scale=st.sampled_from([1.0, 0.1, 0.001, 10.0]),
    offset=st.sampled_from([0.0, -40.0]),
)
SUNSPEC = st.builds(
    Register,
    address=st.integers(2, 40),
    type=st.sampled_from(
        [RegisterType.INT16, RegisterType.UINT16, RegisterType.INT32, RegisterType.ACC32, RegisterType.FLOAT32]
    ),
    model=st.just(203),
    scale_factor=st.none() | st.integers(2, 45),
)
BIT = st.builds(Register, address=st.integers(0, 40), type=st.just(RegisterType.BOOL), table=st.just(Table.DISCRETE))


@given(st.lists(PLAIN | SUNSPEC | BIT, min_size=1, max_size=6), st.data())
def test_a_cell_reads_what_the_lookup_reads(registers: list[Register], data: st.DataObject) -> None:
    blocks = coalesce(registers)
    words = Words()
    held = {}
    for block in blocks:
        size = block.count
        held[block] = data.draw(st.lists(st.integers(0, 1) if block.table.is_bits else WORD, min_size=size, max_size=size))
        words.add(block, held[block])
    for register in registers:
        cell = Cell.within(register, blocks)
        answer = as_bytes(held[cell.block])
        assert cell.value(answer) == words.value(register)
        assert cell.exponent(answer) == words.exponent(register)
        assert cell.scaled == (register.scale_factor is not None)


def test_a_register_outside_every_block_has_no_cell() -> None:
    blocks = coalesce([Register(address=0)])
    with pytest.raises(ValueError, match="none of the blocks"):
        Cell.within(Register(address=5), blocks)
