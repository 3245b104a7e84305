"""Messages that come twice, late, out of order, damaged, or from a past life (F11, F20 to F23, F25), on the durable lane."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from tests.faults.mqtt_packets import Mischief
from tests.faults.proxy import FAIR, Weather
from tests.faults.raw_client import raw_client
from tests.faults.rig import Layout, Rig
from tieline_core import topics
from tieline_core.frame import READINGS_HEADER, Frame, encode
from tieline_core.ids import EdgeId
from tieline_core.messages.telemetry import FrameKind, Stream

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]
SEED = 20161214


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rig(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    """Two idle senders and a broker that keeps what it holds."""
    layout = Layout(edges=2, sender=("--idle", "--period", "0.02"), persistent_broker=True)
    async with Rig(tmp_path_factory.mktemp("messages"), layout) as made:
        yield made


async def test_f20_messages_that_come_twice_are_stored_once(rig: Rig) -> None:
    """F20 (I2): half of the packets twice, between edge and broker and between broker and hub."""
    twice = Weather(mischief=Mischief(duplicate=0.5))
    before = await rig.metric("frames_total", verdict="duplicate")
    await rig.senders["h0"].link.set(twice)
    await rig.hub_link.set(FAIR, twice)
    rig.go()
    await rig.flows("h0", 60)
    found = await rig.verdict()
    await rig.senders["h0"].link.heal()
    await rig.hub_link.heal()
    assert found.equal, found
    assert await rig.metric("frames_total", verdict="duplicate") - before > 10


async def test_f21_messages_out_of_order_and_with_gaps_are_put_in_order(rig: Rig) -> None:
    """F21 (I1, I2): half of the packets up to 0.1 s late, on both sides of the broker, and a broker that forgets some."""
    before = await rig.metric("frames_total", verdict="gap")
    await rig.senders["h0"].link.set(Weather(mischief=Mischief(late=0.5)))
    await rig.hub_link.set(FAIR, Weather(mischief=Mischief(late=0.5)))
    rig.go()
    await rig.flows("h0", 30)
    await rig.restart_broker()
    await rig.flows("h0", 30)
    found = await rig.verdict()
    await rig.senders["h0"].link.heal()
    await rig.hub_link.heal()
    assert found.equal, found
    assert await rig.metric("frames_total", verdict="gap") > before


async def test_f22_hellos_and_answers_of_the_past_are_not_believed(rig: Rig) -> None:
    """F22 (I2, I10): hellos and their answers come late and twice, while the connection is lost again and again."""
    sender = rig.senders["h0"]
    late = Mischief(duplicate=0.7, late=0.7, late_s=0.6, only="hello")
    await sender.link.set(Weather(mischief=late), Weather(mischief=late))
    rig.go()
    for _ in range(4):
        await rig.flows("h0", 8)
        await sender.link.flap()
    await sender.link.heal()
    found = await rig.verdict()
    assert found.equal, found


async def test_f23_frames_of_an_edge_that_never_said_hello_are_not_taken(rig: Rig) -> None:
    """F23 (I3): an unknown edge's frame moves nothing, and stops nobody."""
    before = (await rig.health())["store"]["readings"]
    frame = Frame(EdgeId("stranger"), 1, Stream.MEASURE, 1, FrameKind.READINGS, b"\x00" * 40)
    async with raw_client(rig.broker.port, "stranger") as client:
        await client.publish(topics.frame("stranger", "measure"), encode(frame))
        await rig.until("the confirmation", lambda: client.confirmed, 10)
    rig.go("h1")
    found = await rig.verdict()
    assert found.equal, found
    assert (await rig.health())["store"]["readings"] - before < 40 * 200
    assert all(edge["edge_id"] != "stranger" or edge["epoch"] in (None, 0) for edge in await rig.ask("/v1/edges"))


async def test_f25_damage_random_bytes_bombs_and_giants_cost_neither_readings_nor_memory(rig: Rig) -> None:
    """F25 (I8, I9): random bytes, cut frames, flipped bits, a zip bomb's declaration, 60 MB; all of it counted."""
    rng = random.Random(SEED)
    bomb = READINGS_HEADER.pack(60_000, 4096, 0, 2**31) + b"\x28\xb5\x2f\xfd" + bytes(64)
    sound = encode(Frame(EdgeId("h0"), 1, Stream.MEASURE, 10**6, FrameKind.READINGS, rng.randbytes(500)))
    payloads = [rng.randbytes(rng.randint(0, 400)) for _ in range(50)]
    payloads += [sound[:cut] for cut in range(0, len(sound), 40)]
    for _ in range(40):
        flipped = bytearray(sound)
        flipped[rng.randrange(len(flipped))] ^= 1 << rng.randrange(8)
        payloads.append(bytes(flipped))
    payloads.append(encode(Frame(EdgeId("h0"), 1, Stream.MEASURE, 10**6, FrameKind.READINGS, bomb)))

    def refused(parts: dict[str, Any]) -> int:
        """Everything refused for what it is, and everything turned away for coming too often, is counted."""
        lane = parts["durable_lane"]
        return int(lane["garbage"] + lane["turned_away"])

    before = refused(await rig.health())
    rig.go()
    memory_mb = rig.hub.memory_mb()
    async with raw_client(rig.broker.port, "fuzz") as client:
        for payload in payloads:
            await client.publish(topics.frame("h0", rng.choice(("measure", "bulk", "nonsense"))), payload)
            await client.publish(topics.hello("h0"), payload)
        await client.publish(topics.frame("h0", "measure"), bytes(60 * 1024 * 1024))
        highest_mb = 0.0

        async def garbage_counted() -> bool:
            nonlocal highest_mb
            highest_mb = max(highest_mb, rig.hub.memory_mb())
            parts = await rig.health()
            return bool(parts) and refused(parts) - before >= 2 * len(payloads)

        await rig.until("the garbage to be counted", garbage_counted, 60)
    found = await rig.verdict()
    assert found.equal, found
    assert highest_mb - memory_mb < 60, f"{memory_mb:.0f} MB before, {highest_mb:.0f} MB while 60 MB came"


async def test_f11_a_broker_that_comes_back_with_its_past_is_not_believed(rig: Rig) -> None:
    """F11 (I1, I2): the broker's own disk state of ten seconds ago is put back, with a retained hello of a past life."""
    state = rig.folder / "broker-state" / "mosquitto.db"
    rig.go()
    await rig.flows("h0", 20)
    await rig.until("the broker's state on the disk", state.exists, 10)
    past = state.read_bytes()
    await rig.flows("h0", 20)
    rig.broker.kill()
    state.write_bytes(past)
    await asyncio.to_thread(rig.broker.start)
    await rig.flows("h0", 20)
    found = await rig.verdict()
    assert found.equal, found
