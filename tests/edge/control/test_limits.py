"""Limits of several bands: the law of DESIGN, as properties and as worked cases."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from tieline_core.ids import DeviceId
from tieline_edge.control.claims import Band, Claim, Failsafe, Interval
from tieline_edge.control.limits import intersect

NOW = datetime(2016, 12, 7, 16, tzinfo=UTC)
SOON = NOW + timedelta(seconds=30)


def limit(band: Band, lo: float, hi: float, source: str = "s") -> Claim:
    return Claim(
        DeviceId("bat1"), band, source, "r", limit=Interval(lo, hi), expires_at=SOON, failsafe=Failsafe(Interval(lo, hi), 9)
    )


ends = st.integers(-20, 20).map(float)
limits = st.lists(
    st.builds(
        lambda band, a, b, n: limit(band, min(a, b), max(a, b), f"s{n}"), st.sampled_from(Band), ends, ends, st.integers(0, 9)
    ),
    max_size=8,
)


@given(limits, st.randoms(use_true_random=False))
def test_the_order_of_the_claims_does_not_matter(claims: list[Claim], rng: random.Random) -> None:
    shuffled = list(claims)
    rng.shuffle(shuffled)
    assert intersect(claims, NOW) == intersect(shuffled, NOW)


@given(limits)
def test_no_lower_band_widens_or_moves_what_a_higher_one_left(claims: list[Claim]) -> None:
    for band in Band:
        above = intersect([one for one in claims if one.band <= band], NOW).interval
        everything = intersect(claims, NOW).interval
        assert above.lo <= everything.lo <= everything.hi <= above.hi


@given(limits)
def test_every_limit_is_either_heard_or_dropped_and_reported(claims: list[Claim]) -> None:
    bounds = intersect(claims, NOW)
    assert len(bounds.active) + len(bounds.dropped) == len(claims)
    assert sum(note.startswith("dropped") for note in bounds.notes) == len(bounds.dropped)


def test_a_lower_limit_that_would_leave_nothing_is_dropped_and_the_rest_of_its_band_counts() -> None:
    bounds = intersect([limit(Band.SAFETY, -9, 0), limit(Band.PLAN, 1, 5, "a"), limit(Band.PLAN, -3, 5, "b")], NOW)
    assert bounds.interval == Interval(-3, 0)
    assert [one.source for one in bounds.dropped] == ["a"]


def test_limits_of_one_band_that_exclude_each_other_give_the_point_nearest_to_zero() -> None:
    assert intersect([limit(Band.ENVELOPE, 5, 9), limit(Band.ENVELOPE, -9, -5)], NOW).interval == Interval(0, 0)
    assert intersect([limit(Band.ENVELOPE, 8, 9), limit(Band.ENVELOPE, 5, 6)], NOW).interval == Interval(6, 6)
    assert intersect([limit(Band.ENVELOPE, -9, -8), limit(Band.ENVELOPE, -6, -5)], NOW).interval == Interval(-6, -6)


def test_the_point_of_an_excluding_band_stays_inside_the_higher_bands() -> None:
    bounds = intersect([limit(Band.SAFETY, 2, 9), limit(Band.PLAN, 6, 9), limit(Band.PLAN, -5, 3)], NOW)
    assert bounds.interval == Interval(3, 3)


def test_an_expired_limit_is_heard_as_its_failsafe() -> None:
    claim = Claim(
        DeviceId("pv1"), Band.ENVELOPE, "dso", "r", limit=Interval(hi=0), expires_at=NOW, failsafe=Failsafe(Interval(hi=4), 60)
    )
    bounds = intersect([claim], NOW)
    assert bounds.interval == Interval(hi=4)
    assert "expired" in bounds.notes[0]
    assert intersect([claim], NOW + timedelta(seconds=60)).active == ()
