"""Claims and intervals refuse what makes no sense."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

import pytest

from tieline_core.ids import DeviceId
from tieline_edge.control.claims import NO_LIMIT, Band, Claim, Failsafe, Interval

NOW = datetime(2016, 12, 7, 16, tzinfo=UTC)
BAT = DeviceId("bat1")


@pytest.mark.parametrize(
    ("lo", "hi"), [(1.0, 0.0), (math.nan, 0.0), (0.0, math.nan), (math.inf, math.inf), (-math.inf, -math.inf)]
)
def test_an_empty_interval_cannot_be_made(lo: float, hi: float) -> None:
    with pytest.raises(ValueError, match="no interval"):
        Interval(lo, hi)


def test_zero_watts_and_no_limit_are_different_things() -> None:
    assert Interval(0.0, 0.0) != NO_LIMIT
    assert NO_LIMIT.holds(1e12)
    assert str(NO_LIMIT) == "no limit"
    assert str(Interval(hi=0.0)) == "[-∞, 0] W"
    assert str(Interval(lo=-5000.0)) == "[-5000, ∞] W"


def test_a_claim_wants_exactly_one_thing() -> None:
    with pytest.raises(ValueError, match="exactly one"):
        Claim(BAT, Band.PLAN, "plan", "r", expires_at=NOW)
    with pytest.raises(ValueError, match="exactly one"):
        Claim(BAT, Band.PLAN, "plan", "r", setpoint_w=1.0, closed=True, expires_at=NOW)
    with pytest.raises(ValueError, match="no setpoint"):
        Claim(BAT, Band.PLAN, "plan", "r", setpoint_w=math.nan, expires_at=NOW)


def test_only_interlocks_last_for_ever_and_every_other_limit_declares_its_failsafe() -> None:
    Claim(BAT, Band.INTERLOCK, "tag", "do not operate", limit=Interval(0, 0))
    for band in list(Band)[1:]:
        with pytest.raises(ValueError, match="must expire"):
            Claim(BAT, band, "s", "r", setpoint_w=0.0)
        with pytest.raises(ValueError, match="failsafe"):
            Claim(BAT, band, "s", "r", limit=NO_LIMIT, expires_at=NOW)


def test_an_expired_limit_becomes_its_failsafe_for_the_declared_time_and_then_nothing() -> None:
    claim = Claim(
        BAT, Band.ENVELOPE, "dso", "cap", limit=Interval(hi=9e3), expires_at=NOW, failsafe=Failsafe(Interval(hi=4.2e3), 60)
    )
    assert claim.limit_at(NOW - timedelta(seconds=1)) == Interval(hi=9e3)
    assert claim.limit_at(NOW) == Interval(hi=4.2e3)
    assert claim.limit_at(NOW + timedelta(seconds=59)) == Interval(hi=4.2e3)
    assert claim.limit_at(NOW + timedelta(seconds=60)) is None
    assert Claim(BAT, Band.PLAN, "p", "r", setpoint_w=1.0, expires_at=NOW).limit_at(NOW) is None


def test_a_claim_reads_like_a_sentence() -> None:
    assert str(Claim(BAT, Band.PLAN, "plan", "step 3", setpoint_w=-5e3, expires_at=NOW)) == "plan plan: hold -5000 W (step 3)"
    assert "open" in str(Claim(BAT, Band.SAFETY, "s", "r", closed=False, expires_at=NOW))
    assert "closed" in str(Claim(BAT, Band.SAFETY, "s", "r", closed=True, expires_at=NOW))
    assert "limit [0, 0] W" in str(Claim(BAT, Band.INTERLOCK, "s", "r", limit=Interval(0, 0)))


def test_only_an_interlock_takes_all_hands_off_a_device_and_it_wants_nothing_else() -> None:
    with pytest.raises(ValueError, match="only an interlock"):
        Claim(BAT, Band.OPERATOR, "tag", "work", hands_off=True, expires_at=NOW)
    with pytest.raises(ValueError, match="exactly one"):
        Claim(BAT, Band.INTERLOCK, "tag", "work", hands_off=True, closed=False)
