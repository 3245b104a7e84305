"""Readings refuse what is not a value; rounding is the same at every border."""

from __future__ import annotations

import math
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tieline_core.ids import PointId
from tieline_core.quantities import QUANTITIES, Quality, Reading, round_to

AT = datetime(2016, 12, 7, 17, tzinfo=UTC)
POINT = PointId("harbour/tr1/p_w")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_reading_refuses_what_is_not_finite(value: float) -> None:
    with pytest.raises(ValueError, match="not a finite number"):
        Reading(POINT, value, AT)
    with pytest.raises(ValueError, match="not a finite number"):
        round_to(value, -1)


def test_a_bad_value_is_never_a_number() -> None:
    with pytest.raises(ValueError, match="carries no number"):
        Reading(POINT, 1.0, AT, Quality.BAD)
    assert Reading(POINT, None, AT, Quality.BAD).value is None


def test_a_good_reading_needs_a_number_and_zero_is_one() -> None:
    with pytest.raises(ValueError, match="needs a number"):
        Reading(POINT, None, AT)
    assert Reading(POINT, 0.0, AT).value == 0.0


def test_a_naive_instant_is_refused() -> None:
    with pytest.raises(ValueError, match="no time zone"):
        Reading(POINT, 1.0, datetime(2016, 12, 7))  # noqa: DTZ001 (the naive instant is the case)


def test_the_key_of_every_quantity_ends_in_its_unit() -> None:
    suffix = {"W": "_w", "var": "_var", "VA": "_va", "A": "_a", "Hz": "_hz", "Wh": "_wh", "%": "_pct", "°C": "_degc", "V": "_v"}
    for quantity in QUANTITIES.values():
        assert quantity.unit == "" or quantity.key.endswith(suffix[quantity.unit]), quantity


@pytest.mark.parametrize(
    ("value", "exponent", "expected"), [(1.26, -1, 1.3), (1234.0, 1, 1230.0), (0.125, -2, 0.12), (7.5, 0, 8.0)]
)
def test_rounding_is_to_the_power_of_ten(value: float, exponent: int, expected: float) -> None:
    assert round_to(value, exponent) == expected


@given(st.floats(-1e12, 1e12), st.integers(-3, 3))
def test_rounding_twice_changes_nothing(value: float, exponent: int) -> None:
    once = round_to(value, exponent)
    assert round_to(once, exponent) == once


def test_only_good_uncertain_and_substituted_values_may_decide() -> None:
    assert [quality for quality in Quality if quality.usable] == [Quality.GOOD, Quality.UNCERTAIN, Quality.SUBSTITUTED]
