"""The edge's OPC-UA and MQTT drivers against the simulator's devices, which count every order that reaches them."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from deploy.ports import free_port
from tests.conftest import Broker
from tests.edge.drivers.field import EDGE, START, MemoryRecorder, make_context
from tieline_core.ids import PointId
from tieline_core.quantities import Quality
from tieline_edge.drivers.capabilities import DevicePermanentError, DeviceTransientError, Driver, HoldPower, SwitchContact
from tieline_edge.drivers.context import DriverContext
from tieline_edge.drivers.mqtt.parties import Publishing
from tieline_edge.drivers.opcua.pki import Pki
from tieline_edge.drivers.registry import open_driver
from tieline_edge.settings import DeviceSettings, MqttEndpoint
from tieline_sim.devices.contactor import Contactor
from tieline_sim.scenario import SheddableSpec
from tieline_sim.servers.field_relay import MqttRelay
from tieline_sim.servers.opcua_bays import SwitchableBays
from tieline_sim.servers.opcua_security import Security


class Customer:
    """A simulated customer and what the simulator has been told to do with it."""

    def __init__(self, unit: int = 3) -> None:
        self.now = START.timestamp()
        self.moves: list[tuple[bool, str]] = []
        self.orders: list[dict[str, float]] = []
        spec = SheddableSpec(unit=unit, priority_class=3, share=0.05)
        self.contactor = Contactor(spec, 30e3, lambda: self.now, lambda _unit, closed, why: self.moves.append((closed, why)))
        self.contactor.step(0.0, 5000.0, 231.4)

    def written(self, _device: str, values: dict[str, float]) -> None:
        self.orders.append(values)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - another thread or process tells nobody
            await asyncio.sleep(0.01)


@asynccontextmanager
async def secured_bay(folder: Path, customer: Customer) -> AsyncIterator[tuple[SwitchableBays, Security]]:
    security = Security(folder, "urn:tieline:field:harbour")
    bays = SwitchableBays("harbour", {3: customer.contactor}, free_port(), lambda: customer.now, customer.written, security)
    await bays.open()
    try:
        yield bays, security
    finally:
        await bays.close()


async def test_edge_and_field_trust_each_other_before_a_contactor_moves(tmp_path: Path) -> None:
    customer, pki = Customer(), Pki(tmp_path / "pki", EDGE)
    async with secured_bay(tmp_path / "field", customer) as (bays, security):
        place = {"url": bays.url, "root": "F03", "timeout_s": 5.0, "security_policy": "Aes256_Sha256_RsaPss"}
        row = {"id": "load03", "catalog": "switchgear-bay-opcua", "opcua": place, "priority_class": 3}
        context, recorder = make_context()
        with_pki = DriverContext(context.edge_id, context.clock, recorder, context.image, pki=pki)
        driver = open_driver(DeviceSettings.model_validate(row), EDGE, with_pki)
        with pytest.raises(DevicePermanentError, match="is not trusted"):
            async with driver:
                pass
        (rejected,) = pki.rejected()
        pki.trust(rejected)
        with pytest.raises(DevicePermanentError, match=r"put .*own/cert.der into its trust list"):
            async with driver:
                pass
        shutil.copy(pki.folder / "own" / "cert.der", security.clients / "edge.der")
        async with driver:
            readings = {reading.point.quantity: reading for reading in await driver.read()}
            values = {name: reading.value for name, reading in readings.items()}
            assert values == {"p_w": 5000.0, "v_v": 231.4, "closed": 1.0, "e_import_wh": 0.0}
            assert {reading.measured_at for reading in readings.values()} == {START}
            with pytest.raises(DevicePermanentError, match="nothing was written"):
                await driver.apply(HoldPower(0.0, 60.0))
            assert customer.orders == []
            done = await driver.apply(SwitchContact(closed=False, off_timer_s=600.0))
            assert done.confirmed, done.text
            assert customer.orders == [{"off_timer_s": 600.0}, {"coil": 0.0}]
            assert customer.moves == [(False, "write")]
            customer.now += 601
            customer.contactor.energy_wh = 4321.0
            await bays.tick()
            energies: list[float | None] = []
            async with asyncio.timeout(60):
                while 4321.0 not in energies:
                    readings = {reading.point.quantity: reading for reading in await driver.read()}
                    energies += [reading.value for name, reading in readings.items() if name == "e_import_wh"]
                    await asyncio.sleep(0.05)
            assert customer.moves[-1] == (True, "off-timer")
            assert (readings["closed"].value, readings["p_w"].value) == (1.0, 5000.0)


class Relay:
    """A running gateway, the simulated relay and the edge's driver of it."""

    def __init__(self, driver: Driver, relay: MqttRelay, customer: Customer, context: DriverContext, recorder: MemoryRecorder):
        self.driver, self.relay, self.customer, self.context, self.recorder = driver, relay, customer, context, recorder
        self.seen: dict[str, float | None] = {}

    def quality(self, quantity: str) -> Quality:
        return self.context.image.freeze(START).readings[PointId.of(EDGE, "load03", quantity)].quality

    async def seeing(self, **values: float) -> None:
        async with asyncio.timeout(60):
            while not values.items() <= self.seen.items():
                self.relay.tick()
                self.seen |= {reading.point.quantity: reading.value for reading in await self.driver.read()}
                await asyncio.sleep(0.01)


@asynccontextmanager
async def relay_site(broker: Broker) -> AsyncIterator[Relay]:
    context, recorder = make_context(broker=MqttEndpoint(host=broker.host, port=broker.port, insecure=True))
    row = {"id": "load03", "catalog": "shelly-gen2-switch", "mqtt": {"serial": "shop/relay3"}, "priority_class": 3}
    driver = open_driver(DeviceSettings.model_validate(row), EDGE, context)
    customer = Customer()
    relay = MqttRelay("shop/relay3", customer.contactor, (broker.host, broker.port), customer.written)
    gateway = context.meters
    assert gateway is not None
    assert isinstance(driver, Publishing)
    gateway.join([driver.party])
    task = asyncio.create_task(gateway.run())
    try:
        await until(lambda: gateway.connected)
        relay.start()
        async with driver:
            yield Relay(driver, relay, customer, context, recorder)
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        relay.stop()


@pytest.mark.broker
async def test_a_relay_is_read_opened_and_flips_back_by_its_own_timer(broker: Broker) -> None:
    async with relay_site(broker) as here:
        await here.seeing(p_w=5000.0, v_v=231.4, closed=1.0)
        done = await here.driver.apply(SwitchContact(closed=False, off_timer_s=600.0))
        assert done.confirmed, done.text
        assert here.customer.orders == [{"off_timer_s": 600.0, "coil": 0.0}]
        await here.seeing(closed=0.0, p_w=0.0)
        here.customer.now += 601
        await here.seeing(closed=1.0, p_w=5000.0)
        assert here.customer.moves == [(False, "write"), (True, "off-timer")]


@pytest.mark.broker
async def test_a_relay_that_accepts_and_does_not_move_is_not_confirmed(broker: Broker) -> None:
    async with relay_site(broker) as here:
        await here.seeing(closed=1.0)
        here.relay.stuck = True
        done = await here.driver.apply(SwitchContact(closed=False, off_timer_s=600.0))
        assert not done.confirmed
        assert "says true" in done.text
        assert here.customer.moves == []


@pytest.mark.broker
async def test_a_relay_without_power_is_stale_at_once_and_gets_no_order(broker: Broker) -> None:
    async with relay_site(broker) as here:
        await here.seeing(closed=1.0)
        here.relay.pull_the_plug()
        await until(lambda: here.quality("closed") is Quality.STALE)
        with pytest.raises(DeviceTransientError, match=r"offline, says shop/relay3/online; nothing was written"):
            await here.driver.apply(SwitchContact(closed=False, off_timer_s=600.0))
        assert here.customer.orders == []
