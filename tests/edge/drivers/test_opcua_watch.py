"""What comes by subscription: changes with their source times, deadband, and what a server that does not watch costs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any

import pytest
import pytest_asyncio
import yaml

from deploy.ports import free_port
from tests.edge.drivers.field import EDGE, START, MemoryRecorder, make_context
from tests.edge.drivers.opcua_server import Bay, serving
from tests.faults.proxy import Proxy
from tieline_core.clock import ManualClock
from tieline_core.errors import BadInputError
from tieline_core.quantities import Quality, Reading
from tieline_edge.drivers.capabilities import DeviceTransientError
from tieline_edge.drivers.catalog.entry import CatalogEntry
from tieline_edge.drivers.catalog.load import parse_entry
from tieline_edge.drivers.opcua.driver import OpcUaDriver
from tieline_edge.drivers.points import PointTable
from tieline_edge.drivers.spec import spec_of

ENTRY: dict[str, Any] = {
    "name": "watched-bay",
    "title": "A bay with two values for people",
    "source": "this test",
    "protocol": "opcua",
    "role": "meter",
    "capabilities": ["measure"],
    "points": [
        {"quantity": "p_w", "node": "ns=2;s={root}.ActivePowerW"},
        {"quantity": "q_var", "node": "ns=2;s={root}.ReactivePowerVar", "subscribe": {"sampling_s": 0.05, "deadband": 10}},
        {"quantity": "e_import_wh", "node": "ns=2;s={root}.EnergyWh", "subscribe": {"sampling_s": 0.05}},
    ],
}


def model(**changes: Any) -> CatalogEntry:
    return parse_entry(yaml.safe_dump({**ENTRY, **changes}), "watched-bay.yaml")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server() -> AsyncIterator[Bay]:
    async with serving(free_port()) as bay:
        await bay.add("W1", {"ActivePowerW": 1.0, "ReactivePowerVar": 100.0, "EnergyWh": 5.0})
        await bay.add("W2", {"ActivePowerW": 1.0, "ReactivePowerVar": 100.0})
        await bay.add("W3", {"ActivePowerW": 1.0, "ReactivePowerVar": "text", "EnergyWh": 5.0})
        yield bay


def driver_of(bay: Bay, root: str, url: str | None = None) -> tuple[OpcUaDriver, ManualClock, MemoryRecorder]:
    settings = bay.settings(root, opcua={"url": url or bay.url, "timeout_s": 2.0})
    assert settings.opcua is not None
    clock, entry = ManualClock(START), model()
    context, recorder = make_context(clock)
    points = PointTable(EDGE, settings, entry)
    return OpcUaDriver(spec_of(settings), entry, points, settings.opcua, context), clock, recorder


async def change(bay: Bay, name: str, value: float, at: datetime) -> None:
    from asyncua import ua

    data = ua.DataValue(ua.Variant(value), ua.StatusCode(0), SourceTimestamp=at.replace(tzinfo=None))
    await bay.server.write_attribute_value(bay.nodes[name].nodeid, data)


async def collected(driver: OpcUaDriver, quantity: str, last: float) -> list[Reading]:
    """Poll until a value of a quantity has come."""
    found: list[Reading] = []
    async with asyncio.timeout(60):
        while not found or found[-1].value != last:
            found += [reading for reading in await driver.read() if reading.point.quantity == quantity]
            await asyncio.sleep(0.02)
    return found


def ours() -> set[asyncio.Task[Any]]:
    """All tasks but the server's: its session with a subscription outlives a lost connection for a while, as it should."""
    return {task for task in asyncio.all_tasks() if "asyncua/server/" not in repr(task)}


@pytest.mark.asyncio(loop_scope="module")
async def test_changes_between_two_polls_come_with_their_own_times_and_small_ones_do_not(server: Bay) -> None:
    driver, _, recorder = driver_of(server, "W1")
    async with driver:
        await collected(driver, "q_var", 100.0)
        await collected(driver, "e_import_wh", 5.0)
        for step, value in enumerate((105.0, 130.0, 133.0, 150.0)):
            await change(server, "W1.ReactivePowerVar", value, START - timedelta(seconds=10 - step))
        found = await collected(driver, "q_var", 150.0)
        assert [reading.value for reading in found] == [130.0, 150.0]
        assert [(START - reading.measured_at).total_seconds() for reading in found] == [9.0, 7.0]
        quiet = await driver.read()
        assert [reading.point.quantity for reading in quiet] == ["p_w"], "what control may use is read, the rest is told"
    assert recorder.codes() == []


@pytest.mark.asyncio(loop_scope="module")
async def test_what_is_told_is_read_once_a_minute_all_the_same(server: Bay) -> None:
    driver, clock, _ = driver_of(server, "W1")
    async with driver:
        assert {reading.point.quantity for reading in await driver.read()} == {"p_w", "q_var", "e_import_wh"}
        await clock.advance(61)
        assert {reading.point.quantity for reading in await driver.read()} == {"p_w", "q_var", "e_import_wh"}


@pytest.mark.asyncio(loop_scope="module")
async def test_a_node_the_server_does_not_watch_is_read_and_a_missing_one_costs_itself_only(server: Bay) -> None:
    driver, _, recorder = driver_of(server, "W2")
    async with driver:
        for _ in range(2):
            await driver.read()
        readings = {reading.point.quantity: reading for reading in await driver.read()}
        assert readings["p_w"].value == 1.0
        assert readings["e_import_wh"].quality is Quality.BAD
    assert recorder.codes() == ["opcua.node_gone"]


@pytest.mark.asyncio(loop_scope="module")
async def test_a_watched_node_without_a_number_is_a_bad_reading(server: Bay) -> None:
    driver, _, _ = driver_of(server, "W3")
    async with driver:
        readings = {reading.point.quantity: reading for reading in await driver.read()}
    assert (readings["q_var"].quality, readings["q_var"].value) == (Quality.BAD, None)


@pytest.mark.asyncio(loop_scope="module")
async def test_a_subscription_leaves_no_task_behind_also_in_a_black_hole(server: Bay) -> None:
    before = ours()
    port = int(server.url.rsplit(":", 1)[1].split("/")[0])
    async with Proxy(("127.0.0.1", port), mqtt=False) as proxy:
        driver, _, _ = driver_of(server, "W1", f"opc.tcp://127.0.0.1:{proxy.port}/tieline")
        async with driver:
            async with asyncio.timeout(60):
                while not any(task.get_name().startswith("opcua-publish") for task in asyncio.all_tasks()):
                    await driver.read()
                    await asyncio.sleep(0.02)
            await proxy.half_open()
            with pytest.raises(DeviceTransientError, match="no answer to a read"):
                await driver.read()
    async with asyncio.timeout(60):
        while ours() - before:  # noqa: ASYNC110 - sockets close when the loop gets to it
            await asyncio.sleep(0.01)


def test_nothing_that_control_reads_may_come_by_subscription() -> None:
    for quantity in ("p_w", "v_v", "loading_pct", "soc_pct", "closed", "i_a", "f_hz"):
        with pytest.raises(BadInputError, match="control may read it, so it is read directly"):
            model(points=[{"quantity": quantity, "node": "ns=2;s=x", "subscribe": {}}])
    with pytest.raises(BadInputError, match="only a node can be subscribed to"):
        model(points=[{"quantity": "q_var", "register": {"address": 1}, "subscribe": {}}], protocol="modbus")
