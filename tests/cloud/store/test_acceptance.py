"""The laws of acceptance: whatever the link does, a stream is committed in order, once, without holes."""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from tieline_cloud.store.acceptance import Decision, Label, below, decide, label_of
from tieline_cloud.store.ports import LedgerFrame, Verdict, Watermark
from tieline_core.ids import EdgeId
from tieline_core.messages.telemetry import Stream

T0 = datetime(2026, 1, 15, tzinfo=UTC)
EDGE = EdgeId("harbour")
LANE = (EDGE, Stream.MEASURE)


def frame(seq: int, epoch: int = 1, content: int | None = None) -> LedgerFrame:
    number = seq if content is None else content
    return LedgerFrame(EDGE, epoch, Stream.MEASURE, seq, seq, f"{number:064x}", T0)


def run(batches: list[list[LedgerFrame]]) -> tuple[Watermark, list[str], list[Decision]]:
    """Commit batches one after the other; returns the watermark, the content stored in order and the decisions."""
    marks = {LANE: Watermark(1, 0, None)}
    held: set[tuple[EdgeId, Stream, str]] = set()
    labels: dict[Label, str] = {}
    stored: list[str] = []
    decisions = []
    for batch in batches:
        needed = below(marks, batch)
        decision = decide(marks, batch, held, {label: sha for label, sha in labels.items() if label in needed})
        stored += [row.sha256 for row in decision.taken(batch)]
        for row in decision.moving(batch):
            held.add((*LANE, row.sha256))
            labels[label_of(row)] = row.sha256
        marks = decision.watermarks
        decisions.append(decision)
    return marks[LANE], stored, decisions


def test_a_stream_in_order_is_taken_whole() -> None:
    mark, stored, _ = run([[frame(1), frame(2)], [frame(3)]])
    assert mark == Watermark(1, 3, f"{3:064x}")
    assert len(stored) == 3


@given(st.lists(st.lists(st.integers(1, 8), max_size=12), max_size=12))
def test_any_loss_repetition_and_order_stores_a_prefix_exactly_once(arrivals: list[list[int]]) -> None:
    mark, stored, _ = run([[frame(seq) for seq in batch] for batch in arrivals])
    assert stored == [f"{seq:064x}" for seq in range(1, mark.seq + 1)]


@given(st.lists(st.integers(1, 6), max_size=20), st.data())
def test_how_arrivals_fall_into_batches_changes_nothing(arrivals: list[int], data: st.DataObject) -> None:
    frames = [frame(seq) for seq in arrivals]
    cut = data.draw(st.integers(0, len(frames)))
    one, many, two = run([frames]), run([[row] for row in frames]), run([frames[:cut], frames[cut:]])
    assert one[:2] == many[:2] == two[:2]
    verdicts = [[verdict for decision in case[2] for verdict in decision.verdicts] for case in (one, many, two)]
    assert verdicts[0] == verdicts[1] == verdicts[2]


@given(st.lists(st.tuples(st.integers(1, 6), st.integers(1, 3)), max_size=30))
def test_two_senders_under_one_name_are_noticed_and_never_mixed_silently(arrivals: list[tuple[int, int]]) -> None:
    """Whenever another content claims a committed label, it is a conflict; the stored content stays the first one."""
    frames = [frame(seq, content=seq * 100 + sender) for seq, sender in arrivals]
    mark, stored, decisions = run([[row] for row in frames])
    first: dict[int, str] = {}
    for row, decision in zip(frames, decisions, strict=True):
        if decision.verdicts[0] is Verdict.ACCEPTED:
            first[row.seq] = row.sha256
        elif row.seq in first:
            expected = Verdict.DUPLICATE if first[row.seq] == row.sha256 else Verdict.CONFLICT
            assert decision.verdicts[0] is expected
    assert stored == [first[seq] for seq in range(1, mark.seq + 1)]


@given(st.integers(2, 5), st.integers(1, 9))
def test_a_frame_of_another_epoch_never_moves_a_watermark(epoch: int, seq: int) -> None:
    mark, stored, decisions = run([[frame(seq, epoch=epoch)]])
    assert (mark.seq, stored) == (0, [])
    assert decisions[0].verdicts == (Verdict.FOREIGN,)


def test_a_skip_that_reaches_over_the_watermark_is_taken() -> None:
    skip = LedgerFrame(EDGE, 1, Stream.MEASURE, 1, 5, "f" * 64, T0)
    mark, _, decisions = run([[frame(1), skip, frame(6)]])
    assert decisions[0].verdicts == (Verdict.ACCEPTED,) * 3
    assert mark.seq == 6
