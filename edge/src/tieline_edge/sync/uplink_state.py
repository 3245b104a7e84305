"""The edge's half of the durable lane as a pure state machine: what to send next, what an answer means.

Time is monotonic seconds handed in. Effects are what the rim must do, in order, before it asks again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from tieline_core.messages.telemetry import Ack, Held, HelloAnswer, Stream

#: Highest epoch a frame can carry (u32 on the wire).
_MAX_EPOCH: Final = 2**32 - 1


@dataclass(frozen=True, slots=True)
class UplinkTimes:
    """Window and wall times of the durable lane.

    Attributes:
        window: Frames of one stream that may be unacknowledged at a time.
        stall_s: Unanswered frames are sent again after this long without progress.
        rehello_s: After this long without progress the edge says hello again; frames the broker has not confirmed yet are
            sent again no earlier, because a thin line only gets thinner by repetitions.
        hello_s: First wait for the answer to a hello; doubles up to ``hello_cap_s``.
        go_back_s: Shortest time between two returns to the same watermark.
    """

    window: int = 64
    stall_s: float = 1.5
    rehello_s: float = 5.0
    hello_s: float = 2.0
    hello_cap_s: float = 15.0
    go_back_s: float = 0.25


@dataclass(frozen=True, slots=True)
class OnTheWay:
    """What the broker says of the messages of this session.

    Attributes:
        count: Frames it has not confirmed (PUBACK): the line or the broker still has them.
        heard_s: When it last confirmed one.
    """

    count: int = 0
    heard_s: float = float("-inf")


NOTHING_ON_THE_WAY: Final = OnTheWay()


@dataclass(frozen=True, slots=True)
class Relabel:
    """Move all unacknowledged frames into this epoch; ``held``: and have sent again what a restored hub has no longer."""

    epoch: int
    held: Held | None = None


@dataclass(frozen=True, slots=True)
class Acknowledge:
    """Everything of the stream up to here is committed."""

    stream: Stream
    seq: int


@dataclass(frozen=True, slots=True)
class Rewind:
    """The hub has less than it once acknowledged."""

    stream: Stream
    seq: int


@dataclass(frozen=True, slots=True)
class SayHello:
    """Publish a hello with a fresh nonce and report it with :func:`hello_said`."""


@dataclass(frozen=True, slots=True)
class Refuse:
    """Something the hub must never say; to be recorded as an ALARM event."""

    code: str
    text: str


Effect = Relabel | Acknowledge | Rewind | SayHello | Refuse


@dataclass(frozen=True, slots=True)
class StreamProgress:
    """One stream of one epoch.

    Attributes:
        acked: Highest committed sequence number.
        sent: Where sending stands; falls back to ``acked`` when frames are sent again.
        highest: Highest number that can have been sent in this epoch, by this process or the one before it.
        moved_at_s: When it last made progress, began to wait, or went back.
        waiting_since_s: Since when frames are out and nothing has been acknowledged; None = none are out.
    """

    acked: int = 0
    sent: int = 0
    highest: int = 0
    moved_at_s: float = 0.0
    waiting_since_s: float | None = None


@dataclass(frozen=True, slots=True)
class UplinkState:
    """The whole lane. ``open`` is False until the newest hello has been answered."""

    epoch: int
    streams: Mapping[Stream, StreamProgress]
    nonce: str | None = None
    open: bool = False
    hello_due_s: float = 0.0
    hellos: int = 0

    def room(self, stream: Stream, times: UplinkTimes) -> int:
        """How many more frames of the stream may be sent now."""
        progress = self.streams[stream]
        return max(0, times.window - (progress.sent - progress.acked)) if self.open else 0


def _with(state: UplinkState, stream: Stream, progress: StreamProgress) -> UplinkState:
    return replace(state, streams={**state.streams, stream: progress})


def begin(epoch: int, acked: Mapping[Stream, int], recorded: Mapping[Stream, int]) -> UplinkState:
    """State at the start of a process.

    Args:
        epoch: Epoch in force, 0 = none.
        acked: Acknowledged sequence number of each stream.
        recorded: Last recorded one; the process before may have sent up to it.
    """
    return UplinkState(epoch, {s: StreamProgress(acked[s], acked[s], recorded[s]) for s in Stream})


def disconnected(state: UplinkState) -> UplinkState:
    """The connection is gone: nothing may be sent until the next hello is answered."""
    return replace(state, open=False, nonce=None, hellos=0)


def hello_wait_s(state: UplinkState, times: UplinkTimes) -> float:
    """How long the next hello may stay unanswered, before jitter."""
    return min(times.hello_cap_s, times.hello_s * 2.0 ** min(state.hellos, 30))


def hello_said(state: UplinkState, nonce: str, due_s: float) -> UplinkState:
    """A hello has been published; nothing is sent until it is answered, another hello at ``due_s``."""
    return replace(state, nonce=nonce, open=False, hello_due_s=due_s, hellos=state.hellos + 1)


def sent(state: UplinkState, stream: Stream, seq: int, now_s: float) -> UplinkState:
    """A frame has been handed to the broker."""
    old = state.streams[stream]
    moved_at_s = now_s if old.sent == old.acked else old.moved_at_s
    waiting_since_s = now_s if old.waiting_since_s is None else old.waiting_since_s
    highest = max(old.highest, seq)
    return _with(state, stream, StreamProgress(old.acked, seq, highest, moved_at_s, waiting_since_s))


def answered(state: UplinkState, answer: HelloAnswer, now_s: float) -> tuple[UplinkState, list[Effect]]:
    """The hub answered a hello; an answer to any but the newest one is ignored.

    So is one of an epoch that has been left: granted epochs only grow, and going back to an old number would let old
    acknowledgements pass for new ones.
    """
    if answer.nonce != state.nonce or answer.epoch < state.epoch:
        return state, []
    if answer.epoch > _MAX_EPOCH:
        return state, [Refuse("uplink.epoch", f"the hub granted epoch {answer.epoch}, the highest is {_MAX_EPOCH}")]
    if answer.epoch != state.epoch:
        # All streams start again at 1; how many frames each has is the outbox's business.
        if any(answer.watermarks.get(stream, 0) for stream in Stream):
            text = f"the hub granted epoch {answer.epoch} with watermarks {_shown(answer.watermarks)}; a new epoch starts at 0"
            return state, [Refuse("uplink.watermark", text)]
        fresh = StreamProgress(moved_at_s=now_s)
        opened = replace(state, epoch=answer.epoch, streams=dict.fromkeys(Stream, fresh), open=True, hellos=0)
        return opened, [Relabel(answer.epoch, answer.held)]
    if state.open:
        return _again(state, now_s), []
    effects: list[Effect] = []
    streams: dict[Stream, StreamProgress] = {}
    for stream, old in state.streams.items():
        mark = answer.watermarks.get(stream, 0)
        if mark > old.highest:
            text = f"the hub claims {stream} {mark}, the highest frame ever sent is {old.highest}"
            return state, [Refuse("uplink.watermark", text)]
        if mark != old.acked:
            effects.append(Acknowledge(stream, mark) if mark > old.acked else Rewind(stream, mark))
        streams[stream] = replace(old, acked=mark, sent=mark, moved_at_s=now_s, waiting_since_s=None)
    return replace(state, streams=streams, open=True, hellos=0), effects


def _again(state: UplinkState, now_s: float) -> UplinkState:
    """The hub repeats its answer to the newest hello: it wants everything unacknowledged again."""
    streams = {stream: replace(old, sent=old.acked, moved_at_s=now_s) for stream, old in state.streams.items()}
    return replace(state, streams=streams)


def _shown(marks: Mapping[Stream, int]) -> str:
    return ", ".join(f"{stream}: {seq}" for stream, seq in marks.items())


def acknowledged(
    state: UplinkState, ack: Ack, now_s: float, times: UplinkTimes, way: OnTheWay = NOTHING_ON_THE_WAY
) -> tuple[UplinkState, list[Effect]]:
    """The hub says what is committed. An acknowledgement above the highest frame sent is refused as a whole."""
    if not state.open or ack.epoch != state.epoch:
        return state, []
    for stream, seq in ack.committed.items():
        if seq > state.streams[stream].highest:
            text = f"{stream} {seq} was acknowledged, the highest frame ever sent is {state.streams[stream].highest}"
            return state, [Refuse("uplink.ack", text)]
    effects: list[Effect] = []
    for stream, seq in ack.committed.items():
        old = state.streams[stream]
        if seq > old.acked:
            effects.append(Acknowledge(stream, seq))
            waiting_since_s = now_s if old.sent > seq else None
            new = replace(old, acked=seq, sent=max(old.sent, seq), moved_at_s=now_s, waiting_since_s=waiting_since_s)
            state = _with(state, stream, new)
        elif seq == old.acked and old.sent > seq and not way.count and now_s - old.moved_at_s >= times.go_back_s:
            # The hub repeats itself although the broker has everything: something between was lost.
            state = _with(state, stream, replace(old, sent=seq, moved_at_s=now_s))
    return state, effects


def tick(
    state: UplinkState, now_s: float, times: UplinkTimes, way: OnTheWay = NOTHING_ON_THE_WAY
) -> tuple[UplinkState, list[Effect]]:
    """Let time pass: send again what stalled, say hello again when nobody answers."""
    if not state.open:
        return state, [SayHello()] if state.nonce is None or now_s >= state.hello_due_s else []
    hello = False
    patience_s = max(times.stall_s, times.rehello_s) if way.count else times.stall_s
    for stream, old in state.streams.items():
        if old.waiting_since_s is not None:
            # A broker that is still being fed is no sign that the hub is away.
            since_s = max(old.waiting_since_s, way.heard_s) if way.count else old.waiting_since_s
            hello = hello or now_s - since_s >= times.rehello_s
        if old.sent > old.acked and now_s - max(old.moved_at_s, way.heard_s) >= patience_s:
            state = _with(state, stream, replace(old, sent=old.acked, moved_at_s=now_s))
    return state, [SayHello()] if hello else []
