"""F37: no time source at a cold start."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tieline_core.clock import ManualClock
from tieline_core.ids import EdgeId, PointId
from tieline_core.messages.telemetry import Event, IssuedForecast, Severity
from tieline_core.quantities import Quality, Reading
from tieline_edge.control.time_watch import Dated, TimeWatch
from tieline_edge.dated_clock import RELEASED, DatedClock, DatedRecorder, last_sign_of_life
from tieline_edge.steady import SteadyTime

RTC = datetime(1970, 1, 1, 0, 2, tzinfo=UTC)
KNOWN = datetime(2026, 3, 1, 12, tzinfo=UTC)
POINT = PointId("harbour/m01/p_w")


async def test_f37_stamps_run_on_from_the_last_known_instant_until_the_time_arrives() -> None:
    """F37: relative time never lies before what was recorded, and its distance to the real one is known in the end."""
    rtc = ManualClock(RTC)
    clock = DatedClock(rtc, KNOWN)
    assert "the clock says 1970-01-01 00:02" in (clock.undated() or "")
    await rtc.advance(600.0)
    assert clock.now() == KNOWN + timedelta(seconds=600)
    rtc.step((KNOWN + timedelta(hours=9) - rtc.now()).total_seconds())
    assert clock.now() == KNOWN + timedelta(hours=9)
    assert clock.undated() is None
    assert clock.behind_s == 9 * 3600 - 600
    rtc.step(-7200.0)
    assert clock.undated() is None, "a step of a running clock is somebody's hand, not a lost one"
    assert (clock.speed(), clock.elapsed_s()) == (1.0, 600.0)
    await clock.sleep(0.0)


def test_a_clock_that_is_right_is_believed_at_once() -> None:
    clock = DatedClock(ManualClock(KNOWN - timedelta(minutes=2)), KNOWN)
    assert clock.undated() is None
    assert clock.behind_s is None
    assert clock.now() == KNOWN - timedelta(minutes=2)


def test_a_stamp_from_a_clock_that_ran_years_ahead_blocks_nobody() -> None:
    """I10: files of 2099 must not keep an edge from its plans for ever; months ahead may be true, and are waited for."""
    assert DatedClock(ManualClock(KNOWN), datetime(2099, 1, 1, tzinfo=UTC)).undated() is None
    assert DatedClock(ManualClock(KNOWN), KNOWN + timedelta(days=90)).undated() is not None
    assert DatedClock(ManualClock(RTC), datetime(2099, 1, 1, tzinfo=UTC)).undated() is not None


def test_the_disk_remembers_what_the_clock_forgot(tmp_path: Path) -> None:
    assert last_sign_of_life(tmp_path / "none") == RELEASED
    assert last_sign_of_life(tmp_path) == RELEASED
    for name, at in (("outbox.sqlite", KNOWN), ("plans.json", KNOWN - timedelta(days=3))):
        (tmp_path / name).write_text("x")
        os.utime(tmp_path / name, (at.timestamp(), at.timestamp()))
    assert last_sign_of_life(tmp_path) == KNOWN


class Kept:
    """A recorder that keeps what it gets."""

    def __init__(self) -> None:
        self.readings: list[Reading] = []
        self.events: list[Event] = []
        self.forecasts: list[IssuedForecast] = []

    async def record(self, readings: Sequence[Reading]) -> None:
        self.readings += readings

    async def record_event(self, event: Event) -> None:
        self.events.append(event)

    async def record_forecast(self, forecast: IssuedForecast) -> None:
        self.forecasts.append(forecast)


async def test_f37_what_is_recorded_on_relative_time_says_so() -> None:
    """F37 (I3): good becomes uncertain, bad stays bad, and an event names its instant as relative."""
    rtc, kept = ManualClock(RTC), Kept()
    clock = DatedClock(rtc, KNOWN)
    recorder = DatedRecorder(kept, clock)
    good, bad = Reading(POINT, 1.0, clock.now()), Reading(POINT, None, clock.now(), Quality.BAD)
    event = Event(
        event_id="event-01", edge_id=EdgeId("harbour"), severity=Severity.ALARM, code="a.code", text="t", at=clock.now()
    )
    await recorder.record([good, bad])
    await recorder.record_event(event)
    rtc.step((KNOWN - RTC).total_seconds())
    await recorder.record([good])
    await recorder.record_event(event)
    step = (1.0,)
    forecast = IssuedForecast(
        point=POINT, model_id="m", issued_at=KNOWN, start=KNOWN, step_s=900, p10=step, p50=step, p90=step, lo90=step, hi90=step
    )
    await recorder.record_forecast(forecast)
    assert [one.quality for one in kept.readings] == [Quality.UNCERTAIN, Quality.BAD, Quality.GOOD]
    assert [one.data for one in kept.events] == [{"relative_time": True}, {}]
    assert kept.forecasts == [forecast]


async def test_the_operator_is_told_of_a_lost_time_of_its_arrival_and_of_steps() -> None:
    rtc = ManualClock(RTC)
    clock = DatedClock(rtc, KNOWN)
    line, watch = SteadyTime(clock), TimeWatch(clock)

    def codes() -> list[str]:
        return [event.code for event in watch.look(clock.now(), line.now())]

    assert codes() == ["clock.undated"]
    await rtc.advance(5.0)
    assert codes() == []
    rtc.step((KNOWN - RTC).total_seconds() + 60.0)
    assert codes() == ["clock.dated"]
    assert codes() == []
    rtc.step(-7200.0)
    events = watch.look(clock.now(), line.now())
    assert [(event.code, event.data["by_s"]) for event in events] == [("clock.stepped", -7200.0)]
    rtc.step(1.0)
    assert codes() == [], "a leap second is no step"


def test_a_simulated_clock_is_beyond_doubt() -> None:
    assert Dated().undated() is None
    assert Dated().behind_s is None
