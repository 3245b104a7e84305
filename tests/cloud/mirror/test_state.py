"""Where a mirror stands, as pure values: a step back never goes too short."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from tieline_cloud.mirror.state import MirrorState

START = datetime(2026, 11, 1, tzinfo=UTC)
OVERLAP = timedelta(minutes=10)


@given(st.lists(st.tuples(st.floats(0, 900), st.integers(1, 1000)), min_size=1, max_size=300))
def test_a_step_back_covers_everything_taken_within_the_overlap_before_the_last_write(
    steps: list[tuple[float, int]],
) -> None:
    state, now, history = MirrorState.new(START), START, [(START, 0)]
    for seconds, rows in steps:
        now += timedelta(seconds=seconds)
        state = state.taken(state.position + rows, now, OVERLAP)
        history.append((now, state.position))
    back = state.stepped_back(OVERLAP)
    safe = max((position for at, position in history if at <= now - OVERLAP), default=0)
    assert back.position <= safe
    assert back.stepped_back(OVERLAP) == back
    assert len(state.marks) <= 240


def test_a_step_back_goes_no_further_than_it_has_to() -> None:
    state = MirrorState.new(START)
    for minute in range(1, 120):
        state = state.taken(minute * 100, START + timedelta(minutes=minute), OVERLAP)
    assert 10_700 <= state.stepped_back(OVERLAP).position <= 10_900


def test_a_rebuild_begins_at_the_start_and_ends_where_the_mirror_stood() -> None:
    state = MirrorState.new(START).taken(500, START + timedelta(seconds=1), OVERLAP)
    again = state.rebuilt(START, START + timedelta(hours=1))
    assert (again.position, again.rebuild and again.rebuild.until) == (0, 500)
    half = again.taken(250, START + timedelta(hours=1), OVERLAP)
    assert half.rebuild is not None
    assert half.rebuilt(START, START).rebuild == again.rebuild
    assert half.taken(500, START + timedelta(hours=1), OVERLAP).rebuild is None


def test_a_state_that_cannot_be_read_begins_anew() -> None:
    assert MirrorState.read(b"{", START) == MirrorState.new(START)
    state = MirrorState.new(START).taken(7, START, OVERLAP)
    assert MirrorState.read(state.model_dump_json().encode(), START) == state
