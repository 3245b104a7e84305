"""Token buckets by name."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tieline_cloud.ingest import rates
from tieline_cloud.ingest.rates import Buckets, Rate


class Seconds:
    """A monotonic clock set by hand."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_a_burst_passes_then_the_rate_and_another_name_has_its_own() -> None:
    seconds = Seconds()
    buckets = Buckets(Rate(per_s=2.0, burst=3.0), seconds)
    assert [buckets.allow("a") for _ in range(4)] == [True, True, True, False]
    assert buckets.allow("b")
    seconds.now_s = 0.5
    assert [buckets.allow("a") for _ in range(2)] == [True, False]


def test_what_is_larger_than_a_burst_takes_a_whole_one() -> None:
    buckets = Buckets(Rate(per_s=1.0, burst=3.0), Seconds())
    assert buckets.allow("a", 100.0)
    assert not buckets.allow("a", 0.5)


@given(st.lists(st.tuples(st.floats(0, 5), st.floats(0, 4)), max_size=60))
def test_never_more_than_burst_and_rate_together(asked: list[tuple[float, float]]) -> None:
    seconds = Seconds()
    buckets = Buckets(Rate(per_s=1.5, burst=4.0), seconds)
    passed = 0.0
    for pause_s, tokens in asked:
        seconds.now_s += pause_s
        if buckets.allow("a", tokens):
            passed += tokens
        assert passed <= 4.0 + 1.5 * seconds.now_s + 1e-6


def test_endless_names_do_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rates, "_NAMES", 10)
    buckets = Buckets(Rate(per_s=1.0, burst=1.0), Seconds())
    assert all(buckets.allow(f"edge-{n}") for n in range(100))
    assert len(buckets._levels) == 10


@pytest.mark.parametrize("rate", [(0.0, 5.0), (1.0, 0.5)])
def test_a_rate_that_lets_nothing_through_is_an_error(rate: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="lets nothing through"):
        Rate(*rate)
