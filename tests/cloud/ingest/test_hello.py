"""When an edge may go on in its epoch, and when it has to start a new one."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tieline_cloud.ingest.hello import HelloVerdict, judge_hello
from tieline_cloud.store.ports import Watermark
from tieline_core.ids import EdgeId
from tieline_core.messages.telemetry import Hello, Stream, StreamState

T0 = datetime(2026, 1, 15, tzinfo=UTC)
NEW = StreamState(next_seq=1, oldest_seq=1, acked_seq=0)


def sha(number: int) -> str:
    return f"{number:064x}"


def hello(next_seq: int = 1, acked: int = 0, *, epoch: int = 3, boot: str = "boot-1", acked_sha: str | None = None) -> Hello:
    state = StreamState(
        next_seq=next_seq, oldest_seq=1, acked_seq=acked, acked_sha256=acked_sha or (sha(acked) if acked else None)
    )
    return Hello(
        edge_id=EdgeId("harbour"),
        epoch=epoch,
        boot_id=boot,
        nonce="n" * 16,
        streams={Stream.ALARM: NEW, Stream.MEASURE: state},
        software="test",
        at=T0,
    )


def marks(seq: int, epoch: int = 3) -> dict[Stream, Watermark]:
    held = {stream: Watermark(epoch, 0, None) for stream in Stream}
    held[Stream.MEASURE] = Watermark(epoch, seq, sha(seq) if seq else None)
    return held


def judged(word: Hello, committed: int, epoch: int = 3, last_boot: str | None = "boot-1") -> HelloVerdict:
    def lookup(stream: Stream, seq: int) -> str | None:
        return sha(seq) if stream is Stream.MEASURE and seq <= committed else None

    return judge_hello(word, marks(committed, epoch), lookup, last_boot)


def test_an_edge_that_agrees_goes_on() -> None:
    assert judged(hello(next_seq=11, acked=10), committed=10) == HelloVerdict()
    assert judged(hello(next_seq=11, acked=10, boot="boot-2"), committed=10) == HelloVerdict()


def test_an_edge_whose_acknowledgements_were_lost_goes_on_when_it_is_the_same_process() -> None:
    assert judged(hello(next_seq=15, acked=4), committed=10) == HelloVerdict()


def test_a_hub_that_was_restored_lets_the_edge_go_back() -> None:
    assert judged(hello(next_seq=15, acked=12), committed=10) == HelloVerdict()


def test_an_unknown_edge_gets_its_first_epoch_without_alarm() -> None:
    verdict = judge_hello(hello(epoch=0), {}, lambda *_: None, None)
    assert verdict.reason == "first hello of this edge"
    assert not verdict.alarming


@pytest.mark.parametrize(
    ("word", "committed", "fragment"),
    [
        (hello(next_seq=6, acked=5), 10, "restored or cloned"),
        (hello(next_seq=10, acked=5), 10, "restored or cloned"),
        (hello(next_seq=20, acked=10, acked_sha=sha(999)), 10, "another content"),
        (hello(next_seq=20, acked=7, acked_sha=sha(999)), 10, "another content"),
        (hello(next_seq=20, acked=10, epoch=2), 10, "in epoch 2, the hub in 3"),
        (hello(next_seq=20, acked=10, epoch=9), 10, "in epoch 9, the hub in 3"),
    ],
)
def test_any_disagreement_about_the_past_means_a_new_epoch_and_an_alarm(word: Hello, committed: int, fragment: str) -> None:
    verdict = judged(word, committed)
    assert fragment in (verdict.reason or "")
    assert verdict.alarming


def test_a_restarted_edge_with_unacknowledged_commits_gets_a_new_epoch() -> None:
    """It could be a clone of an old image as well; the content hashes will tell."""
    verdict = judged(hello(next_seq=15, acked=4, boot="boot-2"), committed=10)
    assert "has restarted" in (verdict.reason or "")
    assert not verdict.alarming


def test_a_lost_answer_is_given_again_and_uses_up_no_epoch() -> None:
    assert judged(hello(epoch=2), committed=0) == HelloVerdict()
    assert judged(hello(epoch=2, boot="boot-2"), committed=0).reason is not None


@given(st.integers(0, 20), st.integers(0, 20), st.integers(1, 25), st.booleans())
def test_no_edge_goes_on_that_would_give_a_committed_number_to_new_content(
    committed: int, acked: int, next_seq: int, same_boot: bool
) -> None:
    word = hello(next_seq=max(next_seq, acked + 1), acked=acked, boot="boot-1" if same_boot else "boot-2")
    verdict = judged(word, committed)
    if verdict.reason is None:
        assert word.streams[Stream.MEASURE].next_seq > committed
        assert same_boot or acked >= committed
