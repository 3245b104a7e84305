"""From an action to the registers it writes, without a wire."""

from __future__ import annotations

import asyncio
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tieline_core.ids import DeviceId
from tieline_edge.drivers.capabilities import (
    Action,
    Capability,
    DevicePermanentError,
    DeviceSpec,
    DeviceTransientError,
    HoldPower,
    LimitGeneration,
    Release,
    Role,
    SwitchContact,
)
from tieline_edge.drivers.catalog.entry import CatalogEntry, Table
from tieline_edge.drivers.catalog.load import entry
from tieline_edge.drivers.modbus.endpoint import TcpEndpoint
from tieline_edge.drivers.modbus.link import ModbusLink
from tieline_edge.drivers.modbus.program import Scales, plan_writes


def spec(model: CatalogEntry, p_min_w: float = -60000.0, p_max_w: float = 60000.0) -> DeviceSpec:
    return DeviceSpec(DeviceId("d1"), model.role, frozenset(model.capabilities), p_min_w=p_min_w, p_max_w=p_max_w)


def scales(model: CatalogEntry, exponent: int = 0, rating_w: float | None = 60000.0) -> Scales:
    writes = model.writes
    steps = (*writes.hold_power, *writes.limit_generation, *writes.open, *writes.close, *writes.release)
    exponents = {step.register_: exponent if step.register_.scale_factor is not None else 0 for step in steps}
    return Scales(exponents, rating_w)


@pytest.mark.parametrize(
    ("name", "action", "words"),
    [
        ("sunspec-pv-704", LimitGeneration(1.0, 60.0), "at most 0 W"),
        ("sunspec-pv-704", LimitGeneration(float("-inf"), 60.0), "at most 0 W"),
        ("sunspec-pv-704", LimitGeneration(-1.0, float("inf")), "revert_s"),
        ("sunspec-storage-704", HoldPower(float("inf"), 60.0), "no power"),
        ("sunspec-storage-704", HoldPower(-60001.0, 60.0), "outside -60000 W to 60000 W"),
        ("modbus-load-switch", SwitchContact(closed=False, off_timer_s=-1.0), "off_timer_s"),
    ],
)
def test_an_order_out_of_range_is_refused_before_the_first_byte(name: str, action: Action, words: str) -> None:
    with pytest.raises(DevicePermanentError, match=words) as caught:
        plan_writes(action, spec(entry(name)), entry(name), scales(entry(name)))
    assert "nothing was written" in str(caught.value)


def test_a_limit_without_a_configured_rating_is_refused() -> None:
    model = entry("sunspec-pv-123")
    with pytest.raises(DevicePermanentError, match="p_min_w"):
        plan_writes(LimitGeneration(-1.0, 60.0), spec(model, 0.0), model, scales(model))


def test_a_register_the_device_has_not_implemented_and_an_unknown_rating_are_named() -> None:
    model = entry("sunspec-storage-124")
    with pytest.raises(DevicePermanentError, match="not implemented OutWRte"):
        plan_writes(HoldPower(1.0, 60.0), spec(model), model, Scales({}, 1.0))
    with pytest.raises(DevicePermanentError, match="the rating is unknown"):
        plan_writes(HoldPower(1.0, 60.0), spec(model), model, scales(model, rating_w=None))


def test_a_setpoint_that_no_register_holds_is_refused() -> None:
    model = entry("sunspec-storage-124")
    with pytest.raises(DevicePermanentError, match=r"which holds.*nothing was written"):
        plan_writes(HoldPower(60000.0, 60.0), spec(model), model, scales(model, exponent=-4, rating_w=1000.0))


def test_releasing_what_only_measures_writes_nothing() -> None:
    model = entry("sunspec-meter-203")
    assert plan_writes(Release(), spec(model), model, Scales({})) == ()


def test_a_capability_that_only_the_specification_claims_is_refused() -> None:
    model = entry("sunspec-meter-203")
    claimed = DeviceSpec(DeviceId("d1"), Role.LOAD, frozenset({Capability.SWITCH}))
    with pytest.raises(DevicePermanentError, match="no writes"):
        plan_writes(SwitchContact(closed=True), claimed, model, Scales({}))


@given(st.floats(-60000, 60000), st.floats(0.1, 1e7), st.integers(-1, 3))
def test_every_allowed_setpoint_is_written_with_the_opposite_sign_at_the_resolution(
    power_w: float, revert_s: float, exponent: int
) -> None:
    model = entry("sunspec-storage-704")
    first, timers, switch = plan_writes(HoldPower(power_w, revert_s), spec(model), model, scales(model, exponent))
    raw = (first.words[1] << 16 | first.words[2]) ^ 0x80000000
    assert abs((raw - 0x80000000) * 10.0**exponent + power_w) <= 0.5 * 10.0**exponent + 1e-6
    assert revert_s <= (timers.words[1] << 16 | timers.words[2]) < revert_s + 1
    assert (timers.words[0], switch.words) == (1, (1,))


@given(st.floats(-1e6, 0))
def test_a_limit_beyond_the_rating_is_no_more_than_the_whole_of_it(limit_w: float) -> None:
    model = entry("sunspec-pv-123")
    first, *_ = plan_writes(LimitGeneration(limit_w, 60.0), spec(model), model, scales(model, -2))
    assert 0 <= first.words[0] <= 10000
    assert abs(first.words[0] / 10000 * 60000 - min(60000.0, -limit_w)) <= 3.001


async def test_a_connection_that_the_device_closes_fails_at_once_and_the_next_request_connects_anew() -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(12)
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    link = ModbusLink(TcpEndpoint("127.0.0.1", server.sockets[0].getsockname()[1]), 5.0)
    async with server:
        for unit in (1, 2):
            before = time.monotonic()
            with pytest.raises(DeviceTransientError, match="no answer"):
                await link.read(unit, Table.HOLDING, 0, 1)
            assert time.monotonic() - before < 2.5
    link.close()
