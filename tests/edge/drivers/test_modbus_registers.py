"""Registers as numbers and back, and the reads that cover them."""

from __future__ import annotations

import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tieline_edge.drivers.catalog.entry import Register, RegisterType, Table
from tieline_edge.drivers.modbus.registers import (
    MAX_WORDS,
    Words,
    coalesce,
    decode_raw,
    decode_scale_factor,
    encode_raw,
    largest,
)

TYPES = [kind for kind in RegisterType if kind is not RegisterType.BOOL]
ORDERS = ["ABCD", "CDAB", "BADC", "DCBA"]


@pytest.mark.parametrize(
    ("order", "words"),
    [("ABCD", [0x0102, 0x0304]), ("CDAB", [0x0304, 0x0102]), ("BADC", [0x0201, 0x0403]), ("DCBA", [0x0403, 0x0201])],
)
def test_the_four_byte_orders_by_hand(order: str, words: list[int]) -> None:
    register = Register.model_validate({"address": 0, "type": "UINT32", "byte_order": order})
    assert decode_raw(words, register) == 0x01020304
    assert list(encode_raw(0x01020304, register)) == words


@pytest.mark.parametrize(
    ("kind", "words", "value"),
    [
        ("INT16", [0xFFFF], -1),
        ("UINT16", [0xFFFE], 0xFFFE),
        ("INT32", [0xFFFF, 0xFFFE], -2),
        ("INT64", [0xFFFF, 0xFFFF, 0xFFFF, 0xFFFD], -3),
        ("UINT64", [0, 0, 1, 0], 65536),
        ("FLOAT32", [0x3FC0, 0x0000], 1.5),
        ("FLOAT64", [0xBFF8, 0, 0, 0], -1.5),
        ("FLOAT32", [0x7FC0, 0x0000], None),
        ("FLOAT32", [0x7F80, 0x0000], None),
    ],
)
def test_values_by_hand(kind: str, words: list[int], value: float | None) -> None:
    assert decode_raw(words, Register(address=0, type=RegisterType(kind))) == value


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("INT16", [0x8000]),
        ("UINT16", [0xFFFF]),
        ("INT32", [0x8000, 0]),
        ("UINT32", [0xFFFF, 0xFFFF]),
        ("INT64", [0x8000, 0, 0, 0]),
        ("UINT64", [0xFFFF] * 4),
    ],
)
def test_sunspec_not_implemented_is_absent_and_in_plain_registers_a_number(kind: str, words: list[int]) -> None:
    assert decode_raw(words, Register(address=0, type=RegisterType(kind), model=1)) is None
    assert decode_raw(words, Register(address=0, type=RegisterType(kind))) is not None


@given(st.sampled_from(TYPES), st.sampled_from(ORDERS), st.data())
def test_what_is_written_reads_back_at_the_register_resolution(kind: RegisterType, order: str, data: st.DataObject) -> None:
    exponent = data.draw(st.integers(-4, 4))
    register = Register.model_validate({"address": 0, "type": kind, "byte_order": order})
    if kind in (RegisterType.FLOAT32, RegisterType.FLOAT64):
        value = data.draw(st.floats(-1e6, 1e6, width=32))
        exponent = 0
    else:
        low = -0x7FFF if kind.value.startswith("INT") else 0
        value = data.draw(st.integers(low, 0x7FFF)) * 10.0**exponent
    raw = decode_raw(encode_raw(value, register, exponent), register)
    assert raw is not None
    assert math.isclose(raw * 10.0**exponent, value, rel_tol=1e-9, abs_tol=0.5 * 10.0**exponent)


@given(st.sampled_from([kind for kind in TYPES if "FLOAT" not in kind]), st.floats(allow_nan=True, allow_infinity=True))
def test_what_does_not_fit_is_refused_and_never_wraps(kind: RegisterType, value: float) -> None:
    register = Register(address=0, type=kind)
    assume(not 0 <= value <= largest(register))
    try:
        raw = decode_raw(encode_raw(value, register), register)
    except ValueError:
        return
    assert raw is not None
    assert abs(raw - value) <= 0.5 + abs(value) * 1e-15


@given(st.integers(0, 0xFFFF))
def test_a_scale_factor_is_a_small_power_of_ten_or_absent(word: int) -> None:
    exponent = decode_scale_factor(word)
    assert exponent is None or -10 <= exponent <= 10
    assert decode_scale_factor(0x8000) is None


_registers = st.builds(
    Register,
    address=st.integers(0, 300),
    type=st.sampled_from(TYPES),
    table=st.sampled_from([Table.HOLDING, Table.INPUT]),
) | st.builds(
    Register,
    address=st.integers(0, 120),
    type=st.sampled_from(TYPES),
    model=st.sampled_from([103, 701]),
    scale_factor=st.none() | st.integers(0, 150),
)


@given(st.lists(_registers, max_size=12))
def test_the_reads_cover_every_register_within_the_limits_and_leave_foreign_addresses_alone(registers: list[Register]) -> None:
    blocks = coalesce(registers)
    words = Words()
    for block in blocks:
        assert 1 <= block.count <= MAX_WORDS
        words.add(block, [0] * block.count)
    assert all(words.arrived(register) for register in registers)
    named = {
        (register.table, address)
        for register in registers
        if register.model is None
        for address in range(register.address, register.address + register.type.words)
    }
    asked = {
        (block.table, address)
        for block in blocks
        if not block.group
        for address in range(block.start, block.start + block.count)
    }
    assert asked == named
