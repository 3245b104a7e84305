"""Orders to OPC-UA devices: bounds and types before the first byte, StatusCodes in words, read-back after."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st

from deploy.ports import free_port
from tests.edge.drivers.field import EDGE, make_context
from tests.edge.drivers.opcua_server import Bay, serving
from tieline_edge.drivers.capabilities import (
    DevicePermanentError,
    DeviceTransientError,
    Driver,
    HoldPower,
    Release,
    SwitchContact,
)
from tieline_edge.drivers.opcua.writes import INTEGERS, PlannedWrite, encode, held, may_pass
from tieline_edge.drivers.registry import open_driver


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server() -> AsyncIterator[Bay]:
    from asyncua import ua

    async with serving(free_port()) as bay:
        await bay.add("F1", {"ActivePowerW": 5000.0, "VoltageV": 230.0, "Closed": True, "EnergyWh": 7.0})
        await bay.add("F1", {"OffTimerS": ua.Variant(0, ua.VariantType.UInt16), "CloseCommand": True}, writable=True)
        await bay.add("B1", {"ActivePowerW": 0.0, "StateOfChargePct": ua.Variant(50, ua.VariantType.Byte)})
        numbers = {"SetpointW": ua.Variant(0, ua.VariantType.Int32), "RevertS": ua.Variant(0, ua.VariantType.UInt32)}
        await bay.add("B1", {**numbers, "Enable": False}, writable=True)
        yield bay


@pytest.fixture
def bay(server: Bay) -> Bay:
    server.written.clear()
    return server


def switch(bay: Bay) -> Driver:
    return open_driver(bay.settings("F1", "switchgear-bay-opcua", priority_class=3), EDGE, make_context()[0])


def battery(bay: Bay, root: str = "B1") -> Driver:
    limits: dict[str, Any] = {"p_min_w": -60000.0, "p_max_w": 60000.0, "energy_wh": 1e5}
    return open_driver(bay.settings(root, "storage-opcua", **limits), EDGE, make_context()[0])


@pytest.mark.asyncio(loop_scope="module")
async def test_a_contactor_is_opened_with_its_timer_first_and_read_back(bay: Bay) -> None:
    async with switch(bay) as driver:
        done = await driver.apply(SwitchContact(closed=False, off_timer_s=899.2))
        assert (done.confirmed, bay.written) == (True, ["F1.OffTimerS", "F1.CloseCommand"])
        assert (await bay.value("F1.OffTimerS"), await bay.value("F1.CloseCommand")) == (900, False)
        assert (await driver.apply(Release())).confirmed
        assert await bay.value("F1.CloseCommand") is True


@pytest.mark.asyncio(loop_scope="module")
async def test_a_time_longer_than_its_node_is_written_as_the_longest(bay: Bay) -> None:
    async with switch(bay) as driver:
        await driver.apply(SwitchContact(closed=False, off_timer_s=1e6))
        assert await bay.value("F1.OffTimerS") == 65535


@pytest.mark.asyncio(loop_scope="module")
async def test_a_setpoint_takes_the_type_of_its_node(bay: Bay) -> None:
    async with battery(bay) as driver:
        done = await driver.apply(HoldPower(-41999.6, 180.0))
        assert done.confirmed, done.text
        assert bay.written == ["B1.SetpointW", "B1.RevertS", "B1.Enable"]
        assert (await bay.value("B1.SetpointW"), await bay.value("B1.RevertS")) == (-42000, 180)
        readings = {reading.point.quantity: reading.value for reading in await driver.read()}
        assert readings["soc_pct"] == 50.0


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("action", [HoldPower(-60001.0, 180.0), HoldPower(math.nan, 180.0), SwitchContact(closed=False)])
async def test_an_order_that_is_refused_sends_nothing(bay: Bay, action: Any) -> None:
    async with battery(bay) as driver:
        with pytest.raises(DevicePermanentError, match="nothing was written"):
            await driver.apply(action)
    assert bay.written == []


@pytest.mark.asyncio(loop_scope="module")
async def test_a_server_that_refuses_the_first_node_is_a_refusal_and_a_later_one_is_half_done(bay: Bay) -> None:
    from asyncua import ua

    number = ua.Variant(0, ua.VariantType.Int32)
    await bay.add(
        "B2", {"ActivePowerW": 0.0, "StateOfChargePct": 50.0, "SetpointW": number, "RevertS": number, "Enable": False}
    )
    async with battery(bay, "B2") as driver:
        with pytest.raises(
            DevicePermanentError, match=r"refuses .*B2.SetpointW = 100 \(BadUserAccessDenied\); nothing was written"
        ):
            await driver.apply(HoldPower(100.0, 180.0))
        await bay.nodes["B2.SetpointW"].set_writable()
        with pytest.raises(
            DeviceTransientError, match=r"refuses .*RevertS = 180 \(BadUserAccessDenied\) after .*SetpointW = 100"
        ):
            await driver.apply(HoldPower(100.0, 180.0))


@pytest.mark.asyncio(loop_scope="module")
async def test_a_node_that_is_missing_or_no_number_is_refused_before_anything_is_written(bay: Bay) -> None:
    await bay.add("B3", {"ActivePowerW": 0.0, "StateOfChargePct": 50.0, "SetpointW": 0.0, "RevertS": "text"}, writable=True)
    async with battery(bay, "B3") as driver:
        with pytest.raises(DevicePermanentError, match=r"RevertS = 180: the node's type is no number .*; nothing was written"):
            await driver.apply(HoldPower(100.0, 180.0))
        with pytest.raises(DevicePermanentError, match=r"Enable = 0: the node's type is no number"):
            await driver.apply(Release())
    assert bay.written == []


@pytest.mark.asyncio(loop_scope="module")
async def test_a_device_that_accepts_and_does_not_keep_it_is_not_confirmed(bay: Bay) -> None:
    from asyncua import ua
    from asyncua.common.callback import CallbackType

    async def forget(_event: Any, _dispatcher: Any = None) -> None:
        seven = ua.DataValue(ua.Variant(7, ua.VariantType.Int32))
        await bay.server.write_attribute_value(bay.nodes["B1.SetpointW"].nodeid, seven)

    bay.server.subscribe_server_callback(CallbackType.PostWrite, forget)
    try:
        async with battery(bay) as driver:
            done = await driver.apply(HoldPower(100.0, 180.0))
    finally:
        bay.server.unsubscribe_server_callback(CallbackType.PostWrite, forget)
    assert done.confirmed is False
    assert "B1.SetpointW = 100: holds 7" in done.text


@given(st.floats(allow_nan=True, allow_infinity=True), st.integers(0, 30), st.booleans())
def test_what_is_encoded_is_what_the_node_can_hold_and_reads_back_as_itself(value: float, kind: int, is_time: bool) -> None:
    try:
        written = encode(PlannedWrite("n", value, is_time), kind)
    except ValueError:
        return
    assert held(written, written, kind)
    if kind in INTEGERS:
        low, high = INTEGERS[kind]
        assert isinstance(written, int)
        assert low <= written <= high
        assert is_time or abs(written - value) <= 0.5
    if kind == 1:
        assert written is (value == 1.0)


def test_a_refusal_that_may_pass_is_told_from_one_that_does_not() -> None:
    assert may_pass("BadTooManyOperations")
    assert not may_pass("BadTypeMismatch")
    assert not may_pass("BadNotWritable")
