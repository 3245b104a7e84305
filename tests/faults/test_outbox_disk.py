"""F38-F41: the outbox on a disk that fills, fails, turns read-only or loses what was not synced. Real processes, real faults.

The system calls are failed by ``strace``, the small and the read-only disk are tmpfs in a mount namespace of their own.
"""

from __future__ import annotations

import random
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.outbox_victim import START, readings
from tieline_core.clock import ManualClock
from tieline_core.frame import decode_readings
from tieline_core.ids import EdgeId
from tieline_core.messages.telemetry import FrameKind, Stream
from tieline_edge.outbox.store import Outbox
from tieline_edge.settings import OutboxSettings

HARBOUR = EdgeId("harbour")
MB = 1024 * 1024
#: A commit in five pages or so.
COUNT = 3000


def victim(folder: Path, commits: int, max_bytes: int = 512 * MB) -> list[str]:
    return [sys.executable, "-m", "tests.faults.outbox_victim", str(folder), str(commits), str(COUNT), str(max_bytes)]


def run(command: list[str]) -> tuple[set[int], set[int]]:
    """Numbers that were kept and that were refused, as the process said; it has to end well."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    said = re.findall(r"^(kept|refused) (\d+)$", done.stdout, re.MULTILINE)
    kept, refused = ({int(number) for word, number in said if word == wanted} for wanted in ("kept", "refused"))
    return kept, refused


async def held(folder: Path) -> list[int]:
    """Numbers of the commits a fresh process finds, in order of sequence."""
    async with Outbox.open(folder / "outbox.sqlite", HARBOUR, OutboxSettings(), ManualClock(START)) as outbox:
        await outbox.relabel(1)
        frames = await outbox.next_frames(Stream.MEASURE, 0, 100_000)
        assert [frame.seq for frame in frames] == list(range(1, len(frames) + 1))
        return [int(decode_readings(frame.body).values[0]) for frame in frames if frame.kind is FrameKind.READINGS]


def failing(call: str, when: str) -> list[str]:
    """The named calls fail with EIO; strace counts them anew in each thread, so with each connection to the file."""
    return ["strace", "-f", "-o", "/dev/null", "-e", f"trace={call}", "-e", f"inject={call}:error=EIO:when={when}"]


@pytest.mark.parametrize("nth", [1, 2, 3, 4, 6, 9, 14, 20, 30])
@pytest.mark.parametrize("call", ["fdatasync,fsync", "pwrite64"])
async def test_after_any_failed_write_or_sync_what_was_said_is_true(tmp_path: Path, call: str, nth: int) -> None:
    """F39: the n-th call on each connection fails; kept means there, refused means not there, and nothing is there twice."""
    kept, refused = run([*failing(call, str(nth)), *victim(tmp_path, 8)])
    assert kept | refused == set(range(8))
    assert await held(tmp_path) == sorted(kept)


async def test_a_disk_that_fails_for_good_keeps_nobody_from_starting(tmp_path: Path) -> None:
    kept, refused = run([*failing("pwrite64", "1+"), *victim(tmp_path, 4)])
    assert (kept, refused) == (set(), set(range(4)))
    assert await held(tmp_path) == []


@pytest.mark.parametrize(("call", "nth"), [("pwrite64", 60), ("fdatasync,fsync", 9)])
async def test_a_disk_that_fails_now_and_then_is_used_again_each_time(tmp_path: Path, call: str, nth: int) -> None:
    run(victim(tmp_path, 1))
    kept, refused = run([*failing(call, str(nth)), *victim(tmp_path, 30)])
    assert 2 <= len(refused) <= 15
    assert await held(tmp_path) == sorted([0, *kept])


def in_namespace(script: str, *arguments: str) -> list[str]:
    """A shell that may mount, whoever runs the tests."""
    return ["unshare", "--user", "--map-root-user", "--mount", "sh", "-ec", script, "sh", *arguments]


async def test_a_full_disk_costs_the_oldest_and_says_how_many(tmp_path: Path) -> None:
    """F38 on a real 4 MB file system: the newest readings are kept, what went is declared."""
    small, after = tmp_path / "small", tmp_path / "after"
    small.mkdir()
    after.mkdir()
    script = 'disk=$1; after=$2; mount -t tmpfs -o size=4m tmpfs "$disk"; shift 2; "$@"; cp "$disk"/outbox.sqlite* "$after"'
    command = in_namespace(script, str(small), str(after), *victim(small, 400))
    kept, refused = run(command)
    assert len(kept) + len(refused) == 400
    assert 399 in kept
    assert len(refused) <= 2
    found = await held(after)
    assert found == sorted(found)
    assert found[-1] == 399
    assert set(found) <= kept
    async with Outbox.open(after / "outbox.sqlite", HARBOUR, OutboxSettings(), ManualClock(START)) as outbox:
        frames = await outbox.next_frames(Stream.MEASURE, 0, 1)
        assert frames[0].kind is FrameKind.SKIP
        assert (await outbox.backlog())[Stream.MEASURE].readings == 400 * COUNT - len(refused) * COUNT


async def test_a_disk_that_turns_read_only_is_reported_and_used_again_afterwards(tmp_path: Path) -> None:
    """F40: remounted read-only in the middle, later read-write again; and a start on the read-only disk."""
    disk, after = tmp_path / "disk", tmp_path / "after"
    disk.mkdir()
    after.mkdir()
    script = (
        'disk=$1; after=$2; python=$3; mount -t tmpfs -o size=32m tmpfs "$disk";'
        '"$python" -m tests.faults.outbox_victim "$disk" 3 3000 100000000;'
        'mount -o remount,ro "$disk"; "$python" -m tests.faults.outbox_victim "$disk" 2 3000 100000000 | sed "s/^/ro /";'
        'mount -o remount,rw "$disk"; "$python" -m tests.faults.outbox_victim "$disk" 3 3000 100000000; cp "$disk"/* "$after"'
    )
    done = subprocess.run(  # noqa: ASYNC221 (nothing else runs in this loop)
        in_namespace(script, str(disk), str(after), sys.executable), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert re.findall(r"^ro (\w+ \d+)$", done.stdout, re.MULTILINE) == ["refused 0", "refused 1", "lost 0"]
    assert await held(after) == [0, 1, 2, 0, 1, 2]


async def test_a_power_cut_at_any_moment_keeps_what_was_reported(tmp_path: Path) -> None:
    """F41: the files as they were synced when a commit was reported, and of the next commit any part, in any order."""
    rng = random.Random(41)
    work = tmp_path / "work"
    settings = OutboxSettings(commit_interval_s=0.0, frame_readings=5000)
    async with Outbox.open(work / "outbox.sqlite", HARBOUR, settings, ManualClock(START)) as outbox:
        for number in range(12):
            await outbox.record(readings(number, COUNT))
        database = (work / "outbox.sqlite").read_bytes()
        synced = (work / "outbox.sqlite-wal").read_bytes()
        await outbox.record(readings(12, COUNT))
        assert (work / "outbox.sqlite").read_bytes() == database, "no checkpoint came between: the model needs the log alone"
        whole = (work / "outbox.sqlite-wal").read_bytes()
    assert whole.startswith(synced)
    for cut in range(20):
        folder = tmp_path / f"cut{cut}"
        folder.mkdir()
        log = bytearray(whole[: rng.randrange(len(synced), len(whole) + 1)])
        for place in range(len(synced), len(log), 512):
            if rng.random() < 0.3:  # a sector that never arrived
                log[place : place + 512] = bytes(len(log[place : place + 512]))
        (folder / "outbox.sqlite").write_bytes(database)
        (folder / "outbox.sqlite-wal").write_bytes(log)
        assert await held(folder) in ([*range(12)], [*range(13)])
        assert not [path for path in folder.iterdir() if "damaged" in path.name]
