"""Grids are UTC; a local day has 23, 24 or 25 hours."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tieline_core.timegrid import ceil_to, floor_to, format_step, from_us, grid, local_day, parse_step, to_us

QUARTER = timedelta(minutes=15)
INSTANTS = st.datetimes(datetime(1971, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 (bounds are naive)


@pytest.mark.parametrize(("text", "seconds"), [("PT15M", 900), ("PT1H", 3600), ("PT1H30M", 5400), ("PT1S", 1)])
def test_a_step_reads_and_writes_as_iso_8601(text: str, seconds: int) -> None:
    assert parse_step(text) == timedelta(seconds=seconds)
    assert format_step(parse_step(text)) == text


def test_a_step_beyond_all_calendars_is_refused() -> None:
    with pytest.raises(ValueError, match="longer than a step can be"):
        parse_step("PT999999999999H")


@pytest.mark.parametrize("text", ["", "15", "PT", "PT0M", "P1D", "PT-5M"])
def test_what_is_no_positive_step_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no positive step"):
        parse_step(text)


@given(INSTANTS)
def test_microseconds_are_exact(instant: datetime) -> None:
    assert from_us(to_us(instant)) == instant


def test_a_naive_instant_has_no_microseconds() -> None:
    with pytest.raises(ValueError, match="no time zone"):
        to_us(datetime(2016, 1, 1))  # noqa: DTZ001 (the naive instant is the case)


@given(INSTANTS)
def test_an_instant_lies_in_its_interval(instant: datetime) -> None:
    start, after = floor_to(instant, QUARTER), ceil_to(instant, QUARTER)
    assert start <= instant <= after
    assert after - start in (timedelta(0), QUARTER)


@pytest.mark.parametrize(("day", "quarters"), [(date(2016, 3, 27), 92), (date(2016, 10, 30), 100), (date(2016, 12, 7), 96)])
def test_a_local_day_counts_its_quarter_hours(day: date, quarters: int) -> None:
    start, end = local_day(day, ZoneInfo("Europe/Berlin"))
    assert len(list(grid(start, end, QUARTER))) == quarters
