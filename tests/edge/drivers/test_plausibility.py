"""Values that cannot be, values that are unusual, and the difference between a dead bus and a flipped float."""

from __future__ import annotations

import struct

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tieline_edge.drivers.catalog.entry import Point
from tieline_edge.drivers.plausibility import AFTER, Doubt, Nominal, Verdict, judge


def point(quantity: str, **more: object) -> Point:
    return Point.model_validate({"quantity": quantity, "register": {"address": 0}, **more})


@pytest.mark.parametrize(
    ("quantity", "value", "nominal", "verdict"),
    [
        ("v_v", 230.0, Nominal(), Verdict.EXPECTED),
        ("v_v", 184.0, Nominal(), Verdict.EXPECTED),
        ("v_v", 183.9, Nominal(), Verdict.UNUSUAL),
        ("v_v", 276.1, Nominal(), Verdict.UNUSUAL),
        ("v_v", 345.1, Nominal(), Verdict.IMPOSSIBLE),
        ("v_v", 0.0, Nominal(), Verdict.UNUSUAL),
        ("v_v", 0.4, Nominal(), Verdict.UNUSUAL),
        ("v_v", 1e-9, Nominal(), Verdict.IMPOSSIBLE),
        ("v_v", -230.0, Nominal(), Verdict.IMPOSSIBLE),
        ("v_v", 120.0, Nominal(v_v=120.0), Verdict.EXPECTED),
        ("v_v", 6000.0, Nominal(v_v=400.0), Verdict.IMPOSSIBLE),
        ("f_hz", 50.0, Nominal(), Verdict.EXPECTED),
        ("f_hz", 60.0, Nominal(), Verdict.EXPECTED),
        ("f_hz", 60.0, Nominal(f_hz=50.0), Verdict.IMPOSSIBLE),
        ("f_hz", 44.9, Nominal(f_hz=50.0), Verdict.IMPOSSIBLE),
        ("f_hz", 0.0, Nominal(), Verdict.UNUSUAL),
        ("f_hz", 5.0, Nominal(), Verdict.IMPOSSIBLE),
        ("p_w", 599e3, Nominal(p_w=60e3), Verdict.EXPECTED),
        ("p_w", -601e3, Nominal(p_w=60e3), Verdict.IMPOSSIBLE),
        ("p_w", 1e12, Nominal(), Verdict.EXPECTED),
        ("soc_pct", 100.4, Nominal(), Verdict.UNUSUAL),
        ("soc_pct", 445.0, Nominal(), Verdict.IMPOSSIBLE),
        ("e_import_wh", 1e15, Nominal(), Verdict.EXPECTED),
    ],
)
def test_a_value_is_expected_unusual_or_impossible(quantity: str, value: float, nominal: Nominal, verdict: Verdict) -> None:
    assert judge(point(quantity), value, nominal) is verdict


def test_the_range_of_an_entry_goes_before_the_rule_of_the_quantity() -> None:
    narrow = point("v_v", plausible={"low": 390, "high": 410})
    assert judge(narrow, 400.0, Nominal()) is Verdict.EXPECTED
    assert judge(narrow, 230.0, Nominal()) is Verdict.IMPOSSIBLE


@given(st.floats(190, 270, width=32))
def test_a_float_voltage_with_its_words_exchanged_is_hardly_ever_taken_for_one(value: float) -> None:
    data = struct.pack(">f", value)
    flipped = struct.unpack(">f", data[2:] + data[:2])[0]
    # The low word becomes sign and exponent: an ordinary number of volts needs one exponent out of a few.
    assume(not 0x3580 <= struct.unpack(">H", data[2:])[0] <= 0x4400)
    assume(flipped == flipped)
    assert judge(point("v_v"), flipped, Nominal()) is Verdict.IMPOSSIBLE


@given(st.lists(st.booleans(), max_size=30))
def test_a_device_is_doubted_after_three_impossible_polls_in_a_row_and_trusted_after_one_good(polls: list[bool]) -> None:
    doubt, row = Doubt(), 0
    for impossible in polls:
        row = row + 1 if impossible else 0
        assert doubt.poll(impossible) == (row >= AFTER)
