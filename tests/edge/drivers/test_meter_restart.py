"""A meter's message survives a kill between commit and receipt: recorded once, receipted in the end."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest

from tests.conftest import Broker
from tests.edge.drivers.field import EDGE, START
from tests.edge.drivers.test_mqtt_gateway import MeterSide, meter, party_of
from tieline_core.clock import ManualClock
from tieline_core.frame import decode_readings
from tieline_core.ids import PointId
from tieline_core.messages.telemetry import Stream
from tieline_edge.drivers.context import DriverContext
from tieline_edge.drivers.mqtt.gateway import MeterGateway
from tieline_edge.drivers.registry import open_driver
from tieline_edge.outbox.store import Outbox
from tieline_edge.settings import MqttEndpoint, OutboxSettings
from tieline_edge.snapshot import ProcessImage

pytestmark = pytest.mark.broker


async def live(broker: Broker, path: Path, side: MeterSide, receipt: bool) -> None:
    """One life of an edge: it hears the message once; without ``receipt`` it ends as a kill after the commit would."""
    clock = ManualClock(START)
    async with Outbox.open(path, EDGE, OutboxSettings(commit_interval_s=0.01), clock) as outbox:
        image = ProcessImage()
        endpoint = MqttEndpoint(host=broker.host, port=broker.port, insecure=True)
        gateway = MeterGateway(endpoint, EDGE, clock, outbox, image, outbox)
        gateway.join([party_of(open_driver(meter("m01"), EDGE, DriverContext(EDGE, clock, outbox, image, gateway)))])
        task = asyncio.create_task(gateway.run())
        async with asyncio.timeout(60):
            while not gateway.connected:  # noqa: ASYNC110 - paho's thread tells nobody
                await asyncio.sleep(0.01)
            if not receipt:
                assert gateway._client is not None
                gateway._client.publish = lambda *_: True  # type: ignore[method-assign]  # killed before it
            side.send("m01", 1)
            if receipt:
                assert (await asyncio.to_thread(side.receipts.get, True, 60))[1] == "m01-1"
            while gateway.counters.receipts == 0:  # noqa: ASYNC110 - the same
                await asyncio.sleep(0.01)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_a_message_recorded_before_a_kill_is_receipted_after_it_and_recorded_once(broker: Broker, tmp_path: Path) -> None:
    side = MeterSide(broker)
    try:
        for receipt in (False, False, True):
            await live(broker, tmp_path / "outbox.sqlite", side, receipt)
    finally:
        side.close()
    async with Outbox.open(tmp_path / "outbox.sqlite", EDGE, OutboxSettings(), ManualClock(START)) as outbox:
        point = PointId("harbour/m01/p_w")
        assert await outbox.recorded_instants([point], 5) == {point: [START]}
        await outbox.relabel(1)  # nothing is sent before an epoch is granted
        counts: Counter[str] = Counter()
        for frame in await outbox.next_frames(Stream.MEASURE, 0, 100):
            columns = decode_readings(frame.body)
            counts.update(columns.points[place] for place in columns.point_index.tolist())
    assert counts == {"harbour/m01/p_w": 1, "harbour/m01/v_v": 1, "harbour/m01/e_import_wh": 1}
