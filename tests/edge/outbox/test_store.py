"""The outbox: what a caller was told is kept is kept, in order, within bounds, across kills and damage."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.edge.outbox.samples import FAST, START, event, opened, reading, values
from tieline_core.clock import ManualClock
from tieline_core.errors import BadInputError, TransientError
from tieline_core.frame import ReadingBatch, decode_readings, decode_records
from tieline_core.ids import EdgeId, PointId
from tieline_core.messages.telemetry import Event, FrameKind, IssuedForecast, Severity, Skip, SkipReason, Stream
from tieline_core.quantities import Quality, Reading
from tieline_edge.outbox.store import Outbox
from tieline_edge.settings import OutboxSettings


async def test_what_is_recorded_is_read_back_in_frames_of_the_set_size(tmp_path: Path) -> None:
    async with opened(tmp_path) as outbox:
        await outbox.record([reading(n) for n in range(25)])
        await outbox.relabel(1)
        frames = await outbox.next_frames(Stream.MEASURE, 0, 100)
        assert [frame.seq for frame in frames] == [1, 2, 3]
        assert [len(decode_readings(frame.body)) for frame in frames] == [10, 10, 5]
        assert values(frames) == [float(n) for n in range(25)]
        assert [frame.seq for frame in await outbox.next_frames(Stream.MEASURE, 1, 1)] == [2]


async def test_what_it_holds_of_a_point_is_looked_up_beside_the_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[int] = []

    def decoded(body: bytes) -> ReadingBatch:
        threads.append(threading.get_ident())
        return decode_readings(body)

    monkeypatch.setattr("tieline_edge.outbox.recorded.decode_readings", decoded)
    async with opened(tmp_path) as outbox:
        rows = [reading(n) for n in range(25)]
        await outbox.record(rows)
        other = PointId("harbour/nobody/p_w")
        found = await outbox.recorded_instants([rows[0].point, other], 3)
    newest = sorted(row.measured_at for row in rows if row.point == rows[0].point)[-3:]
    assert found == {rows[0].point: newest, other: []}
    assert len(threads) == 3
    assert threading.get_ident() not in threads


async def test_callers_that_come_together_share_a_commit(tmp_path: Path) -> None:
    async with opened(tmp_path, OutboxSettings(commit_interval_s=0.05, frame_readings=1000)) as outbox:
        async with asyncio.TaskGroup() as group:
            for number in range(20):
                group.create_task(outbox.record([reading(number)]))
        assert outbox.counters.commits == 1
        assert outbox.counters.recorded_readings == 20
        await outbox.relabel(1)
        assert len(await outbox.next_frames(Stream.MEASURE, 0, 100)) == 1


async def test_events_and_forecasts_have_streams_of_their_own(tmp_path: Path) -> None:
    forecast = IssuedForecast(
        point=PointId("harbour/site/load_w"), model_id="m", issued_at=START, start=START, step_s=900,
        p10=(1.0,), p50=(2.0,), p90=(3.0,), lo90=(0.5,), hi90=(3.5,),
    )  # fmt: skip
    async with opened(tmp_path) as outbox:
        await outbox.record_event(event(1))
        await outbox.record_forecast(forecast)
        await outbox.relabel(1)
        (alarm,) = await outbox.next_frames(Stream.ALARM, 0, 9)
        (bulk,) = await outbox.next_frames(Stream.BULK, 0, 9)
        assert decode_records(alarm.body) == [event(1)]
        assert decode_records(bulk.body) == [forecast]


async def test_a_monstrous_record_is_refused_alone(tmp_path: Path) -> None:
    async with opened(tmp_path) as outbox:
        with pytest.raises(BadInputError, match="at most 65536 bytes"):
            await outbox.record_event(event(1).model_copy(update={"data": {"x": "y" * 70_000}}))
        await outbox.record_event(event(2))


async def test_what_the_hub_would_refuse_is_refused_here_by_name(tmp_path: Path) -> None:
    async with opened(tmp_path) as outbox:
        with pytest.raises(BadInputError, match="mill/bat1/p_w = 'harbour': a point of another edge"):
            await outbox.record([reading(1), Reading(PointId("mill/bat1/p_w"), 1.0, START)])
        with pytest.raises(BadInputError, match=r"measured_at = '1970-01-01"):
            await outbox.record([Reading(PointId("harbour/bat1/p_w"), 1.0, datetime(1970, 1, 1, tzinfo=UTC))])
        assert outbox.counters.recorded_readings == 0


async def test_frames_stay_after_acknowledgement_and_the_hello_says_so(tmp_path: Path) -> None:
    async with opened(tmp_path) as outbox:
        await outbox.record([reading(n) for n in range(30)])
        await outbox.relabel(4)
        assert await outbox.mark_acknowledged(Stream.MEASURE, 2) == 2
        assert await outbox.mark_acknowledged(Stream.MEASURE, 1) == 0
        frames = await outbox.next_frames(Stream.MEASURE, 0, 9)
        state = (await outbox.states())[Stream.MEASURE]
        assert (state.next_seq, state.oldest_seq, state.acked_seq, state.acked_sha256) == (4, 1, 2, frames[1].sha256)
        assert (await outbox.backlog())[Stream.MEASURE].frames == 1
        assert (await outbox.backlog())[Stream.MEASURE].oldest_at == START + timedelta(seconds=20)
        with pytest.raises(ValueError, match="was never recorded"):
            await outbox.mark_acknowledged(Stream.MEASURE, 4)


async def test_everything_survives_a_restart(tmp_path: Path) -> None:
    async with opened(tmp_path) as outbox:
        await outbox.record([reading(n) for n in range(30)])
        await outbox.relabel(4)
        await outbox.mark_acknowledged(Stream.MEASURE, 1)
        before = await outbox.next_frames(Stream.MEASURE, 0, 9), await outbox.states(), await outbox.epoch()
    async with opened(tmp_path) as outbox:
        assert (await outbox.next_frames(Stream.MEASURE, 0, 9), await outbox.states(), await outbox.epoch()) == before
        await outbox.record([reading(99)])
        assert [frame.seq for frame in await outbox.next_frames(Stream.MEASURE, 3, 9)] == [4]


async def test_the_ring_drops_what_the_hub_has_first_and_declares_what_it_has_not(tmp_path: Path) -> None:
    settings = OutboxSettings(commit_interval_s=0.0, frame_readings=10, max_bytes=1024 * 1024)
    async with opened(tmp_path, settings) as outbox:
        await outbox.relabel(1)
        await outbox.record_event(event(1))
        for start in range(0, 5000, 1000):
            await outbox.record([reading(n) for n in range(start, start + 1000)])
        await outbox.mark_acknowledged(Stream.MEASURE, 450)
        assert await _used(tmp_path) < settings.max_bytes
        start = 5000
        while outbox.counters.evicted_bytes == 0:
            await outbox.record([reading(n) for n in range(start, start + 1000)])
            start += 1000
        assert outbox.counters.lost_readings == 0
        assert (await outbox.states())[Stream.MEASURE].oldest_seq > 1
        outbox.hold(Stream.MEASURE, 460)
        while outbox.counters.lost_readings == 0:
            await outbox.record([reading(n) for n in range(start, start + 1000)])
            start += 1000
        assert await _used(tmp_path) <= settings.max_bytes
        held = await outbox.next_frames(Stream.MEASURE, 450, 10_000)
        assert [frame.seq for frame in held[:10]] == list(range(451, 461))
        assert held[10].kind is FrameKind.SKIP
        skip = Skip.from_bytes(held[10].body, "test")
        assert (skip.first, skip.last, skip.reason) == (461, held[10].seq, SkipReason.EVICTED)
        assert skip.readings == outbox.counters.lost_readings == 10 * (skip.last - skip.first + 1)
        assert [frame.seq for frame in held[11:]] == list(range(skip.last + 1, start // 10 + 1))
        assert len(await outbox.next_frames(Stream.ALARM, 0, 9)) == 1
        # A later eviction grows the same skip instead of leaving a chain of them.
        lost = outbox.counters.lost_readings
        while outbox.counters.lost_readings == lost:
            await outbox.record([reading(n) for n in range(start, start + 1000)])
            start += 1000
        kinds = [frame.kind for frame in await outbox.next_frames(Stream.MEASURE, 450, 10_000)]
        assert kinds.count(FrameKind.SKIP) == 1
        # The hub turns out to have a part of it.
        await outbox.mark_acknowledged(Stream.MEASURE, 462)
        first = Skip.from_bytes((await outbox.next_frames(Stream.MEASURE, 462, 1))[0].body, "test").first
        assert first == 463
        await outbox.relabel(2)
        (again,) = [frame for frame in await outbox.next_frames(Stream.MEASURE, 0, 10_000) if frame.kind is FrameKind.SKIP]
        skip = Skip.from_bytes(again.body, "test")
        assert (again.seq, skip.first, skip.last, skip.readings) == (1, 1, 1, outbox.counters.lost_readings)


def _named(folder: Path, part: str) -> list[Path]:
    return [path for path in folder.iterdir() if part in path.name]


async def _used(folder: Path) -> int:
    with sqlite3.connect(folder / "outbox.sqlite") as db:
        rows = db.execute("SELECT sum(length(body) + 200), (SELECT value FROM meta WHERE key = 'bytes') FROM frames").fetchone()
    db.close()
    assert rows[0] == rows[1]
    return int(rows[0])


async def test_acknowledged_frames_leave_after_their_age_and_others_do_not(tmp_path: Path) -> None:
    clock = ManualClock(START)
    async with opened(tmp_path, OutboxSettings(commit_interval_s=0.0, frame_readings=10, max_age_days=1), clock) as outbox:
        await outbox.relabel(1)
        await outbox.record([reading(n) for n in range(20)])
        await outbox.mark_acknowledged(Stream.MEASURE, 1)
        await clock.advance(2 * 86_400)
        await outbox.record([reading(50)])
        assert [frame.seq for frame in await outbox.next_frames(Stream.MEASURE, 0, 9)] == [2, 3]


async def test_a_disk_error_reaches_every_waiting_caller_and_the_next_commit_works(tmp_path: Path) -> None:
    async with opened(tmp_path) as outbox:
        await outbox.relabel(1)
        await outbox._db.run("CREATE TRIGGER full BEFORE INSERT ON frames BEGIN SELECT raise(ABORT, 'disk is full'); END")
        results = await asyncio.gather(*(outbox.record([reading(n)]) for n in range(3)), return_exceptions=True)
        assert [type(result) for result in results] == [TransientError] * 3
        assert "disk is full" in str(results[0])
        await outbox._db.run("DROP TRIGGER full")
        await outbox.record([reading(9)])
        assert values(await outbox.next_frames(Stream.MEASURE, 0, 9)) == [9.0]


async def test_a_full_disk_costs_old_frames_and_the_reserve_but_not_the_new_readings(tmp_path: Path) -> None:
    async with opened(tmp_path) as outbox:
        await outbox.relabel(1)
        for start in range(0, 3000, 1000):
            await outbox.record([reading(n) for n in range(start, start + 1000)])
        await outbox.mark_acknowledged(Stream.MEASURE, 300)
        reserve = tmp_path / "outbox.sqlite.reserve"
        assert _exists(reserve)
        ((pages,),) = await outbox._db.rows("PRAGMA page_count")
        await outbox._db.run(f"PRAGMA max_page_count={pages + 1}")
        start = 3000
        while outbox.counters.full_disk == 0:
            await outbox.record([reading(n) for n in range(start, start + 100)])
            start += 100
        assert outbox.counters.failed_commits == outbox.counters.lost_readings == 0
        assert values(await outbox.next_frames(Stream.MEASURE, 300, 1000)) == [float(n) for n in range(3000, start)]
        assert not _exists(reserve)


def _exists(path: Path) -> bool:
    return path.exists()


async def test_a_caller_that_gave_up_does_not_disturb_the_others(tmp_path: Path) -> None:
    async with opened(tmp_path, OutboxSettings(commit_interval_s=0.05)) as outbox:
        impatient = asyncio.create_task(outbox.record([reading(1)]))
        patient = asyncio.create_task(outbox.record([reading(2)]))
        await asyncio.sleep(0)
        impatient.cancel()
        await patient
        await outbox.relabel(1)
        assert values(await outbox.next_frames(Stream.MEASURE, 0, 9)) == [1.0, 2.0]


async def test_readings_on_their_way_are_committed_when_the_agent_stops(tmp_path: Path) -> None:
    async with opened(tmp_path, OutboxSettings(commit_interval_s=1.0)) as outbox:
        late = asyncio.create_task(outbox.record([reading(1)]))
        await asyncio.sleep(0)
    await late
    async with opened(tmp_path) as outbox:
        await outbox.relabel(1)
        assert values(await outbox.next_frames(Stream.MEASURE, 0, 9)) == [1.0]


async def test_a_damaged_file_is_moved_aside_and_an_event_says_so(tmp_path: Path) -> None:
    (tmp_path / "outbox.sqlite").write_bytes(b"this is no database" * 1000)
    async with opened(tmp_path) as outbox:
        await outbox.relabel(1)
        (alarm,) = await outbox.next_frames(Stream.ALARM, 0, 9)
        (record,) = decode_records(alarm.body)
        assert isinstance(record, Event)
        assert (record.code, record.severity) == ("outbox.damaged", Severity.ALARM)
    (aside,) = _named(tmp_path, ".damaged-")
    assert aside.read_bytes().startswith(b"this is no database")
    assert aside.name in record.text


async def test_the_outbox_of_another_edge_is_refused_by_name(tmp_path: Path) -> None:
    async with opened(tmp_path):
        pass
    with pytest.raises(BadInputError, match="belongs to another edge, not mill"):
        async with Outbox.open(tmp_path / "outbox.sqlite", EdgeId("mill"), FAST, ManualClock(START)):
            pass


async def test_a_bad_reading_keeps_its_quality(tmp_path: Path) -> None:
    async with opened(tmp_path) as outbox:
        await outbox.record([Reading(PointId("harbour/bat1/p_w"), None, START, Quality.BAD)])
        await outbox.relabel(1)
        (frame,) = await outbox.next_frames(Stream.MEASURE, 0, 9)
        assert decode_readings(frame.body).readings()[0].quality is Quality.BAD


_VICTIM = """
import asyncio, sys
from pathlib import Path
from tests.edge.outbox.samples import opened, reading
async def main():
    async with opened(Path(sys.argv[1])) as outbox:
        number = 0
        async def one(n):
            await outbox.record([reading(n)])
            print(n, flush=True)
        while True:
            await asyncio.gather(*(one(number + k) for k in range(7)))
            number += 7
asyncio.run(main())
"""


@pytest.mark.parametrize("reported", [1, 40, 150])
async def test_whatever_was_reported_before_sigkill_is_there_and_nothing_half(tmp_path: Path, reported: int) -> None:
    def run_and_kill() -> list[int]:
        victim = subprocess.Popen([sys.executable, "-c", _VICTIM, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        assert victim.stdout is not None
        seen = [int(victim.stdout.readline()) for _ in range(reported)]
        victim.kill()
        rest = victim.stdout.read().splitlines(keepends=True)
        victim.stdout.close()
        victim.wait()
        return seen + [int(line) for line in rest if line.endswith("\n")]

    acknowledged = await asyncio.to_thread(run_and_kill)
    async with opened(tmp_path) as outbox:
        await outbox.relabel(1)
        frames = await outbox.next_frames(Stream.MEASURE, 0, 100_000)
        kept = values(frames)
        assert set(acknowledged) <= {int(value) for value in kept}
        assert len(kept) == len(set(kept))
        assert [frame.seq for frame in frames] == list(range(1, len(frames) + 1))
        await outbox.record([reading(10_000_000)])


async def test_an_acknowledgement_costs_what_it_acknowledges_whatever_is_held_or_waits(tmp_path: Path) -> None:
    async with opened(tmp_path) as outbox:
        await outbox.record([reading(n) for n in range(3000)])
        await outbox.relabel(1)
        steps = 0

        def count() -> int:
            nonlocal steps
            steps += 1
            return 0

        await outbox._db._connection.set_progress_handler(count, 1)
        costs: list[int] = []
        # First with hundreds of frames that wait behind it, then with hundreds that were acknowledged before it.
        for seq in (1, 2, 298, 299):
            before = steps
            assert await outbox.mark_acknowledged(Stream.MEASURE, seq) == (296 if seq == 298 else 1)
            costs.append(steps - before)
        assert max(costs[1], costs[3]) < 1.2 * min(costs[1], costs[3])
        assert max(costs[1], costs[3]) < costs[2] / 10
