"""May an edge go on in its epoch? A function of what it says and what the ledger holds; unsure means a new epoch.

A new epoch is always safe: the edge sends everything unacknowledged again under new labels, and content that was
committed before is recognised by its hash. Going on in the old one is safe only when both sides agree on the past.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tieline_cloud.store.ports import Watermark
from tieline_core.messages.telemetry import Hello, Stream, StreamState

#: Hash of a committed frame of the present epoch, None when the ledger holds none under that number.
Lookup = Callable[[Stream, int], str | None]


@dataclass(frozen=True, slots=True)
class HelloVerdict:
    """Whether the edge may go on.

    Attributes:
        reason: Why a new epoch has to be granted; None when it may go on in its own.
        alarming: A person should look.
        restored: The edge is in an epoch this hub never granted: the hub was put back to an older state, and what it
            acknowledged since then is with the edge only.
    """

    reason: str | None = None
    alarming: bool = False
    restored: bool = False


def judge_hello(hello: Hello, marks: Mapping[Stream, Watermark], committed: Lookup, last_boot_id: str | None) -> HelloVerdict:
    """Decide about one hello.

    Args:
        hello: What the edge says.
        marks: Watermarks of all of its streams, empty when it was never granted an epoch.
        committed: Looks up committed hashes of the present epoch.
        last_boot_id: Boot id of the hello before, None when there was none.
    """
    if not marks:
        return HelloVerdict("first hello of this edge", restored=hello.epoch > 0)
    epoch = next(iter(marks.values())).epoch
    if hello.epoch != epoch:
        unused = all(mark.seq == 0 for mark in marks.values())
        if unused and hello.epoch < epoch and hello.boot_id == last_boot_id:
            return HelloVerdict()  # the answer that granted it was lost; grant the same one again
        reason = f"the edge is in epoch {hello.epoch}, the hub in {epoch}"
        return HelloVerdict(reason, alarming=hello.epoch != 0, restored=hello.epoch > epoch)
    for stream, state in hello.streams.items():
        verdict = _judge_stream(stream, state, marks[stream], committed, same_boot=hello.boot_id == last_boot_id)
        if verdict.reason is not None:
            return verdict
    return HelloVerdict()


def _judge_stream(stream: Stream, state: StreamState, mark: Watermark, committed: Lookup, *, same_boot: bool) -> HelloVerdict:
    if state.next_seq <= mark.seq:
        return HelloVerdict(
            f"{stream}: the edge would send {state.next_seq} next, {mark.seq} is committed: it was restored or cloned",
            alarming=True,
        )
    if 0 < state.acked_seq <= mark.seq:
        held = mark.sha256 if state.acked_seq == mark.seq else committed(stream, state.acked_seq)
        if held is not None and state.acked_sha256 is not None and held != state.acked_sha256:
            return HelloVerdict(f"{stream}: frame {state.acked_seq} of the edge has another content here", alarming=True)
    if state.acked_seq < mark.seq and not same_boot:
        # Lost acknowledgements and a cloned image look the same here; content hashes tell them apart.
        return HelloVerdict(f"{stream}: {state.acked_seq} is acknowledged, {mark.seq} committed, and the edge has restarted")
    return HelloVerdict()
