"""Devices on the field broker join, change and leave while the edge runs, over a real broker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Broker
from tests.edge.commissioning.publishing import Running, Site, edge
from tests.edge.commissioning.site import battery, field_of, load
from tests.edge.drivers.field import ModbusServer
from tests.edge.drivers.test_mqtt_devices import Tasmota
from tests.edge.drivers.test_mqtt_gateway import MeterSide
from tieline_core.ids import DeviceId, PointId
from tieline_edge.drivers.capabilities import SwitchContact
from tieline_edge.drivers.mqtt.gateway import MeterGateway
from tieline_edge.sync.sinks import OfferRefusedError

pytestmark = pytest.mark.broker
PLUG, METER = map(DeviceId, ("plug1", "m01"))


def plug(**rest: Any) -> dict[str, Any]:
    return {"id": "plug1", "catalog": "tasmota-plug", "mqtt": {"serial": "plug1"}, "priority_class": 3, "poll_s": 0.1, **rest}


def meter(**rest: Any) -> dict[str, Any]:
    return {"id": "m01", "catalog": "mqtt-json-meter", "mqtt": {"serial": "m01"}, **rest}


@pytest.fixture
async def site(tmp_path: Path, broker: Broker) -> AsyncIterator[Site]:
    async with ModbusServer() as old, ModbusServer() as new:
        field_of(old)
        made = Site(tmp_path, old, new)
        made.tree["field_broker"] = {"host": broker.host, "port": broker.port, "insecure": True}
        made.write(made.tree)
        yield made


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - paho's thread tells nobody
            await asyncio.sleep(0.01)


def value(running: Running, device: DeviceId, quantity: str) -> float | None:
    found = running.parts.image.freeze(running.parts.clock.now()).readings.get(PointId(f"harbour/{device}/{quantity}"))
    return None if found is None else found.value


def of_others(gateway: MeterGateway) -> int:
    """Messages that were no meter's."""
    return gateway.counters.messages - gateway.counters.recorded - gateway.counters.repeated


async def test_a_plug_joins_a_running_edge_takes_an_order_and_leaves(site: Site, broker: Broker) -> None:
    tasmota = Tasmota(broker)
    field = (battery(site.old.port), load(site.old.port))
    try:
        async with asyncio.timeout(60), edge(site) as running:
            await running.taker.offer(*site.publish(site.with_devices(*field, plug())))
            await until(lambda: value(running, PLUG, "p_w") == 1200.0)
            assert (await running.parts.handles[PLUG].apply(SwitchContact(closed=False))).confirmed
            assert ("POWER", "OFF") in tasmota.orders
            assert site.old.connections == 1, "nobody else noticed"
            await running.taker.offer(*site.publish(site.with_devices(*field)))
            gateway = running.parts.context.meters
            assert gateway is not None
            await running.taker.offer(*site.publish(site.with_devices(*field, meter())))
            side = MeterSide(broker)
            try:
                at = running.parts.clock.now()
                # As a meter does: what was published before the edge has subscribed is repeated.
                while value(running, METER, "p_w") != 500.0:
                    side.send("m01", 1, at)
                    await asyncio.sleep(0.05)
                before = of_others(gateway)
                tasmota.say("tele", "SENSOR", '{"ENERGY": {"Power": 7}}')
                side.send("m01", 2, running.parts.clock.now())
                await until(lambda: gateway.counters.recorded == 2)
            finally:
                side.close()
            assert of_others(gateway) == before, "nobody listens to a plug that has left"
            assert value(running, PLUG, "p_w") is None
    finally:
        tasmota.close()


async def test_a_meter_that_is_configured_anew_is_not_recorded_twice(site: Site, broker: Broker) -> None:
    site.tree["devices"].append(meter())
    site.write(site.tree)
    side = MeterSide(broker)
    try:
        async with edge(site) as running:
            gateway = running.parts.context.meters
            assert gateway is not None
            await until(lambda: gateway.connected)
            at = running.parts.clock.now()
            side.send("m01", 1, at)
            await until(lambda: gateway.counters.receipts == 1)
            await running.taker.offer(
                *site.publish(site.with_devices(battery(site.old.port), load(site.old.port), meter(nominal_v=240.0)))
            )
            await until(lambda: gateway.connected)
            side.send("m01", 1, at)
            await until(lambda: gateway.counters.receipts == 2)
            assert (gateway.counters.recorded, gateway.counters.repeated) == (1, 1)
    finally:
        side.close()


async def test_without_a_field_broker_nobody_joins_it(site: Site) -> None:
    del site.tree["field_broker"]
    site.write(site.tree)
    async with edge(site) as running:
        with pytest.raises(OfferRefusedError, match="field_broker is needed"):
            await running.taker.offer(*site.publish(site.with_devices(battery(site.old.port), plug())))
        assert PLUG not in running.parts.handles
