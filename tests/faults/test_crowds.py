"""Many at once, or two under one name (F19, F24)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.faults.crowd import storm
from tests.faults.rig import Layout, Rig

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]
CROWD = 100


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rig(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    """One idle sender."""
    async with Rig(tmp_path_factory.mktemp("crowds"), Layout(edges=1, sender=("--idle", "--period", "0.05"))) as made:
        yield made


async def test_f24_a_second_edge_under_the_same_name_is_noticed_and_costs_no_readings(rig: Rig) -> None:
    """F24 (I1, I2, I9): same edge id, same client id; the broker lets one in at a time, the hub raises an alarm."""
    first = rig.senders["h0"]
    rig.go()
    await rig.flows("h0", 10)
    twin = await rig.add_sender("h0", "twin")
    twin.start()
    await rig.until("the twin to live", twin.status, 20)
    twin.say("go")
    connects = first.status()["connects"] + twin.status().get("connects", 0)
    began_s = time.monotonic()
    await rig.flows("h0", 50)
    await rig.flows("twin", 50)
    both = first.status()["connects"] + twin.status()["connects"] - connects
    assert both / (time.monotonic() - began_s) < 15, "they throw each other out without end"
    for sender in (first, twin):
        sender.say("pause")
    await asyncio.to_thread(twin.program.end)
    await rig.until("h0 to drain", first.settled, 30)
    await asyncio.to_thread(first.program.end)
    twin.start("--idle")
    await rig.until("the twin to drain", twin.settled, 30)
    found = await rig.compare()
    assert found.equal, found
    codes = [event["code"] for event in await rig.ask("/v1/events?limit=200") if event["severity"] == "ALARM"]
    assert "lane.new_epoch" in codes


async def test_f19_a_herd_of_edges_is_greeted_in_bounded_time_with_bounded_hellos(rig: Rig) -> None:
    """F19 (I8, I10): a hundred edges connect and greet at one moment; all are served, nobody greets without end."""
    before = (await rig.health())["store"]["readings"]
    edges = await storm(rig.broker.port, CROWD, seed=1, seconds=30)
    assert sum(edge.hellos for edge in edges) <= 5 * CROWD
    assert max(edge.hellos for edge in edges) <= 6
    assert rig.hub.memory_mb() < 400
    assert (await rig.health())["store"]["readings"] - before == 20 * CROWD
