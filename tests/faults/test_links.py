"""Links that fail (F14 to F18): partitions, one way only, half open, flapping, thin and lossy."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
import pytest_asyncio

from tests.faults.programs import Sender
from tests.faults.proxy import FAIR, Weather
from tests.faults.rig import Layout, Rig

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]
DEAD = Weather(swallow=True)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rig(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    """Two idle senders."""
    async with Rig(tmp_path_factory.mktemp("links"), Layout(edges=2, sender=("--idle", "--period", "0.05"))) as made:
        yield made


async def again(sender: Sender, *extra: str) -> None:
    """A new process for a sender, with other arguments."""
    await asyncio.to_thread(sender.program.end)
    sender.start(*extra)


async def test_f14_a_minute_an_hour_and_a_week_of_backlog_drain_with_alarms_first(rig: Rig) -> None:
    """F14 (I1, I8): 1 min compressed, 1 h at 5 readings/s, 7 days of quarter-hours of 50 meters; memory stays bounded."""
    sender = rig.senders["h0"]
    await again(sender, "--stock")
    await rig.until("h0 to be heard", lambda: sender.status().get("open"), 15)
    for batches, hours in ((25, 1 / 60), (450, 1), (840, 168)):
        await sender.link.cut()
        sender.say(f"burst {batches} {hours}")
        await rig.until("the burst", lambda: sender.status().get("heard") == sender.said, 30)
        waiting = sender.status()["waiting"]
        await sender.link.heal()
        sender.say(f"event alarm-{batches}")
        await rig.until("the alarm", lambda n=batches: _has_event(rig, f"alarm-{n}"), 30)  # type: ignore[misc]  # a lambda with a default
        if waiting > 150:
            assert sender.status()["waiting"] > 0, "the alarm came behind the whole backlog"
        await rig.drained()
        assert sender.program.memory_mb() < 150
    assert rig.hub.memory_mb() < 400
    found = await rig.compare()
    assert found.equal, found
    await again(sender)


async def _has_event(rig: Rig, event_id: str) -> bool:
    rows = await rig.ask("/v1/events?limit=50")
    return any(row["event_id"] == event_id for row in rows)


async def test_f15_an_edge_that_hears_nothing_sends_no_flood_and_recovers(rig: Rig) -> None:
    """F15 (I1, I2, I8): upwards passes, downwards is swallowed; then the other way round."""
    link = rig.senders["h0"].link
    rig.go("h0")
    await rig.flows("h0")
    sent = link.passed_up
    await link.set(FAIR, DEAD)
    began_s = time.monotonic()
    await rig.flows("h0", 60)
    kilobytes_per_s = (link.passed_up - sent) / 1024 / (time.monotonic() - began_s)
    # Not more than a window of 64 frames of about 1 kB each 0.4 s, which is the sender's time to call it a stall.
    assert kilobytes_per_s < 2.5 * 64 * 1.2, f"{kilobytes_per_s:.0f} kB/s"
    await link.set(DEAD, FAIR)
    await rig.flows("h0", 30)
    await link.heal()
    found = await rig.verdict()
    assert found.equal, found


async def test_f16_a_half_open_link_is_noticed_within_one_and_a_half_keepalives(rig: Rig) -> None:
    """F16 (I7): no FIN, no bytes; an idle edge and a busy one notice it by the keepalive of the product's own times."""
    keepalive_s = 2
    for sender in rig.senders.values():
        await again(sender, "--stock", "--keepalive", str(keepalive_s))
    for sender in rig.senders.values():
        await rig.until(f"{sender.edge} to be heard", lambda s=sender: s.status().get("open"), 15)  # type: ignore[misc]  # a lambda with a default
    rig.go("h1")
    await rig.flows("h1")
    for sender in rig.senders.values():
        await sender.link.half_open()
    began_s, noticed = time.monotonic(), dict.fromkeys(rig.senders, 0.0)
    while min(noticed.values()) == 0 and time.monotonic() - began_s < 10:
        for edge, sender in rig.senders.items():
            if not noticed[edge] and sender.status().get("losses", 0) > 0:
                noticed[edge] = time.monotonic() - began_s
        await asyncio.sleep(0.05)
    for sender in rig.senders.values():
        await sender.link.heal()
    found = await rig.verdict()
    assert found.equal, found
    for edge, seconds in noticed.items():
        assert 0 < seconds < 1.5 * keepalive_s + 0.5, f"{edge} noticed after {seconds:.1f} s"
    for sender in rig.senders.values():
        await again(sender)


async def test_f17_a_flapping_link_makes_progress_without_a_storm(rig: Rig) -> None:
    """F17 (I1, I10): ten cuts, 0.3 s apart; readings arrive meanwhile, and connections are not more than cuts ask for."""
    link = rig.senders["h0"].link
    rig.go("h0")
    await rig.flows("h0")
    before, readings = link.accepted, (await rig.health())["store"]["readings"]
    for _ in range(10):
        await link.flap()
        await asyncio.sleep(0.3)
    assert link.accepted - before <= 22
    assert (await rig.health())["store"]["readings"] > readings
    found = await rig.verdict()
    assert found.equal, found


async def test_f18_a_thin_line_is_not_choked_by_repetitions(rig: Rig) -> None:
    """F18 (I1, I8): 2 s there and back, stalls like 10 % loss, 9.6 kb/s; the product's own times."""
    sender = rig.senders["h0"]
    await again(sender, "--stock")
    await rig.until("h0 to be heard", lambda: sender.status().get("open"), 15)
    thin = Weather(delay_s=1.0, bytes_per_s=1200, stall=0.1, stall_s=0.4)
    await sender.link.set(thin, replace(thin, bytes_per_s=None))
    sender.say("burst 12")
    await rig.until("the burst", lambda: sender.status().get("heard") == sender.said, 10)
    await rig.until("h0 to drain", sender.settled, 60)
    counted = sender.status()
    await sender.link.heal()
    await again(sender)
    found = await rig.verdict()
    assert found.equal, found
    assert counted["frames_sent"] <= 1.5 * counted["frames_acknowledged"], counted
