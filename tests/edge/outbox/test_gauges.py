"""What the outbox says of itself, and what a changed configuration does to it: nothing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from tieline_core.clock import ManualClock
from tieline_core.frame import decode_readings
from tieline_core.ids import EdgeId, PointId
from tieline_core.messages.telemetry import FrameKind, Stream
from tieline_core.quantities import Reading
from tieline_edge.outbox.gauges import FillRate, room
from tieline_edge.outbox.store import Outbox
from tieline_edge.settings import OutboxSettings

EDGE = EdgeId("harbour")
START = datetime(2016, 12, 7, 17, 30, tzinfo=UTC)
MB = 1024 * 1024


def readings(first: int, count: int, device: str = "bat1") -> list[Reading]:
    point = PointId.of(EDGE, device, "p_w")
    return [Reading(point, float(n), START + timedelta(seconds=n)) for n in range(first, first + count)]


def test_the_rate_is_that_of_the_last_hour() -> None:
    rate = FillRate(START)
    assert rate.per_s(START) is None
    for minute in range(120):
        rate.add(6000 if minute < 60 else 600, START + timedelta(minutes=minute))
    assert rate.per_s(START + timedelta(minutes=59, seconds=30)) is not None
    assert abs((rate.per_s(START + timedelta(minutes=120)) or 0.0) - 10.0) < 0.5


def test_room_is_what_the_ring_and_the_disk_leave(tmp_path: Path) -> None:
    path = tmp_path / "outbox.sqlite"
    told = room(path, used=6 * MB, waiting=2 * MB, most=10 * MB, per_s=MB / 3600, usable=True)
    assert told.room_h == 8.0
    assert room(path, used=0, waiting=20 * MB, most=10 * MB, per_s=1.0, usable=True).room_h == 0.0
    assert room(path, used=0, waiting=0, most=10 * MB, per_s=None, usable=True).room_h is None
    # A disk that is not there leaves what is held already.
    assert room(tmp_path / "no" / "x", used=3 * MB, waiting=MB, most=10 * MB, per_s=MB / 3600, usable=True).room_h == 2.0


async def test_the_outbox_tells_depth_age_and_numbers(tmp_path: Path) -> None:
    clock = ManualClock(START)
    keep = OutboxSettings(commit_interval_s=0.0, frame_readings=10, max_bytes=MB)
    async with Outbox.open(tmp_path / "outbox.sqlite", EDGE, keep, clock) as outbox:
        await outbox.relabel(1)
        await outbox.record(readings(0, 100))
        await outbox.mark_acknowledged(Stream.MEASURE, 4)
        await clock.advance(3600)
        row = (await outbox.backlog())[Stream.MEASURE]
        assert (row.frames, row.readings, row.committed_seq, row.next_seq) == (6, 60, 4, 11)
        assert row.oldest_at == START + timedelta(seconds=40)
        told = await outbox.room()
        assert told.usable
        assert 0 < told.waiting_bytes < told.used_bytes < told.max_bytes == MB
        assert told.room_h is not None
        assert told.room_h > 100


async def test_a_changed_configuration_never_touches_what_is_recorded(tmp_path: Path) -> None:
    """Devices renamed and removed, frames of another size, a ring smaller than its content, a shorter age."""
    big = OutboxSettings(commit_interval_s=0.0, frame_readings=10, max_bytes=64 * MB)
    async with Outbox.open(tmp_path / "outbox.sqlite", EDGE, big, ManualClock(START)) as outbox:
        await outbox.relabel(4)
        for start in range(0, 60_000, 10_000):
            await outbox.record(readings(start, 10_000, "old-name"))
        await outbox.mark_acknowledged(Stream.MEASURE, 1000)
        before = await outbox.next_frames(Stream.MEASURE, 0, 100_000)
        used = (await outbox.room()).used_bytes
    assert used > 1.2 * MB
    small = OutboxSettings(commit_interval_s=0.0, frame_readings=500, max_bytes=MB, max_age_days=0.01)
    async with Outbox.open(tmp_path / "outbox.sqlite", EDGE, small, ManualClock(START)) as outbox:
        assert await outbox.next_frames(Stream.MEASURE, 0, 100_000) == before, "opening changes nothing"
        assert await outbox.epoch() == 4
        # Only recording makes room, and it takes what the hub has first.
        await outbox.record(readings(100_000, 500, "new-name"))
        after = await outbox.next_frames(Stream.MEASURE, 0, 100_000)
        assert outbox.counters.lost_readings == 0
        assert [frame for frame in after if 1000 < frame.seq <= 6000] == before[1000:]
        names = {decode_readings(frame.body).points[0] for frame in after if frame.kind is FrameKind.READINGS}
        assert names == {"harbour/old-name/p_w", "harbour/new-name/p_w"}
