"""Plugs and inverters over a real broker: several topics, last will, silence, orders that are confirmed or not sent."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion

from tests.conftest import Broker
from tests.edge.drivers.field import EDGE, START, MemoryRecorder, make_context
from tests.edge.drivers.test_mqtt_gateway import party_of
from tieline_core.clock import ManualClock
from tieline_core.ids import PointId
from tieline_core.quantities import Quality
from tieline_edge.drivers.capabilities import DevicePermanentError, DeviceTransientError, Driver, HoldPower, SwitchContact
from tieline_edge.drivers.context import DriverContext
from tieline_edge.drivers.registry import open_driver
from tieline_edge.settings import DeviceSettings, MqttEndpoint

pytestmark = pytest.mark.broker


class Tasmota:
    """A plug as its documentation describes it; notes every order it gets."""

    def __init__(self, broker: Broker, topic: str = "plug1") -> None:
        self.on, self.power_w = True, 1200.0
        self.orders: list[tuple[str, str]] = []
        self._topic = topic
        self._heard = threading.Event()
        self._client = Client(CallbackAPIVersion.VERSION2, client_id=f"plug-{topic}")
        self._client.will_set(f"tele/{topic}/LWT", "Offline", qos=1, retain=True)
        self._client.on_message = self._on_message
        self._client.on_subscribe = lambda *_: self._heard.set()
        self._client.connect(broker.host, broker.port)
        self._client.loop_start()
        self._client.subscribe(f"cmnd/{topic}/+", 1)
        assert self._heard.wait(60)

    def _on_message(self, _client: Client, _userdata: object, message: MQTTMessage) -> None:
        command, payload = message.topic.rsplit("/", 1)[1], message.payload.decode()
        if payload or command != "POWER":
            self.orders.append((command, payload))
        if command == "POWER":
            self.on = {"ON": True, "OFF": False}.get(payload, self.on)
            self._answer("POWER", "ON" if self.on else "OFF")
        if command == "STATUS":
            self._answer("STATUS8", json.dumps({"StatusSNS": self.sensor()}))

    def _answer(self, name: str, payload: str) -> None:
        """From the network thread, which must not wait for itself."""
        self._client.publish(f"stat/{self._topic}/{name}", payload, qos=1)

    def sensor(self) -> dict[str, Any]:
        power_w = self.power_w if self.on else 0
        return {"Time": "2016-12-07T16:30:00", "ENERGY": {"Total": 1.5, "Power": power_w, "Voltage": 231, "Current": 5.2}}

    def say(self, prefix: str, name: str, payload: str, *, retain: bool = False) -> None:
        self._client.publish(f"{prefix}/{self._topic}/{name}", payload, qos=1, retain=retain).wait_for_publish(60)

    def vanish(self) -> None:
        """Lose the connection without a goodbye: the broker publishes the last will."""
        sock = self._client.socket()
        self._client.loop_stop()
        if sock is not None:
            sock.close()

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


class Site:
    """A running gateway with one plug."""

    def __init__(self, context: DriverContext, recorder: MemoryRecorder, driver: Driver, plug: Tasmota) -> None:
        self.context, self.recorder, self.driver, self.plug = context, recorder, driver, plug
        self.seen: dict[str, float | None] = {}

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(60):
            while not condition():  # noqa: ASYNC110 - paho's thread tells nobody
                await asyncio.sleep(0.01)

    async def poll(self) -> dict[str, float | None]:
        for reading in await self.driver.read():
            self.seen[reading.point.quantity] = reading.value
        return self.seen

    async def seeing(self, **values: float | None) -> None:
        """Poll until these values have come in."""
        async with asyncio.timeout(60):
            while not values.items() <= (await self.poll()).items():  # noqa: ASYNC110 - paho's thread tells nobody
                await asyncio.sleep(0.01)

    def quality(self, quantity: str) -> Quality:
        return self.context.image.freeze(START).readings[PointId.of(EDGE, "p1", quantity)].quality

    async def wait(self, seconds: float) -> None:
        assert isinstance(self.context.clock, ManualClock)
        await self.context.clock.advance(seconds)


@asynccontextmanager
async def site(broker: Broker, *, first: Callable[[Tasmota], None] = lambda _plug: None) -> AsyncIterator[Site]:
    context, recorder = make_context(broker=MqttEndpoint(host=broker.host, port=broker.port, insecure=True))
    row = {"id": "p1", "catalog": "tasmota-plug", "mqtt": {"serial": "plug1"}, "priority_class": 3}
    driver = open_driver(DeviceSettings.model_validate(row), EDGE, context)
    plug = Tasmota(broker)
    first(plug)
    gateway = context.meters
    assert gateway is not None
    gateway.join([party_of(driver)])
    task = asyncio.create_task(gateway.run())
    here = Site(context, recorder, driver, plug)
    try:
        await here.until(lambda: gateway.connected)
        async with driver:
            yield here
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        plug.close()


async def test_values_come_from_several_topics_in_si_units_and_the_device_is_asked(broker: Broker) -> None:
    async with site(broker) as here:
        await here.seeing(p_w=1200.0, v_v=231.0, i_a=5.2, e_import_wh=1500.0, closed=1.0)
        here.plug.say("tele", "SENSOR", json.dumps({"ENERGY": {"Power": 800.5}}))
        here.plug.say("tele", "STATE", json.dumps({"POWER": "OFF"}))
        await here.seeing(p_w=800.5, closed=0.0)
        assert here.plug.orders == [("STATUS", "8")], "asked once a period"
        await here.wait(16)
        await here.seeing(p_w=1200.0, closed=1.0)


async def test_a_voltage_no_grid_can_have_is_no_number(broker: Broker) -> None:
    async with site(broker) as here:
        await here.seeing(v_v=231.0)
        here.plug.say("tele", "SENSOR", json.dumps({"ENERGY": {"Voltage": 23100, "Power": 17.0}}))
        await here.seeing(v_v=None, p_w=17.0)


async def test_a_last_will_makes_its_points_stale_at_once_and_its_return_is_heard(broker: Broker) -> None:
    async with site(broker) as here:
        here.plug.say("tele", "LWT", "Online", retain=True)
        await here.seeing(p_w=1200.0, closed=1.0)
        here.plug.vanish()
        await here.until(lambda: here.quality("p_w") is Quality.STALE)
        assert here.quality("closed") is Quality.STALE
        with pytest.raises(DeviceTransientError, match="plug1 is offline, says tele/plug1/LWT"):
            await here.driver.read()
        with pytest.raises(DeviceTransientError, match=r"offline.*nothing was written"):
            await here.driver.apply(SwitchContact(closed=False))
        again = Tasmota(broker)
        again.say("tele", "LWT", "Online", retain=True)
        again.say("tele", "SENSOR", json.dumps(again.sensor()))
        try:
            async with asyncio.timeout(60):
                while here.quality("p_w") is not Quality.GOOD:  # noqa: ASYNC110 - paho's thread tells nobody
                    await asyncio.sleep(0.01)
            await here.driver.read()
            assert again.orders in ([], [("STATUS", "8")]), "no order waited for it"
        finally:
            again.close()


async def test_a_retained_value_is_shown_and_decides_nothing(broker: Broker) -> None:
    def earlier(plug: Tasmota) -> None:
        plug.say("tele", "SENSOR", json.dumps({"ENERGY": {"Power": 777}}), retain=True)
        plug.say("tele", "LWT", "Online", retain=True)

    async with site(broker, first=earlier) as here:
        await here.until(lambda: PointId.of(EDGE, "p1", "p_w") in here.context.image.freeze(START).readings)
        assert here.quality("p_w") is Quality.STALE
        with pytest.raises(DeviceTransientError, match=r"has not been heard yet.*nothing was written"):
            await here.driver.apply(SwitchContact(closed=False))
        assert here.plug.orders == []


async def test_an_order_is_confirmed_by_the_device_itself(broker: Broker) -> None:
    async with site(broker) as here:
        await here.seeing(closed=1.0)
        done = await here.driver.apply(SwitchContact(closed=False))
        assert done.confirmed, done.text
        assert ("POWER", "OFF") in here.plug.orders
        assert not here.plug.on


async def test_a_device_that_falls_silent_is_found_by_its_own_poll(broker: Broker) -> None:
    async with site(broker) as here:
        await here.seeing(p_w=1200.0)
        here.plug.close()
        await here.wait(44)
        await here.driver.read()
        await here.wait(3)
        with pytest.raises(DeviceTransientError, match="plug1: silent for 47 s, reports each 15 s"):
            await here.driver.read()
        with pytest.raises(DeviceTransientError, match=r"silent.*nothing was written"):
            await here.driver.apply(SwitchContact(closed=False))


async def test_no_order_waits_for_a_broker_that_is_away(broker: Broker) -> None:
    async with site(broker) as here:
        await here.seeing(p_w=1200.0)
        gateway = here.context.meters
        assert gateway is not None
        broker.kill()
        await here.until(lambda: not gateway.connected)
        with pytest.raises(DeviceTransientError, match=r"not.*nothing was written"):
            await here.driver.apply(SwitchContact(closed=False))
        broker.start()
        await here.until(lambda: gateway.connected)
        await asyncio.sleep(0.2)
        assert ("POWER", "OFF") not in here.plug.orders


@pytest.mark.parametrize(
    ("name", "payload"),
    [("SENSOR", "{"), ("SENSOR", '{"ENERGY": {"Power": "many"}}'), ("STATE", '{"POWER": "perhaps"}'), ("LWT", "Sleeping")],
)
async def test_a_bad_message_is_told_once_and_gives_no_number(broker: Broker, name: str, payload: str) -> None:
    async with site(broker) as here:
        await here.seeing(p_w=1200.0, closed=1.0)
        for _ in range(3):
            here.plug.say("tele", name, payload)
        gateway = here.context.meters
        assert gateway is not None
        await here.until(lambda: gateway.counters.refused == 3)
        assert here.recorder.codes() == ["device.bad_message"]
        assert f"tele/plug1/{name}" in here.recorder.events[0].text
        seen = await here.poll()
        assert seen["p_w"] in (1200.0, None)
        assert seen["closed"] in (1.0, None)


async def test_an_order_it_cannot_take_is_refused(broker: Broker) -> None:
    async with site(broker) as here:
        await here.seeing(p_w=1200.0)
        with pytest.raises(DevicePermanentError, match="cannot hold_power; nothing was written"):
            await here.driver.apply(HoldPower(0.0, 60.0))
