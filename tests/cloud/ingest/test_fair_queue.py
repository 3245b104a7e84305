"""Turns among senders: nobody waits for another one's backlog, and no order within a sender is lost."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tieline_cloud.ingest.fair_queue import FairQueue


def test_a_sender_with_a_backlog_delays_another_one_by_its_turn_only() -> None:
    queue: FairQueue[tuple[str, int]] = FairQueue(quantum=10)
    for number in range(1000):
        queue.push("flood", ("flood", number), 10)
    queue.push("quiet", ("quiet", 0), 10)
    assert queue.take(3, 10**6) == [("flood", 0), ("quiet", 0), ("flood", 1)]


def test_turns_are_shares_of_work_and_not_of_messages() -> None:
    queue: FairQueue[str] = FairQueue(quantum=100)
    for _ in range(1000):
        queue.push("large", "large", 400)
        queue.push("small", "small", 10)
    taken = queue.take(10_000, 8000)
    assert 0.7 < taken.count("small") * 10 / (taken.count("large") * 400) < 1.4


def test_a_message_larger_than_a_quantum_gets_through() -> None:
    queue: FairQueue[str] = FairQueue(quantum=1)
    queue.push("a", "large", 500)
    assert queue.take(1, 1) == ["large"]
    assert len(queue) == 0


@given(
    st.lists(st.tuples(st.sampled_from("abcd"), st.integers(1, 50)), max_size=80),
    st.integers(1, 7),
    st.integers(1, 100),
)
def test_everything_comes_out_once_and_in_the_order_of_its_sender(pushed: list[tuple[str, int]], most: int, work: int) -> None:
    queue: FairQueue[tuple[str, int]] = FairQueue(quantum=13)
    for number, (sender, cost) in enumerate(pushed):
        queue.push(sender, (sender, number), cost)
    out: list[tuple[str, int]] = []
    while batch := queue.take(most, work):
        assert len(batch) <= most
        out += batch
    assert sorted(number for _, number in out) == list(range(len(pushed)))
    for sender in "abcd":
        numbers = [number for name, number in out if name == sender]
        assert numbers == sorted(numbers)
        assert queue.waiting(sender) == 0
