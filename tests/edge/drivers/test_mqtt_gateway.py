"""Meters over a real broker: recorded first, receipted then, repeated messages recorded once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path
from queue import Queue

import pytest
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion

from deploy.ports import free_port
from tests.conftest import Broker
from tests.edge.drivers.field import EDGE, START, MemoryRecorder, make_context
from tieline_core.clock import ManualClock
from tieline_core.errors import TransientError
from tieline_core.ids import PointId
from tieline_edge.drivers.capabilities import DevicePermanentError, DeviceTransientError, Driver, HoldPower
from tieline_edge.drivers.context import DriverContext
from tieline_edge.drivers.mqtt.client import FieldClient, NotOpenedError
from tieline_edge.drivers.mqtt.gateway import MeterGateway
from tieline_edge.drivers.mqtt.parties import Party, Publishing
from tieline_edge.drivers.registry import open_driver
from tieline_edge.settings import DeviceSettings, MqttEndpoint

pytestmark = pytest.mark.broker


class MeterSide:
    """What a meter sees: it publishes and collects receipts."""

    def __init__(self, broker: Broker) -> None:
        self.receipts: Queue[tuple[str, str]] = Queue()
        self._client = Client(CallbackAPIVersion.VERSION2, client_id="meters")
        self._client.on_message = self._on_message
        self._client.connect(broker.host, broker.port)
        self._client.subscribe("meters/+/receipt", 1)
        self._client.loop_start()

    def _on_message(self, _client: Client, _userdata: object, message: MQTTMessage) -> None:
        self.receipts.put((message.topic, json.loads(message.payload)["id"]))

    def send(self, serial: str, number: int, at: datetime = START, **values: object) -> None:
        body = {"id": f"{serial}-{number}", "serial": serial, "ts": at.isoformat(), "p_w": 500.0, "v_v": 231.0, "e_wh": 7}
        self.send_raw(serial, json.dumps({**body, **values}).encode())

    def send_raw(self, serial: str, payload: bytes) -> None:
        self._client.publish(f"meters/{serial}/reading", payload, qos=1).wait_for_publish(60)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


class Site:
    """A running gateway with two meters and the meters' own side."""

    def __init__(self, context: DriverContext, recorder: MemoryRecorder, drivers: list[Driver], side: MeterSide) -> None:
        self.context, self.recorder, self.drivers, self.side = context, recorder, drivers, side

    @property
    def gateway(self) -> MeterGateway:
        assert self.context.meters is not None
        return self.context.meters

    async def receipts(self, count: int) -> list[str]:
        found = [await asyncio.to_thread(self.side.receipts.get, True, 5) for _ in range(count)]
        return [identity for _, identity in found]

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(60):
            while not condition():  # noqa: ASYNC110 - paho's thread tells nobody
                await asyncio.sleep(0.01)


def meter(serial: str) -> DeviceSettings:
    return DeviceSettings.model_validate({"id": serial, "catalog": "mqtt-json-meter", "mqtt": {"serial": serial}})


@asynccontextmanager
async def site(broker: Broker, recorded: Recalled | None = None) -> AsyncIterator[Site]:
    endpoint = MqttEndpoint(host=broker.host, port=broker.port, insecure=True)
    context, recorder = make_context(broker=endpoint, recorded=recorded)
    drivers = [open_driver(meter(serial), EDGE, context) for serial in ("m01", "m02")]
    side = MeterSide(broker)
    assert context.meters is not None
    context.meters.join(party_of(driver) for driver in drivers)
    task = asyncio.create_task(context.meters.run())
    running = Site(context, recorder, drivers, side)
    try:
        await running.until(lambda: running.gateway.connected)
        yield running
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        side.close()


def party_of(driver: Driver) -> Party:
    assert isinstance(driver, Publishing)
    return driver.party


class Recalled:
    """An outbox that already holds an instant of m01; ``refuse`` makes the next questions fail."""

    def __init__(self, refuse: int = 0) -> None:
        self.refuse = refuse

    async def recorded_instants(self, points: Sequence[PointId], last: int) -> Mapping[PointId, Collection[datetime]]:
        if self.refuse:
            self.refuse -= 1
            raise TransientError("disk I/O error")
        return {point: [START] for point in points if point.device == "m01"}


async def test_a_message_is_recorded_and_then_receipted(broker: Broker) -> None:
    async with site(broker) as here:
        here.side.send("m01", 1)
        assert await here.receipts(1) == ["m01-1"]
        readings = {reading.point: reading for reading in here.recorder.readings}
        assert {point: reading.value for point, reading in readings.items()} == {
            PointId("harbour/m01/p_w"): 500.0,
            PointId("harbour/m01/v_v"): 231.0,
            PointId("harbour/m01/e_import_wh"): 7.0,
        }
        assert {reading.measured_at for reading in readings.values()} == {START}
        assert here.context.image.freeze(START).value(PointId("harbour/m01/p_w"), 60.0) == 500.0


async def test_a_repeated_message_is_receipted_again_and_recorded_once(broker: Broker) -> None:
    async with site(broker) as here:
        for _ in range(3):
            here.side.send("m01", 1)
        here.side.send("m02", 1)
        assert sorted(await here.receipts(4)) == ["m01-1", "m01-1", "m01-1", "m02-1"]
        assert len(here.recorder.readings) == 6
        assert here.gateway.counters.repeated == 2


async def test_what_was_recorded_before_a_restart_is_not_recorded_again(broker: Broker) -> None:
    async with site(broker, Recalled()) as here:
        here.side.send("m01", 1)
        here.side.send("m01", 2, START + timedelta(minutes=1))
        assert sorted(await here.receipts(2)) == ["m01-1", "m01-2"]
        assert {reading.measured_at for reading in here.recorder.readings} == {START + timedelta(minutes=1)}


async def test_a_message_without_power_is_known_again_after_a_restart(broker: Broker) -> None:
    class OfEnergy(Recalled):
        async def recorded_instants(self, points: Sequence[PointId], last: int) -> Mapping[PointId, Collection[datetime]]:
            return {point: [START] for point in points if point == "harbour/m01/e_import_wh"}

    async with site(broker, OfEnergy()) as here:
        here.side.send("m01", 1, p_w=None, v_v=None)
        assert await here.receipts(1) == ["m01-1"]
        assert here.recorder.readings == []


async def test_while_the_outbox_cannot_tell_what_it_holds_a_message_is_shown_and_not_receipted(broker: Broker) -> None:
    recalled = Recalled(refuse=1)
    async with site(broker, recalled) as here:
        here.side.send("m01", 1)
        await here.until(lambda: recalled.refuse == 0)
        here.side.send("m01", 1)
        assert await here.receipts(1) == ["m01-1"]
        assert here.recorder.readings == [], "it was recorded before the restart"
        assert here.context.image.freeze(START).value(PointId("harbour/m01/p_w"), 60.0) == 500.0


async def test_no_receipt_leaves_when_the_disk_refuses_and_the_repetition_is_recorded(broker: Broker) -> None:
    async with site(broker) as here:
        here.recorder.refuse = 1
        here.side.send("m01", 1)
        await here.until(lambda: here.recorder.refuse == 0)
        assert here.side.receipts.empty()
        clock = here.context.clock
        assert isinstance(clock, ManualClock)
        await clock.advance(2)
        here.side.send("m01", 1)
        assert await here.receipts(1) == ["m01-1"]
        assert len(here.recorder.readings) == 3


@pytest.mark.parametrize(
    "payload",
    [
        b"{",
        b"[1]",
        b"\xff\xfe",
        b"[" * 4000,
        b'{"id": "x", "ts": "yesterday", "p_w": 1}',
        b'{"id": "x", "ts": "2016-12-07T15:30:00", "p_w": 1}',
        b'{"id": "x", "ts": "2016-12-07T15:30:00Z", "p_w": NaN}',
        b'{"id": "x", "ts": "2016-12-07T15:30:00Z", "p_w": 1e999}',
        b'{"id": "x", "ts": "2016-12-07T15:30:00Z", "p_w": true}',
        b'{"id": "x", "ts": "2016-12-07T15:30:00Z", "p_w": 1e308}',
        b'{"id": "x", "ts": "2016-12-07T15:30:00Z", "p_w": ' + b"9" * 3900 + b"}",
        b'{"id": "x", "ts": "0001-01-01T00:00:00Z", "p_w": 1}',
        b'{"id": "x", "ts": "1970-01-01T00:00:00Z", "p_w": 1}',
        b'{"id": "x", "ts": "9999-12-31T23:59:59Z", "p_w": 1}',
        b'{"id": "x", "ts": "2016-12-07T15:30:00Z"}',
        b'{"id": 7, "ts": "2016-12-07T15:30:00Z", "p_w": 1}',
        b" " * 5000,
    ],
)
async def test_a_bad_message_is_told_once_and_blocks_nobody(broker: Broker, payload: bytes) -> None:
    async with site(broker) as here:
        here.side.send_raw("m01", payload)
        here.side.send_raw("m01", payload)
        here.side.send("m02", 1)
        assert await here.receipts(1) == ["m02-1"]
        assert here.gateway.counters.refused == 2
        assert here.recorder.codes() == ["meter.bad_message"]
        assert "meters/m01/reading" in here.recorder.events[0].text


async def test_a_meter_that_falls_silent_is_found_by_its_own_poll(broker: Broker) -> None:
    async with site(broker) as here:
        here.side.send("m01", 1)
        await here.receipts(1)
        clock = here.context.clock
        assert isinstance(clock, ManualClock)
        await clock.advance(179)
        await here.drivers[0].read()
        await clock.advance(2)
        with pytest.raises(DeviceTransientError, match="m01: silent for 181 s"):
            await here.drivers[0].read()


async def test_the_gateway_finds_its_broker_again(broker: Broker) -> None:
    async with site(broker) as here:
        broker.kill()
        await here.until(lambda: not here.gateway.connected)
        broker.start()
        await here.until(lambda: here.gateway.connected)
        await here.until(here.side._client.is_connected)
        here.side._client.subscribe("meters/+/receipt", 1)
        here.side.send("m01", 1)
        assert await here.receipts(1) == ["m01-1"]


async def test_a_field_broker_that_cannot_be_used_is_told_once_with_its_reason(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    nobody = free_port()
    async with FieldClient(MqttEndpoint(host="127.0.0.1", port=nobody, insecure=True), "edge-field", ()):
        async with asyncio.timeout(20):
            refused = f"field broker 127.0.0.1:{nobody} cannot be reached: Connection refused"
            while refused not in caplog.text:  # noqa: ASYNC110 - paho's thread finds it
                await asyncio.sleep(0.05)
    absent = MqttEndpoint(host="127.0.0.1", port=nobody, ca_file=tmp_path / "absent.crt")
    with pytest.raises(NotOpenedError, match=r"absent\.crt': cannot be read: No such file or directory"):
        async with FieldClient(absent, "edge-field", ()):
            pass


async def test_a_meter_takes_no_orders() -> None:
    context, _ = make_context(broker=MqttEndpoint(host="127.0.0.1", port=1, insecure=True))
    with pytest.raises(DevicePermanentError, match="only measures"):
        await open_driver(meter("m01"), EDGE, context).apply(HoldPower(0.0, 60.0))


async def test_a_publishing_device_without_a_field_broker_is_refused() -> None:
    with pytest.raises(DevicePermanentError, match="no field_broker"):
        open_driver(meter("m01"), EDGE, make_context()[0])
