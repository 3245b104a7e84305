"""The process image and its frozen views."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from tests.edge.drivers.field import START
from tieline_core.clock import ManualClock
from tieline_core.ids import PointId
from tieline_core.quantities import Quality, Reading
from tieline_edge.snapshot import ProcessImage, Watch
from tieline_edge.steady import SteadyTime

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


def test_a_step_of_the_clock_makes_nothing_older_and_keeps_nothing_fresh_out() -> None:
    clock = ManualClock(START)
    image = ProcessImage(clock, SteadyTime(clock))
    image.put([Reading(POINT, 1.0, clock.now())])
    for step_s in (7200.0, -14400.0):
        clock.step(step_s)
        assert image.freeze(clock.now()).value(POINT, 5.0) is not None, step_s
    image.put([Reading(POINT, 2.0, clock.now())])
    assert image.freeze(clock.now()).value(POINT, 5.0) == 2.0, "stamped two hours before the last one, and newer"


async def test_after_a_step_back_a_silent_device_still_grows_old() -> None:
    clock = ManualClock(START)
    image = ProcessImage(clock, SteadyTime(clock))
    image.put([Reading(POINT, 1.0, clock.now())])
    measured = image.freeze(clock.now()).measured_at(POINT)
    clock.step(-7200.0)
    await clock.advance(30.0)
    view = image.freeze(clock.now())
    assert view.age_s(POINT) == 30.0
    assert view.value(POINT, 10.0) is None
    assert view.measured_at(POINT) == measured


async def test_the_steady_line_never_goes_back_over_a_restart() -> None:
    clock = ManualClock(START)
    line = SteadyTime(clock)
    await clock.advance(10.0)
    clock.step(3600.0)
    assert line.now() == START + timedelta(seconds=10)
    after = SteadyTime(ManualClock(datetime(1970, 1, 1, tzinfo=UTC)))
    after.resume(line.now())
    assert after.now() == line.now()


async def test_a_clock_that_was_set_ends_no_minimum_time_at_the_next_start() -> None:
    clock = ManualClock(START)
    line = SteadyTime(clock)
    await clock.advance(10.0)
    clock.step(7200.0)
    at, utc = line.now(), clock.now()
    after = SteadyTime(ManualClock(utc + timedelta(seconds=20)))
    after.resume(at, utc)
    assert after.now() == at + timedelta(seconds=20)
    behind = SteadyTime(ManualClock(utc - timedelta(hours=3)))
    behind.resume(at, utc)
    assert behind.now() == at
    far = SteadyTime(ManualClock(utc + timedelta(days=40)))
    far.resume(at, at + timedelta(days=30))
    assert far.now() == utc + timedelta(days=40)


def test_a_watched_level_is_told_when_it_is_crossed_and_not_while_it_stays_crossed() -> None:
    image = ProcessImage()
    image.watch([Watch(POINT, 100.0), Watch(POINT, 120.0)])
    told = []
    for second, value in enumerate([99.0, 100.0, 101.0, 105.0, 121.0, 130.0, 90.0, 101.0]):
        image.crossed.clear()
        image.put([at(second, value)])
        told.append(image.crossed.is_set())
    assert told == [False, False, True, False, True, False, False, True]


def test_a_falling_level_is_watched_too_and_a_first_reading_beyond_it_counts() -> None:
    image = ProcessImage()
    image.watch([Watch(POINT, 49.8, rising=False)])
    image.put([at(0, 49.7)])
    assert image.crossed.is_set()


def test_what_is_bad_old_or_no_longer_watched_calls_for_nothing() -> None:
    image = ProcessImage()
    image.watch([Watch(POINT, 100.0)])
    image.put([at(5, None, Quality.BAD), at(1, 150.0)])
    assert not image.crossed.is_set()
    image.watch([])
    image.put([at(6, 150.0)])
    assert not image.crossed.is_set()


def test_points_of_a_device_that_is_gone_are_forgotten_and_may_come_again() -> None:
    image = ProcessImage(ManualClock(START), SteadyTime(ManualClock(START)))
    image.put([at(0)])
    image.forget([POINT, PointId("harbour/tr1/never_seen")])
    assert image.freeze(START).readings == {}
    image.put([at(-60, 3.0)])
    assert image.freeze(START).readings[POINT].value == 3.0
