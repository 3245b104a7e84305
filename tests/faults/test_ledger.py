"""The hub's ledger is full, slow, failing, or an older one (F49, restored hub): no acknowledgement for what is not stored."""

from __future__ import annotations

import asyncio
import resource
import shutil
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.faults.rig import Layout, Rig

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]
UNLIMITED = resource.RLIM_INFINITY


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rig(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    """Two idle senders."""
    async with Rig(tmp_path_factory.mktemp("ledger"), Layout(edges=2, sender=("--idle", "--period", "0.02"))) as made:
        yield made


def largest_file(folder: Path) -> int:
    """Bytes of the largest file in a folder."""
    return max(path.stat().st_size for path in folder.iterdir() if path.is_file())


async def test_f49_a_full_disk_of_the_hub_stops_acknowledgements_and_nothing_else(rig: Rig) -> None:
    """F49 (I1, I10): no file of the hub may grow (RLIMIT_FSIZE); the edges keep everything until it may again."""
    rig.go()
    await rig.flows("h0")
    resource.prlimit(rig.hub.pid, resource.RLIMIT_FSIZE, (largest_file(rig.folder / "hub"), UNLIMITED))
    await rig.flows("h0", 120)

    async def refused() -> bool:
        return await rig.metric("durable_commit_failures_total") > 0 or not rig.hub.alive

    await rig.until("a commit that fails", refused, 30)
    assert rig.hub.alive, "the hub did not outlive a full disk"
    waiting = rig.senders["h0"].status()["waiting"]
    await rig.flows("h0", 50)
    assert rig.senders["h0"].status()["waiting"] > waiting
    resource.prlimit(rig.hub.pid, resource.RLIMIT_FSIZE, (UNLIMITED, UNLIMITED))
    found = await rig.verdict()
    assert found.equal, found


async def test_f49_a_hub_stopped_while_its_disk_is_full_has_lost_nothing(rig: Rig) -> None:
    """F49 (I1, I10): told to stop when not even a checkpoint can be written; what it had acknowledged is there again."""
    rig.go()
    await rig.flows("h0")
    resource.prlimit(rig.hub.pid, resource.RLIMIT_FSIZE, (largest_file(rig.folder / "hub"), UNLIMITED))
    await rig.flows("h0", 60)
    await asyncio.to_thread(rig.hub.end, signal.SIGTERM)
    rig.hub.start()
    await rig.ready()
    found = await rig.verdict()
    assert found.equal, found


async def test_a_hub_restored_from_a_backup_gets_back_what_it_lost(rig: Rig, tmp_path: Path) -> None:
    """Restored hub (I1, I2): its data is put back; the edges hold what they sent, and send it again.

    The first time the edges live on, the second time they begin a new life as well: only what both sides know decides.
    """
    rig.go()
    await rig.flows("h0", 20)
    await rig.hush()
    await asyncio.to_thread(rig.hub.end, signal.SIGTERM)
    rig.copy_hub_data(tmp_path / "backup")
    rig.hub.start()
    for edges_live_on in (True, False):
        rig.go()
        await rig.ready()
        await rig.flows("h1", 40)
        await rig.hush()
        stored = (await rig.health())["store"]["readings"]
        await rig.kill_hub()
        rig.put_hub_data_back(tmp_path / "backup")
        for sender in [] if edges_live_on else rig.senders.values():
            await asyncio.to_thread(sender.program.end)
            sender.start()
        rig.hub.start()
        await rig.ready()
        assert (await rig.health())["store"]["readings"] < stored
        rig.go()
        await rig.flows("h0", 20)
        found = await rig.verdict()
        assert found.equal, found


async def test_a_hub_restored_to_before_its_edges_epochs_gets_back_what_it_lost(tmp_path: Path) -> None:
    """Restored hub (I1, I10): its data is older than every edge's first epoch, then older than the present one.

    Nobody asks for a backfill; the hub is killed again while it gets everything, and an edge as well.
    """
    layout = Layout(edges=2, sender=("--idle", "--period", "0.02"))
    (tmp_path / "rig").mkdir()
    async with Rig(tmp_path / "rig", layout) as rig:
        await asyncio.to_thread(rig.hub.end, signal.SIGTERM)
        shutil.copytree(rig.folder / "hub", tmp_path / "backup")
        for _ in range(2):
            rig.hub.start()
            rig.go()
            await rig.ready()
            await rig.flows("h1", 60)
            await rig.hush()
            stored = (await rig.health())["store"]["readings"]
            await rig.kill_hub()
            rig.put_hub_data_back(tmp_path / "backup")
            rig.hub.start()
            await rig.ready()
            assert (await rig.health())["store"]["readings"] < stored
            rig.go()
            await rig.flows("h0", 2)
            await rig.restart_hub()
            await asyncio.to_thread(rig.senders["h1"].program.end)
            rig.senders["h1"].start()
            await rig.ready()
            rig.go()
            await rig.flows("h1", 5)
            found = await rig.verdict(60)
            assert found.equal, found
            await asyncio.to_thread(rig.hub.end, signal.SIGTERM)
