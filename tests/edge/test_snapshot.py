"""The process image and its frozen views."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from tests.edge.drivers.field import START
from tieline_core.ids import PointId
from tieline_core.quantities import Quality, Reading
from tieline_edge.snapshot import ProcessImage

POINT = PointId("harbour/tr1/p_w")


def at(seconds: float, value: float | None = 1.0, quality: Quality = Quality.GOOD) -> Reading:
    return Reading(POINT, value, START + timedelta(seconds=seconds), quality)


def test_a_frozen_view_does_not_change_with_later_readings() -> None:
    image = ProcessImage()
    image.put([at(0, 1.0)])
    view = image.freeze(START)
    image.put([at(1, 2.0)])
    assert view.value(POINT, 10) == 1.0
    assert image.freeze(START).value(POINT, 10) == 2.0


@given(st.permutations([at(n, float(n)) for n in range(6)]))
def test_the_newest_reading_wins_in_any_order_of_arrival(readings: list[Reading]) -> None:
    image = ProcessImage()
    for reading in readings:
        image.put([reading])
    assert image.freeze(START).readings[POINT].value == 5.0


def test_an_old_stale_bad_or_unknown_value_is_no_number() -> None:
    image = ProcessImage()
    assert image.freeze(START).value(POINT, 10) is None
    assert image.freeze(START).age_s(POINT) == float("inf")
    image.put([at(0)])
    assert image.freeze(START + timedelta(seconds=10)).value(POINT, 10) == 1.0
    assert image.freeze(START + timedelta(seconds=11)).value(POINT, 10) is None
    image.put([at(1, None, Quality.BAD)])
    assert image.freeze(START + timedelta(seconds=1)).value(POINT, 10) is None


def test_marking_stale_keeps_the_number_for_people_and_tells_each_change_once() -> None:
    image = ProcessImage()
    image.put([at(0, 7.0)])
    assert [reading.quality for reading in image.mark_stale([POINT, PointId("harbour/tr1/q_var")])] == [Quality.STALE]
    assert image.mark_stale([POINT]) == []
    view = image.freeze(START)
    assert view.readings[POINT].value == 7.0
    assert view.value(POINT, 10) is None


def test_a_value_from_the_future_decides_nothing() -> None:
    image = ProcessImage()
    image.put([at(3600, 80.0)])
    assert image.freeze(START).value(POINT, 5.0) is None
