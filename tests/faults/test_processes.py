"""Processes that are killed (F1, F2, F3, F7, F10, F12): nothing the outbox took is lost or doubled, nobody has to help."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.faults.rig import Layout, Rig

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]
SEED = 20161214


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rig(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    """Two idle senders."""
    async with Rig(tmp_path_factory.mktemp("processes"), Layout(edges=2, sender=("--idle", "--period", "0.02"))) as made:
        yield made


async def die(rig: Rig, edge: str, point: str, after: int) -> None:
    """Let a sender live until it kills itself at a point of its work."""
    sender = rig.senders[edge]
    await asyncio.to_thread(sender.program.end)
    sender.start("--die", point, "--die-after", str(after))
    sender.say("go")
    await rig.dies(edge)


async def test_f1_an_edge_killed_before_its_commit_leaves_no_half_batch(rig: Rig) -> None:
    """F1 (I1, I3): the batch in the open transaction is gone as a whole, everything committed before arrives."""
    rng = random.Random(SEED)
    for _ in range(3):
        await die(rig, "h0", "appended", rng.randint(1, 12))
    rig.senders["h0"].start()
    found = await rig.verdict()
    assert found.equal, found
    assert found.undecided == 0, "a batch that was never committed is at the hub"
    assert len(rig.senders["h0"].journal.open) >= 3


async def test_f2_an_edge_killed_after_its_commit_sends_it_in_its_next_life(rig: Rig) -> None:
    """F2 (I1, I2): committed, not sent, killed: the next life sends it, once in effect."""
    rng = random.Random(SEED)
    for _ in range(3):
        await die(rig, "h0", "committed", rng.randint(1, 12))
    rig.senders["h0"].start()
    found = await rig.verdict()
    assert found.equal, found


async def test_f3_an_edge_killed_before_it_noted_the_acknowledgement_doubles_nothing(rig: Rig) -> None:
    """F3 (I2): it sends again what the hub has; the hub sees it by its content and stores one row."""
    rng = random.Random(SEED)
    before = await rig.metric("frames_total", verdict="repeated")
    for _ in range(2):
        await die(rig, "h1", "acknowledged", rng.randint(1, 6))
        # The new life is granted a new epoch; it dies once more before it has noted it.
        await die(rig, "h1", "relabelled", 1)
    rig.senders["h1"].start()
    found = await rig.verdict()
    assert found.equal, found
    assert await rig.metric("frames_total", verdict="repeated") > before, "nothing was ever sent twice: the test tests nothing"


async def test_f7_a_hub_killed_during_ingest_loses_nothing(rig: Rig) -> None:
    """F7 (I1, I2, I10): killed at seeded moments under load, started again; the edges find their place by themselves."""
    rng = random.Random(SEED)
    rig.go()
    for _ in range(2):
        await rig.flows("h0", rng.randint(3, 12))
        await rig.restart_hub()
        await rig.ready()
    found = await rig.verdict()
    assert found.equal, found


async def test_f10_a_broker_killed_without_persistence_costs_nothing(rig: Rig) -> None:
    """F10 (I1, I10): what the broker held is sent again, because its acknowledgement was never taken for storage."""
    rng = random.Random(SEED)
    rig.go()
    for _ in range(4):
        await rig.flows("h1", rng.randint(3, 12))
        await rig.restart_broker()
    found = await rig.verdict()
    assert found.equal, found


async def test_f12_frozen_processes_go_on_where_they_were(rig: Rig) -> None:
    """F12 (I1, I2): an edge, then the hub, stops longer than every time-out of the lane, and wakes."""
    rig.go()
    for program in (rig.senders["h0"].program, rig.hub):
        program.pause()
        await rig.flows("h1", 40)
        program.wake()
        await rig.flows("h0", 5)
    found = await rig.verdict()
    assert found.equal, found
