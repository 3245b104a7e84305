"""State files beside the loop: hanging, refusing and slow disks, and what waits for them."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.edge.control.site import Site, command, plan
from tieline_core.errors import TransientError
from tieline_core.messages.command import CommandState
from tieline_core.messages.desired import LadderStep
from tieline_edge.control.claims import NO_LIMIT
from tieline_edge.control.state_file import StateFile
from tieline_edge.control.state_writer import RETRY_S, StateWriter

NOW = datetime(2016, 12, 7, 16, tzinfo=UTC)


class Disk:
    """Hangs until it is let go, refuses the next writes, and counts."""

    def __init__(self, *, hangs: bool = False, refuse: int = 0) -> None:
        self.free = asyncio.Event()
        if not hangs:
            self.free.set()
        self.refuse, self.writes = refuse, 0
        self.then: Callable[[], object] = lambda: None

    async def __call__(self, call: Callable[..., None], /, *args: Any) -> None:
        await self.free.wait()
        self.writes += 1
        if self.refuse:
            self.refuse -= 1
            raise OSError(errno.ENOSPC, "No space left on device")
        await asyncio.to_thread(call, *args)
        self.then()


class Numbers:
    """A state that is a number."""

    def __init__(self, folder: Path, disk: Disk) -> None:
        self.now = 0
        self.file = StateFile(folder / "numbers.json")
        self.writer = StateWriter(self.file, lambda: str(self.now), disk)

    def count(self, at_s: float = 0.0) -> asyncio.Task[None] | None:
        self.now += 1
        self.writer.touch()
        return self.writer.push(NOW + timedelta(seconds=at_s))


async def test_of_several_states_that_wait_for_a_hanging_disk_only_the_newest_is_written(tmp_path: Path) -> None:
    disk = Disk(hangs=True)
    numbers = Numbers(tmp_path, disk)
    for _ in range(5):
        assert numbers.count() is not None
        await asyncio.sleep(0)
    disk.free.set()
    await numbers.writer.close()
    assert numbers.file.read() == "5"
    assert disk.writes == 2, "the one that hung, and the newest"
    assert numbers.writer.push(NOW) is None, "nothing is left"


async def test_who_waits_gets_the_refusal_and_the_rest_is_tried_again_after_a_while(tmp_path: Path) -> None:
    disk = Disk(refuse=2)
    numbers = Numbers(tmp_path, disk)
    with pytest.raises(OSError, match="No space left"):
        await numbers.writer.flush(5.0)
    assert numbers.writer.refused
    first = numbers.count(0.0)
    assert first is not None
    await first
    assert numbers.writer.push(NOW + timedelta(seconds=RETRY_S / 2)) is None, "not in every cycle"
    again = numbers.writer.push(NOW + timedelta(seconds=RETRY_S))
    assert again is not None
    await again
    assert (numbers.file.read(), numbers.writer.refused) == ("1", False)


async def test_who_waits_for_a_hanging_disk_is_let_go_in_time(tmp_path: Path) -> None:
    disk = Disk(hangs=True)
    numbers = Numbers(tmp_path, disk)
    with pytest.raises(TimeoutError):
        await numbers.writer.flush(0.01)
    numbers.now = 7
    disk.free.set()
    await numbers.writer.close()
    assert numbers.file.read() == "7", "the state of now, not of when it hung"


async def test_a_defect_is_not_taken_for_a_disk_that_refuses(tmp_path: Path) -> None:
    writer = StateWriter(StateFile(tmp_path / "x.json"), lambda: str(1 // 0), Disk())
    writer.touch()
    task = writer.push(NOW)
    assert task is not None
    await asyncio.wait([task])
    with pytest.raises(ZeroDivisionError):
        writer.push(NOW)


async def test_a_card_that_hangs_on_a_plan_holds_up_no_cycle_and_the_plan_is_not_in_force_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site, disk = Site(tmp_path), Disk(hangs=True)
    for book in (site.parts.plans, site.parts.commands):
        monkeypatch.setattr(book.disk, "_offload", disk)
    taking = asyncio.create_task(site.cycle.take_plan(plan(), "a" * 64))
    ordering = asyncio.create_task(site.cycle.take_command(command()))
    await asyncio.sleep(0)
    monkeypatch.setattr(site.cycle, "close", lambda: asyncio.sleep(0))
    await site.run(3)
    assert site.cycle.stats.count == 3
    assert (site.ladder(), site.parts.commands.claims(site.clock.now())) == (LadderStep.DEVICE_DEFAULT, ())
    disk.free.set()
    await taking
    assert (await ordering).state is CommandState.ACCEPTED
    await site.run(1)
    assert site.ladder() is LadderStep.CURRENT_PLAN
    assert site.parts.commands.claims(site.clock.now())
    site.close()


async def test_a_plan_that_the_disk_refused_is_not_found_after_a_restart(tmp_path: Path) -> None:
    site = Site(tmp_path)
    book = site.parts.plans
    book.disk._offload = Disk(refuse=1)
    with pytest.raises(TransientError, match="cannot be stored now"):
        await book.offer(plan(), "a" * 64, site.clock.now())
    await site.run(1)
    assert site.again().parts.plans.plans == ()
    site.close()


async def test_who_waits_does_not_wait_for_what_has_changed_since(tmp_path: Path) -> None:
    """A slow card and one change after another: each write ends with something newer to write."""
    disk = Disk()
    numbers = Numbers(tmp_path, disk)
    disk.then = numbers.count
    await numbers.writer.flush(5.0)
    assert disk.writes < 5
    disk.then = lambda: None
    await numbers.writer.close()


async def test_a_plan_whose_taking_is_cut_short_is_not_found_after_a_restart(tmp_path: Path) -> None:
    site, disk = Site(tmp_path), Disk(hangs=True)
    book = site.parts.plans
    book.disk._offload = disk
    taking = asyncio.create_task(book.offer(plan(), "a" * 64, site.clock.now()))
    await asyncio.sleep(0.01)
    taking.cancel()
    await asyncio.wait([taking])
    disk.free.set()
    async with asyncio.timeout(30):
        while disk.writes == 0:  # noqa: ASYNC110 - a counter has no event
            await asyncio.sleep(0.01)
    await site.run(1)
    assert site.again().parts.plans.plans == ()
    site.close()


async def test_of_two_plans_at_once_both_are_taken(tmp_path: Path) -> None:
    site, disk = Site(tmp_path), Disk(hangs=True)
    book = site.parts.plans
    book.disk._offload = disk
    taking = [asyncio.create_task(book.offer(plan(plan_id=f"plan-00{n}"), n * 64, site.clock.now())) for n in "ab"]
    await asyncio.sleep(0.01)
    disk.free.set()
    await asyncio.gather(*taking)
    assert {held.sha256 for held in book.plans} == {"a" * 64, "b" * 64}
    assert {held.sha256 for held in site.again().parts.plans.plans} == {"a" * 64, "b" * 64}
    site.close()


async def test_a_release_ends_a_command_that_is_still_on_its_way_to_the_disk(tmp_path: Path) -> None:
    site, disk = Site(tmp_path), Disk(hangs=True)
    book, now = site.parts.commands, site.clock.now()
    book.disk._offload = disk
    ordering = asyncio.create_task(book.accept(command(), now))
    await asyncio.sleep(0.01)
    release = command(command_id="release-1", action="release", value_w=None)
    ending, repeating = asyncio.create_task(book.accept(release, now)), asyncio.create_task(book.accept(command(), now))
    await asyncio.sleep(0.01)
    assert not repeating.done(), "it is not on the disk yet"
    disk.free.set()
    assert (await ordering).state is CommandState.ACCEPTED
    assert (await ending).text == "commands ended by it: 1"
    assert (await repeating).state is CommandState.ENDED
    assert all(claim.limit == NO_LIMIT for claim in book.claims(now))
    site.close()
