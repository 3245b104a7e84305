"""Rebirth requests: spread over nodes, growing pauses for one, none for those that came by themselves."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from tieline_cloud.ingest.rebirth import RebirthDesk, RebirthPace

A, B = ("tieline", "a"), ("tieline", "b")


def test_wishes_for_one_node_are_one_request_until_its_pause_is_over() -> None:
    desk = RebirthDesk(RebirthPace(pause_s=5.0))
    desk.want(A)
    desk.want(A)
    assert desk.due(100.0) == [A]
    desk.want(A)
    assert (desk.due(104.9), desk.waiting) == ([], 1)
    assert desk.due(105.0) == [A]


def test_a_node_that_needs_it_again_and_again_is_asked_ever_less_often_until_it_has_been_calm() -> None:
    desk = RebirthDesk(RebirthPace(pause_s=5.0, pause_cap_s=40.0, calm_s=60.0))
    asked: list[float] = []
    for tenth in range(3000):
        desk.want(A)
        asked += [tenth / 10 for _ in desk.due(tenth / 10)]
    pauses = [later - before for before, later in pairwise(asked)]
    assert pauses[:5] == [5.0, 10.0, 20.0, 40.0, 40.0]
    desk.born(A)
    calm_s = 300.0 + 40.0 + 60.0
    desk.want(A)
    assert desk.due(calm_s) == [A]
    desk.want(A)
    assert desk.due(calm_s + 5.0) == [A]


def test_a_node_born_by_itself_is_not_asked() -> None:
    desk = RebirthDesk(RebirthPace(burst=1, per_s=1.0))
    desk.want(A)
    desk.want(B)
    assert desk.due(0.0) == [A]
    desk.born(B)
    assert desk.due(10.0) == []


@given(st.lists(st.floats(0.0, 2.0), min_size=1, max_size=60))
def test_no_interval_sees_more_than_its_tokens_and_everybody_has_a_turn(steps: list[float]) -> None:
    pace = RebirthPace(per_s=10.0, burst=5)
    desk = RebirthDesk(pace)
    for number in range(200):
        desk.want(("tieline", f"n{number}"))
    now_s, total, seen = 0.0, 0, set()
    for step_s in steps:
        now_s += step_s
        due = desk.due(now_s)
        total += len(due)
        seen |= set(due)
        assert total <= pace.burst + pace.per_s * (now_s - steps[0]) + 1e-6
    assert len(seen) == total
    for _ in range(200):
        now_s += 1.0
        seen |= set(desk.due(now_s))
    assert (len(seen), desk.waiting) == (200, 0)


def test_a_wish_for_later_waits_and_an_urgent_one_for_the_same_node_does_not() -> None:
    desk = RebirthDesk(RebirthPace(pause_s=0.0))
    desk.want(A, from_s=12.0)
    desk.want(B, from_s=12.0)
    desk.want(B)
    assert desk.due(10.0) == [B]
    assert desk.due(12.0) == [A]
