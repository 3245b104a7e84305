"""New epochs, and a hub that knows less than it once acknowledged: what is held comes again, what is not is declared."""

from __future__ import annotations

from pathlib import Path

from tests.edge.outbox.samples import START, opened, reading, values
from tieline_core.clock import ManualClock
from tieline_core.messages.telemetry import FrameKind, Held, Skip, SkipReason, Stream
from tieline_edge.settings import OutboxSettings


async def test_a_new_epoch_takes_the_unacknowledged_frames_along_with_their_hashes(tmp_path: Path) -> None:
    async with opened(tmp_path) as outbox:
        await outbox.record([reading(n) for n in range(30)])
        await outbox.relabel(1)
        await outbox.mark_acknowledged(Stream.MEASURE, 1)
        old = await outbox.next_frames(Stream.MEASURE, 1, 9)
        await outbox.relabel(2)
        new = await outbox.next_frames(Stream.MEASURE, 0, 9)
        assert [(frame.epoch, frame.seq) for frame in new] == [(2, 1), (2, 2)]
        assert [frame.sha256 for frame in new] == [frame.sha256 for frame in old]
        # A hub that lost its memory grants number 1 again: the acknowledged frames of then are not in the way.
        await outbox.relabel(1)
        assert values(await outbox.next_frames(Stream.MEASURE, 0, 9)) == [float(n) for n in range(10, 30)]


async def test_a_restored_hub_gets_again_what_is_held_and_is_told_what_is_not(tmp_path: Path) -> None:
    clock = ManualClock(START)
    async with opened(tmp_path, OutboxSettings(commit_interval_s=0.0, frame_readings=10, max_age_days=1), clock) as outbox:
        await outbox.relabel(1)
        await outbox.record([reading(n) for n in range(20)])
        await outbox.mark_acknowledged(Stream.MEASURE, 2)
        await clock.advance(2 * 86_400)
        await outbox.record([reading(n) for n in range(20, 40)])
        await outbox.mark_acknowledged(Stream.MEASURE, 4)
        await outbox.rewind(Stream.MEASURE, 1)
        frames = await outbox.next_frames(Stream.MEASURE, 1, 9)
        assert [(frame.seq, frame.kind) for frame in frames] == [
            (2, FrameKind.SKIP), (3, FrameKind.READINGS), (4, FrameKind.READINGS),
        ]  # fmt: skip
        skip = Skip.from_bytes(frames[0].body, "test")
        assert (skip.first, skip.last, skip.reason) == (2, 2, SkipReason.ACKNOWLEDGED)
        assert (await outbox.backlog())[Stream.MEASURE].frames == 3


async def test_what_a_restored_hub_has_forgotten_comes_again_in_steps_and_across_a_restart(tmp_path: Path) -> None:
    async with opened(tmp_path) as outbox:
        await outbox.relabel(1)
        await outbox.record([reading(n) for n in range(50)])
        await outbox.mark_acknowledged(Stream.MEASURE, 5)
        await outbox.relabel(2)
        await outbox.record([reading(n) for n in range(50, 8050)])
        await outbox.mark_acknowledged(Stream.MEASURE, 800)
        await outbox.record([reading(n) for n in range(8050, 8070)])
        await outbox.relabel(3, Held(epoch=1, watermarks={Stream.MEASURE: 2}))
        while await outbox.take_back():
            pass
        waiting = (await outbox.backlog())[Stream.MEASURE].frames
        assert 256 <= waiting < 256 + 64, "the rest waits in the ring until the hub has taken these"
        assert await outbox.forgotten()
    async with opened(tmp_path) as outbox:
        sent = 0
        while await outbox.forgotten():
            await outbox.take_back()
            frames = await outbox.next_frames(Stream.MEASURE, sent, 1000)
            sent = frames[-1].seq if frames else sent
            await outbox.mark_acknowledged(Stream.MEASURE, sent)
        frames = await outbox.next_frames(Stream.MEASURE, 0, 2000)
        assert [frame.seq for frame in frames] == list(range(1, len(frames) + 1))
        assert values(frames[:2]) == [float(n) for n in range(8050, 8070)], "what the hub never had comes first"
        assert sorted(values(frames)) == [float(n) for n in range(20, 8070)]


async def test_two_restorations_of_the_hub_are_mended_by_what_is_certain_of_both(tmp_path: Path) -> None:
    async with opened(tmp_path) as outbox:
        await outbox.relabel(1)
        await outbox.record([reading(n) for n in range(100)])
        await outbox.mark_acknowledged(Stream.MEASURE, 10)
        await outbox.relabel(4, Held(epoch=1, watermarks={Stream.MEASURE: 3}))
        await outbox.relabel(6, Held(epoch=1, watermarks={Stream.MEASURE: 7}))
        while await outbox.take_back():
            pass
        assert sorted(values(await outbox.next_frames(Stream.MEASURE, 0, 100))) == [float(n) for n in range(30, 100)]
