"""Chunks give back bit by bit what they were given, and damaged ones are refused."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from tieline_cloud.store.postgres_chunks import CHUNK_ROWS, ChunkDamagedError, Columns, decode, encode, pieces

DAY_US = 86_400_000_000
EXPONENTS = np.array([-1, 0, -3, -2, 2], np.int8)
NUMBERS = st.one_of(
    st.integers(-(10**9), 10**9).map(lambda n: n / 10),
    st.floats(allow_nan=False, allow_infinity=False),
    st.just(float("nan")),
    st.sampled_from([0.0, 1e13, -1e13, 5e-324, 2.0**53, 0.1 + 0.2, 1e308]),
)
ROWS = st.lists(
    st.tuples(st.integers(0, 4), st.integers(-(10**16), 10**16), NUMBERS, st.integers(0, 4)), min_size=1, max_size=60
)


def columns(rows: list[tuple[int, int, float, int]]) -> Columns:
    number, at_us, value, quality = zip(*rows, strict=True)
    return Columns(
        np.array(number, np.int32), np.array(at_us, np.int64), np.array(value, np.float64), np.array(quality, np.uint8)
    )


def assert_same(left: Columns, right: Columns) -> None:
    assert_array_equal(left.numbers, right.numbers)
    assert_array_equal(left.at_us, right.at_us)
    assert_array_equal(left.values, right.values)
    assert_array_equal(left.quality, right.quality)


@given(ROWS)
def test_a_chunk_gives_back_every_number_it_was_given(rows: list[tuple[int, int, float, int]]) -> None:
    held = columns(sorted(rows, key=lambda row: row[:2]))
    assert_same(decode(encode(held, EXPONENTS)), held)


@given(ROWS)
def test_pieces_hold_every_row_once_each_of_one_edge_and_day_and_sorted(rows: list[tuple[int, int, float, int]]) -> None:
    edges = np.array([0, 1, 0, 1, 2], np.int32)
    found = []
    for edge, day, part in pieces(columns(rows), edges, DAY_US):
        assert (edges[part.numbers] == edge).all()
        assert (part.at_us // DAY_US == day).all()
        order = list(zip(part.numbers.tolist(), part.at_us.tolist(), strict=True))
        assert order == sorted(order)
        found += [
            (*key, repr(value), quality)
            for key, value, quality in zip(order, part.values.tolist(), part.quality.tolist(), strict=True)
        ]
    assert sorted(found) == sorted((number, at, repr(value), quality) for number, at, value, quality in rows)


def test_a_long_piece_is_cut_and_a_quarter_hour_of_meters_needs_few_bytes() -> None:
    rows, points = CHUNK_ROWS + 10, 1000
    rng = np.random.default_rng(0)
    numbers = np.sort(np.arange(rows, dtype=np.int32) % points)
    at_us = np.arange(rows, dtype=np.int64) // points * 900_000_000
    held = Columns(numbers, at_us, np.round(2000 + rng.normal(0, 300, rows), 1), np.zeros(rows, np.uint8))
    cut = [part for _, _, part in pieces(held, np.zeros(points, np.int32), 10**15)]
    assert [len(part) for part in cut] == [CHUNK_ROWS, 10]
    assert len(encode(cut[0], np.full(points, -1, np.int8))) < 2.5 * CHUNK_ROWS


@given(st.binary(max_size=200))
def test_bytes_that_are_no_chunk_are_refused(body: bytes) -> None:
    with pytest.raises(ChunkDamagedError):
        decode(body)


@given(st.integers(0, 60), st.integers(1, 255))
def test_a_flipped_byte_is_noticed_or_changes_nothing_but_values(place: int, flip: int) -> None:
    body = bytearray(encode(columns([(0, 0, 1.0, 0), (0, 1, 2.0, 0), (3, 0, float("nan"), 4)]), EXPONENTS))
    body[place % len(body)] ^= flip
    with suppress(ChunkDamagedError):
        assert len(decode(bytes(body))) == 3
