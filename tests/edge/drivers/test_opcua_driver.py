"""The OPC-UA driver against a real asyncua server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st

from deploy.ports import free_port
from tests.edge.drivers.field import EDGE, START, make_context
from tests.edge.drivers.opcua_server import SOURCE_TIME, VALUES, Bay, serve
from tieline_core.clock import ManualClock
from tieline_core.quantities import Quality, Reading
from tieline_edge.drivers.capabilities import DevicePermanentError, DeviceTransientError, HoldPower, Release
from tieline_edge.drivers.catalog.load import entry
from tieline_edge.drivers.opcua.driver import quality_of, reading_of
from tieline_edge.drivers.points import PointTable
from tieline_edge.drivers.registry import open_driver
from tieline_edge.settings import DeviceSettings


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server() -> AsyncIterator[Bay]:
    running = await serve(free_port())
    yield running
    await running.stop()


@pytest_asyncio.fixture(loop_scope="module")
async def bay(server: Bay) -> Bay:
    for name, value in VALUES.items():
        await server.set(name, value)
    return server


@pytest.mark.asyncio(loop_scope="module")
async def test_a_bay_is_read_in_one_call_with_its_source_time(bay: Bay) -> None:
    async with open_driver(bay.settings(), EDGE, make_context()[0]) as driver:
        readings = {reading.point.quantity: reading for reading in await driver.read()}
    assert {name: reading.value for name, reading in readings.items()} == {
        "p_w": 412000.0,
        "q_var": 88000.0,
        "i_a": 611.25,
        "v_v": 398.7,
        "loading_pct": 66.91,
        "oil_temp_degc": 58.2,
        "breaker_closed": 1.0,
    }
    assert {reading.measured_at for reading in readings.values()} == {SOURCE_TIME}
    assert {reading.quality for reading in readings.values()} == {Quality.GOOD}


@pytest.mark.asyncio(loop_scope="module")
async def test_a_bad_status_carries_no_number_and_an_uncertain_one_says_so(bay: Bay) -> None:
    await bay.set("OilTempC", 999.0, 0x80020000)
    await bay.set("LoadingPct", 70.0, 0x40000000)
    async with open_driver(bay.settings(), EDGE, make_context()[0]) as driver:
        readings = {reading.point.quantity: reading for reading in await driver.read()}
    assert (readings["oil_temp_degc"].quality, readings["oil_temp_degc"].value) == (Quality.BAD, None)
    assert (readings["loading_pct"].quality, readings["loading_pct"].value) == (Quality.UNCERTAIN, 70.0)


@pytest.mark.asyncio(loop_scope="module")
async def test_a_vanished_node_leaves_the_other_points_alone_is_told_once_and_comes_back(bay: Bay) -> None:
    clock = ManualClock(START)
    context, recorder = make_context(clock)
    driver = open_driver(bay.settings("TR2"), EDGE, context)
    async with driver:
        await driver.read()
        await bay.server.delete_nodes([bay.nodes["TR2.CurrentA"]])
        for _ in range(3):
            readings = {reading.point.quantity: reading for reading in await driver.read()}
            assert (readings["i_a"].quality, readings["i_a"].value) == (Quality.BAD, None)
            assert readings["p_w"].value == 412000.0
    async with driver:
        await driver.read()
        assert recorder.codes() == ["opcua.node_gone"]
        assert "ns=2;s=TR2.CurrentA" in recorder.events[0].text
        await bay.add("TR2", {"CurrentA": 7.5})
        await clock.advance(31)
        readings = {reading.point.quantity: reading for reading in await driver.read()}
    assert readings["i_a"].value == 7.5
    assert recorder.codes() == ["opcua.node_gone", "opcua.node_back"]


@pytest.mark.asyncio(loop_scope="module")
async def test_a_voltage_no_grid_can_have_is_no_number_and_a_brown_out_is_uncertain(bay: Bay) -> None:
    async with open_driver(bay.settings(), EDGE, make_context()[0]) as driver:
        for volts, quality in ((39870.0, Quality.BAD), (300.0, Quality.UNCERTAIN), (398.7, Quality.GOOD)):
            await bay.set("VoltageV", volts)
            readings = {reading.point.quantity: reading for reading in await driver.read()}
            assert readings["v_v"].quality is quality
            assert (readings["v_v"].value is None) == (quality is Quality.BAD)
            assert readings["p_w"].quality is Quality.GOOD


@pytest.mark.asyncio(loop_scope="module")
async def test_a_root_that_does_not_exist_is_a_mistake_of_the_configuration(bay: Bay) -> None:
    async with open_driver(bay.settings("TR9"), EDGE, make_context()[0]) as driver:
        with pytest.raises(DevicePermanentError, match=r"none of the 7 nodes .*; is opcua.root 'TR9' right"):
            await driver.read()


async def test_a_server_that_stops_is_transient_and_a_new_entry_reads_again() -> None:
    port = free_port()
    first = await serve(port)
    driver = open_driver(first.settings(), EDGE, make_context()[0])
    async with driver:
        await driver.read()
        await first.stop()
        with pytest.raises(DeviceTransientError, match=r"opc\.tcp"):
            await driver.read()
    with pytest.raises(DeviceTransientError, match="no session"):
        async with driver:
            pass
    second = await serve(port)
    async with driver:
        assert len(await driver.read()) == len(VALUES)
    await second.stop()


async def test_a_server_that_says_nothing_costs_its_time_out_only() -> None:
    async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()
        left.set()

    left = asyncio.Event()
    black_hole = await asyncio.start_server(swallow, "127.0.0.1", 0)
    url = f"opc.tcp://127.0.0.1:{black_hole.sockets[0].getsockname()[1]}"
    settings = DeviceSettings.model_validate(
        {"id": "tr1", "catalog": "transformer-bay-opcua", "opcua": {"url": url, "timeout_s": 0.2, "insecure": True}}
    )
    async with black_hole:
        with pytest.raises(DeviceTransientError, match="no session"):
            async with asyncio.timeout(2), open_driver(settings, EDGE, make_context()[0]):
                pass
        async with asyncio.timeout(2):
            await left.wait()


@pytest.mark.asyncio(loop_scope="module")
async def test_a_bay_takes_no_orders_but_may_be_released(bay: Bay) -> None:
    async with open_driver(bay.settings(), EDGE, make_context()[0]) as driver:
        with pytest.raises(DevicePermanentError, match="cannot hold_power; nothing was written"):
            await driver.apply(HoldPower(0.0, 60.0))
        assert (await driver.apply(Release())).confirmed


@given(
    st.integers(0, 2**32 - 1),
    st.none() | st.booleans() | st.floats() | st.integers(-(10**6), 10**6) | st.text() | st.lists(st.floats()),
)
def test_whatever_a_server_answers_a_bad_value_is_never_a_number(status: int, value: object) -> None:
    table = PointTable(
        EDGE, DeviceSettings.model_validate({"id": "tr1", "catalog": "transformer-bay-opcua", "opcua": {"url": "opc.tcp://x:4840"}}),
        entry("transformer-bay-opcua"),
    )  # fmt: skip
    reading = reading_of(next(iter(table)), status, value, None, START)
    assert (reading.value is None) == (reading.quality is Quality.BAD)
    assert quality_of(status) is not Quality.BAD or reading.value is None


def loading(value: float, source_time: datetime) -> Reading:
    settings = DeviceSettings.model_validate(
        {"id": "tr1", "catalog": "transformer-bay-opcua", "opcua": {"url": "opc.tcp://x:4840"}}
    )
    row = next(iter(PointTable(EDGE, settings, entry("transformer-bay-opcua"))))
    return reading_of(row, 0, value, source_time, START)


def test_a_source_clock_that_is_ahead_does_not_make_a_value_look_fresh_for_an_hour() -> None:
    reading = loading(80.0, START + timedelta(hours=1))
    assert (reading.measured_at, reading.quality) == (START, Quality.UNCERTAIN)
    assert loading(80.0, START + timedelta(seconds=5)).quality is Quality.GOOD


@pytest.mark.parametrize("year", [1601, 1970, 2200])
def test_an_instant_no_store_can_hold_is_a_bad_reading(year: int) -> None:
    assert loading(80.0, datetime(year, 1, 2, tzinfo=UTC)).quality is Quality.BAD


def test_a_number_too_large_to_round_is_a_bad_reading() -> None:
    assert loading(1e308, START).quality is Quality.BAD
