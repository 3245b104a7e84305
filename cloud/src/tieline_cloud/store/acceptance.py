"""Which frames of a batch are taken: a function of watermarks, held content and labels. No store is touched here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass

from tieline_cloud.store.ports import LedgerFrame, Verdict, Watermark
from tieline_core.ids import EdgeId
from tieline_core.messages.telemetry import Stream
from tieline_core.timegrid import to_us

#: A stream of an edge.
Lane = tuple[EdgeId, Stream]
#: Where a frame stands: lane, epoch and sequence number.
Label = tuple[EdgeId, Stream, int, int]


@dataclass(frozen=True, slots=True)
class Decision:
    """Verdicts in the order of the frames, and the watermarks after them."""

    verdicts: tuple[Verdict, ...]
    watermarks: dict[Lane, Watermark]

    def taken(self, frames: Sequence[LedgerFrame]) -> list[LedgerFrame]:
        """Frames whose content is to be stored."""
        return [frame for frame, verdict in zip(frames, self.verdicts, strict=True) if verdict is Verdict.ACCEPTED]

    def moving(self, frames: Sequence[LedgerFrame]) -> list[LedgerFrame]:
        """Frames that move their watermark, stored or not."""
        moves = (Verdict.ACCEPTED, Verdict.REPEATED)
        return [frame for frame, verdict in zip(frames, self.verdicts, strict=True) if verdict in moves]


def lane_of(frame: LedgerFrame) -> Lane:
    """The stream a frame belongs to."""
    return frame.edge, frame.stream


def label_of(frame: LedgerFrame) -> Label:
    """The label a frame claims."""
    return frame.edge, frame.stream, frame.epoch, frame.seq


def oldest_us(frame: LedgerFrame) -> int | None:
    """Oldest instant in a frame [us], by which both ends name its hour; None for a skip or a body that cannot be read."""
    instants = [to_us(event.at) for event in frame.events] + [to_us(forecast.issued_at) for forecast in frame.forecasts]
    if frame.readings is not None and len(frame.readings):
        instants.append(int(frame.readings.at_us.min()))
    return min(instants, default=None)


def below(watermarks: Mapping[Lane, Watermark], frames: Iterable[LedgerFrame]) -> list[Label]:
    """Labels whose committed hash is needed to tell a repetition from a conflict."""
    return [
        label_of(frame)
        for frame in frames
        if (mark := watermarks.get(lane_of(frame))) is not None and frame.epoch == mark.epoch and frame.seq <= mark.seq
    ]


def judge(mark: Watermark | None, frame: LedgerFrame, *, held: bool, committed_sha256: str | None) -> Verdict:
    """Judge one frame against the watermark of its stream.

    Args:
        mark: Watermark of the stream, None when the edge was never granted an epoch.
        frame: The frame.
        held: Whether the ledger holds its content for this edge and stream, under whatever label.
        committed_sha256: Hash of the frame committed under its label, None when none is known.
    """
    if mark is None or frame.epoch != mark.epoch:
        return Verdict.FOREIGN
    if frame.seq <= mark.seq:
        # A skip may come late, for frames that had arrived after all; that is no second sender.
        other = frame.skip is None and committed_sha256 is not None and committed_sha256 != frame.sha256
        return Verdict.CONFLICT if other else Verdict.DUPLICATE
    if frame.first_seq > mark.seq + 1:
        return Verdict.GAP
    return Verdict.REPEATED if held else Verdict.ACCEPTED


def decide(
    watermarks: Mapping[Lane, Watermark],
    frames: Sequence[LedgerFrame],
    held: Set[tuple[EdgeId, Stream, str]],
    committed: Mapping[Label, str],
) -> Decision:
    """Judge a batch in its order, each frame against the watermark the one before it left.

    Args:
        watermarks: Of every stream named in the batch whose edge has an epoch.
        frames: The batch.
        held: (edge, stream, sha256) of content the ledger holds, at least for the hashes of the batch.
        committed: Hash by label, at least for the labels :func:`below` names.
    """
    marks = dict(watermarks)
    content = set(held)
    labels = dict(committed)
    verdicts = []
    for frame in frames:
        lane = lane_of(frame)
        identity = (*lane, frame.sha256)
        verdict = judge(marks.get(lane), frame, held=identity in content, committed_sha256=labels.get(label_of(frame)))
        verdicts.append(verdict)
        if verdict in (Verdict.ACCEPTED, Verdict.REPEATED):
            marks[lane] = Watermark(frame.epoch, frame.seq, frame.sha256)
            content.add(identity)
            labels[label_of(frame)] = frame.sha256
    return Decision(tuple(verdicts), marks)
