"""The trace: what is kept, for how long, and how it answers why."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tieline_core.errors import BadInputError
from tieline_core.ids import DeviceId
from tieline_core.messages.command import CommandState
from tieline_edge.control.arbiter import Decision
from tieline_edge.control.claims import Band, Claim, Interval
from tieline_edge.control.executor import Outcome
from tieline_edge.control.trace import Trace, describe, why
from tieline_edge.drivers.capabilities import Action, HoldPower, LimitGeneration, Release, SwitchContact

NOW = datetime(2016, 12, 7, 16, tzinfo=UTC)
BAT = DeviceId("bat1")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "trace.sqlite"


@pytest.fixture
def trace(path: Path) -> Iterator[Trace]:
    opened = Trace.open(path)
    yield opened
    opened.close()


def decision(power_w: float = -5e3) -> Decision:
    winner = Claim(BAT, Band.PLAN, "plan", "plan plan-7, step 3", setpoint_w=-9e3, expires_at=NOW)
    loser = Claim(BAT, Band.DEFAULT, "default", "rest", setpoint_w=0.0, expires_at=NOW)
    limit = Claim(BAT, Band.INTERLOCK, "rating", "limits of the device", limit=Interval(-5e3, 5e3))
    return Decision(
        BAT, HoldPower(power_w, 180.0), winner, (loser,), (limit,), (loser,), Interval(-5e3, 5e3), ("clamped",), {"p_w": 0.4}
    )


def outcome(seconds: float, *, refresh: bool = False) -> Outcome:
    at = NOW + timedelta(seconds=seconds)
    return Outcome(BAT, CommandState.CONFIRMED, HoldPower(-5e3, 180.0), "plan", "WSet -5000", at, refresh)


def test_only_changes_are_kept_and_a_heartbeat_an_hour(trace: Trace) -> None:
    assert trace.decided({BAT: decision()}, NOW) == 1
    assert trace.decided({BAT: decision()}, NOW + timedelta(seconds=1)) == 0
    assert trace.decided({BAT: decision(-4e3)}, NOW + timedelta(seconds=2)) == 1
    assert trace.decided({BAT: decision(-4e3)}, NOW + timedelta(seconds=3602)) == 1


def test_why_tells_winner_losers_limits_ages_and_what_became_of_the_write(trace: Trace, path: Path) -> None:
    trace.decided({BAT: decision()}, NOW)
    trace.happened(outcome(1))
    trace.happened(outcome(61, refresh=True))
    text = why(path, BAT, NOW + timedelta(seconds=70))
    for part in (
        "bat1: hold -5000 W (discharge), decided 2016-12-07T16:00:00+00:00",
        "because  plan plan: hold -9000 W (plan plan-7, step 3)",
        "against  default default: hold 0 W",
        "limit    interlock rating: limit [-5000, 5000] W",
        "dropped",
        "leaves   [-5000, 5000] W",
        "note     clamped",
        "p_w 0.4 s old",
        "confirmed, WSet -5000",
        "confirmed (refresh)",
    ):
        assert part in text
    assert "refresh" not in why(path, BAT, NOW + timedelta(seconds=30))


def test_why_answers_for_the_past_and_for_a_device_nobody_claims(trace: Trace, path: Path) -> None:
    trace.decided({BAT: decision()}, NOW)
    trace.decided({BAT: Decision(BAT, Release())}, NOW + timedelta(minutes=5))
    assert "plan-7" in why(path, BAT, NOW + timedelta(minutes=4))
    assert "nobody claimed" in why(path, BAT, NOW + timedelta(minutes=6))


def test_why_says_what_is_missing(trace: Trace, path: Path) -> None:
    trace.decided({BAT: decision()}, NOW)
    with pytest.raises(BadInputError, match="there is: bat1"):
        why(path, DeviceId("bat9"), NOW)
    with pytest.raises(BadInputError, match="nothing is kept"):
        why(path, BAT, NOW - timedelta(seconds=1))
    with pytest.raises(BadInputError, match="no trace yet"):
        why(path.with_name("other.sqlite"), BAT, NOW)


def test_the_ring_stays_within_its_size(path: Path) -> None:
    trace = Trace.open(path, max_bytes=400_000)
    for number in range(6000):
        trace.happened(outcome(number))
    trace.close()
    assert path.stat().st_size < 1_000_000
    assert "WSet" not in why_writes(path, 100)
    assert "WSet" in why_writes(path, 6000)


def why_writes(path: Path, seconds: int) -> str:
    again = Trace.open(path)
    row = again._db.execute(
        "SELECT detail FROM trace WHERE at_us <= ? ORDER BY id DESC LIMIT 1",
        (int((NOW + timedelta(seconds=seconds)).timestamp() * 1e6),),
    ).fetchone()
    again.close()
    return "" if row is None else str(row[0])


def test_an_unreadable_file_is_set_aside_because_a_trace_never_stops_control(path: Path) -> None:
    path.parent.mkdir(parents=True)
    path.write_bytes(b"this is no database, whatever its name says" * 100)
    opened = Trace.open(path)
    assert opened.decided({BAT: decision()}, NOW) == 1
    opened.close()
    assert path.with_name("trace.sqlite.unreadable").exists()


@pytest.mark.parametrize(
    ("action", "words"),
    [
        (None, "leave alone"),
        (HoldPower(5e3, 1.0), "hold 5000 W (charge)"),
        (HoldPower(0.0, 1.0), "hold 0 W (rest)"),
        (LimitGeneration(None, 1.0), "no limit of generation"),
        (LimitGeneration(-12e3, 1.0), "deliver at most 12000 W"),
        (SwitchContact(closed=True), "close"),
        (SwitchContact(closed=False), "open"),
        (Release(), "release to its own default"),
    ],
)
def test_actions_in_words(action: Action | None, words: str) -> None:
    assert describe(action) == words


def test_a_disk_that_refuses_costs_the_explanation_and_not_the_control(path: Path) -> None:
    trace = Trace.open(path)
    trace._db.execute("DROP TABLE trace")
    assert trace.decided({BAT: decision()}, NOW) == 1
    trace.happened(outcome(1))
    assert trace.lost == 2
    trace.close()
