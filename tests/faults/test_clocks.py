"""Clocks that are wrong or jump (F35, F36): readings keep their instants, the lane keeps its pace."""

from __future__ import annotations

import random
import time
from collections.abc import AsyncIterator

import numpy as np
import pytest
import pytest_asyncio

from tests.faults.raw_client import raw_client
from tests.faults.rig import Layout, Rig
from tieline_core import topics
from tieline_core.frame import Frame, ReadingBatch, encode, encode_batch
from tieline_core.ids import EdgeId, PointId
from tieline_core.messages.telemetry import FrameKind, Stream
from tieline_core.quantities import Quality

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]
SEED = 20161214
ROWS = 3


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rig(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    """Two idle senders."""
    async with Rig(tmp_path_factory.mktemp("clocks"), Layout(edges=2, sender=("--idle", "--period", "0.02"))) as made:
        yield made


async def test_f36_steps_of_the_edges_and_the_hubs_clock_disturb_nothing(rig: Rig) -> None:
    """F36 (I1, I2, I7): steps of two hours to both sides, of edges and of the hub; time-outs follow no wall clock."""
    rng = random.Random(SEED)
    rig.go()
    for _ in range(6):
        name = rng.choice(("h0", "h1", "hub"))
        rig.set_clock(name, rng.choice((-7200.0, -61.0, 0.7, 3600.0, 7200.0)))
        began_s = time.monotonic()
        await rig.flows("h0", 15)
        await rig.flows("h1", 15)
        assert time.monotonic() - began_s < 10
    for name in ("h0", "h1", "hub"):
        rig.set_clock(name, 0.0)
    found = await rig.verdict()
    assert found.equal, found
    assert await rig.ask("/v1/quality/misdated?limit=1"), "no instant was ever in doubt: the test tests nothing"


async def test_f35_readings_of_1970_and_of_the_far_future_enter_no_series(rig: Rig) -> None:
    """F35 (I3, I9): an edge whose clock is out of bounds records nothing; readings that claim it all the same are set apart."""
    rig.set_clock("h1", -56 * 365.25 * 86400)
    rig.go("h1")
    sender = rig.senders["h1"]
    await rig.until("h1 to refuse", lambda: sender.status().get("refused_records", 0) > 3, 20)
    rig.set_clock("h1", 0.0)
    await rig.flows("h1", 5)
    before = await rig.verdict()
    assert before.equal, before
    readings = (await rig.health())["store"]["readings"]
    claims = (0, 8_000_000_000_000_000)
    async with raw_client(rig.broker.port, "liar") as client:
        for seq, at_us in enumerate(claims, 1):
            frame = Frame(EdgeId("h1"), 1, Stream.BULK, seq, FrameKind.READINGS, wrongly_dated(at_us))
            await client.publish(topics.frame("h1", Stream.BULK), encode(frame))
        await rig.until("the confirmations", lambda: client.confirmed == len(claims), 20)

    async def apart() -> bool:
        rows = await rig.ask("/v1/quality/misdated?limit=10000")
        return sum(row["measured_at"][:4] in ("1970", "2223") for row in rows) == ROWS * len(claims)

    await rig.until("the readings to be set apart", apart, 20)
    assert (await rig.health())["store"]["readings"] == readings
    found = await rig.verdict()
    assert (found.lost, found.doubled, found.torn, found.invented) == (0, 0, 0, ROWS * len(claims)), found


def wrongly_dated(at_us: int) -> bytes:
    """Body of a frame whose readings claim an instant."""
    rows = np.arange(ROWS)
    quality = np.full(ROWS, Quality.GOOD, np.uint8)
    point = PointId("h1/m00/p_w")
    return encode_batch(ReadingBatch((point,), np.zeros(ROWS, np.int32), at_us + rows, rows.astype(np.float64), quality))
