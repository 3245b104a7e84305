"""A damaged outbox: whatever breaks in the file, the agent starts, keeps what can be read and says what cannot."""

from __future__ import annotations

import asyncio
import random
import shutil
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tieline_core.clock import ManualClock
from tieline_core.errors import BadInputError, TransientError
from tieline_core.frame import Frame, decode_readings, decode_records
from tieline_core.ids import EdgeId, PointId
from tieline_core.messages.telemetry import Event, FrameKind, Skip, SkipReason, Stream
from tieline_core.quantities import Reading
from tieline_edge.outbox.sqlite_pages import PageFile, read_log
from tieline_edge.outbox.store import Outbox
from tieline_edge.settings import OutboxSettings

EDGE = EdgeId("harbour")
START = datetime(2016, 12, 7, 17, 30, tzinfo=UTC)
FAST = OutboxSettings(commit_interval_s=0.0, frame_readings=500)
PAGE = 4096
FRAMES = 24
ACKED = 8


def readings(frame: int, count: int = 500) -> list[Reading]:
    """Readings of one frame that do not compress: its body spills over several pages."""
    rng = random.Random(frame)
    point = PointId.of(EDGE, "bat1", "p_w")
    first = frame * count
    return [
        Reading(point, rng.randrange(10**9) / 10, START + timedelta(seconds=first + n, microseconds=rng.randrange(10**6)))
        for n in range(count)
    ]


@asynccontextmanager
async def opened(folder: Path, edge: EdgeId = EDGE, clock: ManualClock | None = None) -> AsyncIterator[Outbox]:
    async with Outbox.open(folder / "outbox.sqlite", edge, FAST, clock or ManualClock(START)) as outbox:
        yield outbox


async def fill(folder: Path) -> None:
    async with opened(folder) as outbox:
        await outbox.relabel(3)
        for frame in range(FRAMES):
            await outbox.record(readings(frame))
        await outbox.mark_acknowledged(Stream.MEASURE, ACKED)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a full outbox, its log emptied."""
    folder = tmp_path_factory.mktemp("filled")
    asyncio.run(fill(folder))
    return folder


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose outbox stands in the log for the most part, as after a kill."""
    folder = tmp_path_factory.mktemp("logged")

    async def run() -> None:
        work = folder / "work"
        async with opened(work) as outbox:
            await outbox.relabel(3)
            for frame in range(FRAMES):
                await outbox.record(readings(frame))
            for path in (work / "outbox.sqlite", work / "outbox.sqlite-wal"):
                shutil.copy(path, folder)

    asyncio.run(run())
    return folder


def copied(source: Path, folder: Path) -> Path:
    for path in source.glob("outbox.sqlite*"):
        if path.is_file() and not path.name.endswith("-shm"):
            shutil.copy(path, folder)
    return folder / "outbox.sqlite"


def _named(folder: Path, part: str) -> list[Path]:
    return [path for path in folder.iterdir() if part in path.name]


def first_values(frames: list[Frame]) -> set[float]:
    """The first value of each readings frame: its name in these tests."""
    return {round(float(decode_readings(frame.body).values[0]), 1) for frame in frames if frame.kind is FrameKind.READINGS}


NAMES = {float(readings(frame)[0].value or 0.0): frame for frame in range(FRAMES)}


async def rescued(folder: Path) -> tuple[set[int], int, list[str]]:
    """Open what is there: waiting frames by number, frames declared lost, alarms; and the new outbox must work."""
    async with opened(folder) as outbox:
        await outbox.relabel(9)
        await outbox.record(readings(1000))
        try:
            frames = await outbox.next_frames(Stream.MEASURE, 0, 1000)
        except TransientError:
            # A garbled body shows when it is read; the lane comes back after the repair, as with a new session.
            await outbox.record(readings(1001))
            await outbox.relabel(10)
            frames = await outbox.next_frames(Stream.MEASURE, 0, 1000)
        assert [frame.seq for frame in frames] == list(range(1, len(frames) + 1))
        skips = [Skip.from_bytes(frame.body, "test") for frame in frames if frame.kind is FrameKind.SKIP]
        assert all(skip.reason is SkipReason.DAMAGED for skip in skips)
        got = first_values(frames)
        assert float(readings(1000)[0].value or 0.0) in got
        alarms = [
            record.text
            for frame in await outbox.next_frames(Stream.ALARM, 0, 100)
            for record in decode_records(frame.body)
            if isinstance(record, Event)
        ]
        return {NAMES[value] for value in got if value in NAMES}, len(skips), alarms


async def test_each_page_in_turn_may_break_and_only_what_lay_on_it_is_lost(filled: Path, tmp_path: Path) -> None:
    """Property over all pages: random bytes, zeros; never more than the frames on that page, never silently."""
    size = (filled / "outbox.sqlite").stat().st_size
    waiting = set(range(ACKED, FRAMES))
    worst = 0
    for page in range(size // PAGE):
        folder = tmp_path / str(page)
        folder.mkdir()
        path = copied(filled, folder)
        rng = random.Random(page)
        data = bytearray(path.read_bytes())
        data[page * PAGE : (page + 1) * PAGE] = bytes(PAGE) if page % 2 else rng.randbytes(PAGE)
        path.write_bytes(data)
        kept, skips, alarms = await rescued(folder)
        if kept >= waiting:
            continue
        # Reading a garbled frame is what shows the damage of a page SQLite does not look at.
        assert skips == 1, page
        assert any("lost:" in alarm for alarm in alarms), page
        worst = max(worst, len(waiting - kept))
        shutil.rmtree(folder)
    assert 0 < worst <= 4


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.7, 0.999])
async def test_a_truncated_file_gives_what_is_left_of_it(filled: Path, tmp_path: Path, share: float) -> None:
    path = copied(filled, tmp_path)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    kept, _, alarms = await rescued(tmp_path)
    assert len(kept) >= int((FRAMES - ACKED) * (share - 0.45))
    assert share == 0.0 or any("The outbox was damaged" in alarm for alarm in alarms)


async def test_random_bytes_are_no_outbox_and_nothing_is_taken_from_them(tmp_path: Path) -> None:
    (tmp_path / "outbox.sqlite").write_bytes(random.Random(1).randbytes(300_000))
    kept, _, alarms = await rescued(tmp_path)
    assert kept == set()
    assert "saved: 0 waiting frames" in alarms[0]


async def test_what_the_hub_has_stays_out_of_the_way_but_can_be_backfilled(filled: Path, tmp_path: Path) -> None:
    path = copied(filled, tmp_path)
    data = bytearray(path.read_bytes())
    data[:PAGE] = bytes(PAGE)
    path.write_bytes(data)
    kept, skips, alarms = await rescued(tmp_path)
    assert (kept, skips) == (set(range(ACKED, FRAMES)), 0)
    assert f"saved: {FRAMES - ACKED} waiting frames with {(FRAMES - ACKED) * 500} readings and {ACKED} the hub has" in alarms[0]
    assert "lost: nothing" in alarms[0]
    with sqlite3.connect(path) as db:
        assert db.execute("SELECT count(*) FROM frames WHERE acked = 1").fetchone() == (ACKED,)
    db.close()


async def test_a_log_cut_anywhere_leaves_a_prefix_and_what_was_before_it(logged: Path, tmp_path: Path) -> None:
    log = (logged / "outbox.sqlite-wal").read_bytes()
    rng = random.Random(5)
    for number, cut in enumerate(sorted(rng.randrange(len(log)) for _ in range(12))):
        folder = tmp_path / str(number)
        folder.mkdir()
        copied(logged, folder)
        (folder / "outbox.sqlite-wal").write_bytes(log[:cut])
        kept, _, _ = await rescued(folder)
        assert kept == set(range(len(kept)))


async def test_a_log_broken_in_its_middle_costs_only_what_was_there(logged: Path, tmp_path: Path) -> None:
    path = copied(logged, tmp_path)
    log = bytearray((logged / "outbox.sqlite-wal").read_bytes())
    middle = 32 + (len(log) // (24 + PAGE) // 2) * (24 + PAGE) + 500
    log[middle : middle + 64] = bytes(byte ^ 0xFF for byte in log[middle : middle + 64])
    path.with_name("outbox.sqlite-wal").write_bytes(log)
    assert read_log(bytes(log)).broken
    kept, _, alarms = await rescued(tmp_path)
    assert len(kept) >= FRAMES - 2
    assert any("The outbox was damaged" in alarm for alarm in alarms)


async def test_a_deleted_log_leaves_an_older_outbox_that_goes_on(logged: Path, tmp_path: Path) -> None:
    copied(logged, tmp_path)
    (tmp_path / "outbox.sqlite-wal").unlink()
    kept, _, _ = await rescued(tmp_path)
    assert kept == set(range(len(kept)))


def test_a_power_cut_in_the_last_commit_is_no_damage(logged: Path) -> None:
    log = (logged / "outbox.sqlite-wal").read_bytes()
    assert not read_log(log).broken
    assert not read_log(log[:-PAGE]).broken
    torn = bytearray(log)
    torn[-3 * (24 + PAGE) : -3 * (24 + PAGE) + 100] = bytes(100)
    assert not read_log(bytes(torn)).broken


async def test_damage_that_shows_while_running_is_repaired_under_the_callers_feet(tmp_path: Path) -> None:
    async with opened(tmp_path) as outbox:
        await outbox.relabel(3)
        for frame in range(4):
            await outbox.record(readings(frame))
        await outbox._db.run("UPDATE frames SET body = zeroblob(100) WHERE seq = 2")
        generation = outbox.generation
        with pytest.raises(TransientError, match="another content than was kept"):
            await outbox.next_frames(Stream.MEASURE, 0, 9)
        async with asyncio.timeout(60):
            await outbox.record(readings(4))
        assert outbox.generation == generation + 1
        assert await outbox.next_frames(Stream.MEASURE, 0, 9) == []
        assert await outbox.mark_acknowledged(Stream.MEASURE, 4) == 0, "an acknowledgement of the old file means nothing"
        await outbox.relabel(4)
        frames = await outbox.next_frames(Stream.MEASURE, 0, 9)
        assert {NAMES[value] for value in first_values(frames)} == {0, 2, 3, 4}
        assert [frame.kind for frame in frames].count(FrameKind.SKIP) == 1


async def test_a_commit_that_meets_damage_is_kept_in_the_new_file_and_its_caller_never_knows(tmp_path: Path) -> None:
    async with opened(tmp_path) as outbox:
        await outbox.relabel(3)
        await outbox.record(readings(0))
        await outbox._db.run("UPDATE meta SET value = 'garbled' WHERE key = 'epoch'")
        await outbox._db.run("PRAGMA wal_checkpoint(TRUNCATE)")
        await outbox.record(readings(1))
        assert (outbox.counters.failed_commits, outbox.generation) == (0, 1)
        await outbox.relabel(4)
        frames = await outbox.next_frames(Stream.MEASURE, 0, 9)
        assert {NAMES[value] for value in first_values(frames)} == {0, 1}


async def test_a_kill_while_salvaging_is_made_up_for_at_the_next_start(filled: Path, tmp_path: Path) -> None:
    copied(filled, tmp_path).rename(tmp_path / "outbox.sqlite.unsalvaged-20161207T173000000000Z-0")
    async with opened(tmp_path) as outbox:
        await outbox.record(readings(0))
    for path in _named(tmp_path, ".damaged-"):
        path.rename(path.with_name(path.name.replace("damaged", "unsalvaged")))
    kept, skips, _ = await rescued(tmp_path)
    assert (kept, skips) == ({0, *range(ACKED, FRAMES)}, 0)
    assert [path.name for path in _named(tmp_path, ".damaged-")] == ["outbox.sqlite.damaged-20161207T173000000000Z-0"]


async def test_a_damaged_outbox_of_another_edge_gives_nothing(filled: Path, tmp_path: Path) -> None:
    path = copied(filled, tmp_path)
    data = bytearray(path.read_bytes())
    data[2 * PAGE : 3 * PAGE] = bytes(PAGE)
    path.rename(tmp_path / "outbox.sqlite.unsalvaged-20161207T173000000000Z-0")
    async with opened(tmp_path, EdgeId("mill")) as outbox:
        assert (await outbox.backlog())[Stream.MEASURE].frames == 0
        assert (await outbox.backlog())[Stream.ALARM].frames == 1


async def test_a_whole_outbox_of_another_edge_or_a_newer_release_is_never_touched(filled: Path, tmp_path: Path) -> None:
    path = copied(filled, tmp_path)
    with pytest.raises(BadInputError, match="belongs to another edge"):
        async with opened(tmp_path, EdgeId("mill")):
            pass
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 7")
    db.close()
    with pytest.raises(BadInputError, match="newer release"):
        async with opened(tmp_path):
            pass


async def test_an_outbox_of_the_first_release_is_taken_over_with_its_content(filled: Path, tmp_path: Path) -> None:
    path = copied(filled, tmp_path)
    with sqlite3.connect(path) as db:
        db.executescript(
            "DROP INDEX frames_by_hour; DROP INDEX frames_waiting;"
            "CREATE INDEX frames_waiting ON frames (acked, stream, size, first_us); PRAGMA user_version = 1;"
        )
    db.close()
    async with opened(tmp_path) as outbox:
        backlog = (await outbox.backlog())[Stream.MEASURE]
        assert (backlog.frames, backlog.readings) == (FRAMES - ACKED, (FRAMES - ACKED) * 500)
        assert (backlog.committed_seq, backlog.next_seq) == (ACKED, FRAMES + 1)


@given(data=st.binary(max_size=20_000), log=st.binary(max_size=5_000))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_page_reader_survives_anything(tmp_path: Path, data: bytes, log: bytes) -> None:
    (tmp_path / "any").write_bytes(data)
    (tmp_path / "any-wal").write_bytes(log)
    pages = PageFile(tmp_path / "any")
    for columns in (2, 4, 12):
        list(pages.rows(columns))
    pages.close()


@given(places=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=30))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_page_reader_survives_flipped_bytes(filled: Path, tmp_path: Path, places: list[tuple[float, int]]) -> None:
    data = bytearray((filled / "outbox.sqlite").read_bytes())
    for share, value in places:
        data[int(share * (len(data) - 1))] = value
    (tmp_path / "flipped").write_bytes(data)
    pages = PageFile(tmp_path / "flipped")
    rows = list(pages.rows(12))
    pages.close()
    assert len(rows) >= FRAMES - 3 * len(places)


def test_undamaged_pages_give_every_row(filled: Path) -> None:
    pages = PageFile(filled / "outbox.sqlite")
    rows = list(pages.rows(12))
    pages.close()
    with sqlite3.connect(filled / "outbox.sqlite") as db:
        wanted = db.execute("SELECT * FROM frames ORDER BY id").fetchall()
    db.close()
    plain: Callable[[tuple[object, ...]], tuple[object, ...]] = lambda row: row[1:]  # noqa: E731 (the id is the row's number)
    assert sorted(row.values[1:] for row in rows) == sorted(plain(row) for row in wanted)
    assert sorted(row.rowid for row in rows) == [row[0] for row in wanted]
