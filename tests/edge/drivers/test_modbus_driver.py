"""The Modbus driver against a real socket."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.edge.drivers.field import START, ModbusServer, make_context, sunspec_map
from tieline_core.ids import DeviceId, EdgeId
from tieline_core.quantities import Quality
from tieline_edge.drivers.capabilities import (
    Action,
    DevicePermanentError,
    DeviceTransientError,
    Driver,
    HoldPower,
    LimitGeneration,
    Release,
    SwitchContact,
)
from tieline_edge.drivers.context import DriverContext
from tieline_edge.drivers.registry import open_driver
from tieline_edge.settings import DeviceSettings, ModbusEndpoint


def device(server: ModbusServer, name: str, catalog: str, unit: int = 1, **more: object) -> DeviceSettings:
    endpoint = ModbusEndpoint(host="127.0.0.1", port=server.port, unit=unit, timeout_s=0.3)
    return DeviceSettings.model_validate({"id": name, "catalog": catalog, "modbus": endpoint, **more})


def drive(settings: DeviceSettings, context: DriverContext | None = None) -> Driver:
    return open_driver(settings, EdgeId("harbour"), context or make_context()[0])


def meter_203(server: ModbusServer) -> int:
    at = sunspec_map(server, [1, 203])[203]
    server.put(1, at + 3, [1234])
    server.put(1, at + 6, [0xFFFE])  # A: 1234 * 10**-2
    server.put(1, at + 7, [2316])
    server.put(1, at + 15, [0xFFFF])  # V: * 10**-1
    server.put(1, at + 16, [4998, 0xFFFE])  # Hz
    server.put(1, at + 18, [0xFE0C])  # W: -500 * 10**1
    server.put(1, at + 22, [1])
    server.put(1, at + 28, [0x8000])  # VAR: not implemented
    server.put(1, at + 46, [0x0001, 0x0000])  # TotWhImp: 65536 * 10**2
    server.put(1, at + 54, [2])
    return at


def battery_704(server: ModbusServer) -> int:
    found = sunspec_map(server, [1, 701, 704, 802])
    server.put(1, found[701] + 10, [3000])
    server.put(1, found[701] + 16, [2305, 0, 50010])
    server.put(1, found[701] + 114, [0xFFFF, 0xFFFD])
    server.put(1, found[701] + 116, [1])
    server.put(1, found[802] + 11, [5550])
    server.put(1, found[802] + 56, [0xFFFE])
    server.put(1, found[704] + 55, [1])  # WSet_SF: tens of watts
    server.put(1, found[704] + 54, [0])
    return found[704]


BATTERY: dict[str, Any] = {"p_min_w": -60000.0, "p_max_w": 60000.0, "energy_wh": 150000.0}


async def test_a_sunspec_meter_is_read_with_its_scale_factors_and_absent_values() -> None:
    async with ModbusServer() as server:
        meter_203(server)
        async with drive(device(server, "fm1", "sunspec-meter-203")) as driver:
            readings = {reading.point.quantity: reading for reading in await driver.read()}
    assert {name: reading.value for name, reading in readings.items()} == {
        "p_w": -5000.0,
        "i_a": 12.34,
        "v_v": 231.6,
        "f_hz": 49.98,
        "e_import_wh": 6553600.0,
        "e_export_wh": 0.0,
    }
    assert {reading.measured_at for reading in readings.values()} == {START}


async def test_values_and_scale_factors_of_a_model_come_in_one_request() -> None:
    async with ModbusServer() as server:
        at = meter_203(server)
        async with drive(device(server, "fm1", "sunspec-meter-203")) as driver:
            server.requests.clear()
            await driver.read()
    assert server.requests == [(1, 3, at + 3)]


async def test_orientation_turns_power_and_swaps_energy_registers() -> None:
    async with ModbusServer() as server:
        meter_203(server)
        async with drive(device(server, "fm1", "sunspec-meter-203", orientation=-1)) as driver:
            values = {reading.point.quantity: reading.value for reading in await driver.read()}
    assert values["p_w"] == 5000.0
    assert values["e_export_wh"] == 6553600.0
    assert values["e_import_wh"] == 0.0
    assert values["v_v"] == 231.6


async def test_discharging_of_a_704_battery_is_negative_inside_and_positive_in_the_register() -> None:
    async with ModbusServer() as server:
        at = battery_704(server)
        async with drive(device(server, "bat1", "sunspec-storage-704", **BATTERY)) as driver:
            values = {reading.point.quantity: reading.value for reading in await driver.read()}
            server.requests.clear()
            answer = await driver.apply(HoldPower(-25000.0, 180.0))
    assert values == {"p_w": -30000.0, "v_v": 230.5, "f_hz": 50.01, "soc_pct": 55.5}
    assert answer.confirmed
    assert [server.holding[1, at + offset] for offset in (22, 23, 24, 25, 26, 27, 30, 31, 32)] == [
        1, 1, 0, 2500, 0, 0, 1, 0, 180,
    ]  # fmt: skip
    written = [address - at for _, function, address in server.requests if function in (6, 16)]
    assert written == [23, 30, 22], "the order value, its reversion and the timer stand before the switch is turned"


async def test_a_setpoint_is_a_closed_window_for_a_124_battery() -> None:
    async with ModbusServer() as server:
        found = sunspec_map(server, [1, 103, 124, 802])
        at = found[124]
        server.put(1, at + 2, [600])
        server.put(1, at + 18, [2])  # WChaMax 60 kW
        server.put(1, at + 25, [0xFFFE])  # hundredths of a per cent
        async with drive(device(server, "bat2", "sunspec-storage-124", **BATTERY)) as driver:
            assert (await driver.apply(HoldPower(15000.0, 180.0))).confirmed
            assert [server.holding[1, at + offset] for offset in (12, 13, 15, 5)] == [0x10000 - 2500, 2500, 180, 3]
            assert (await driver.apply(HoldPower(-30000.0, 180.0))).confirmed
            assert [server.holding[1, at + offset] for offset in (12, 13)] == [5000, 0x10000 - 5000]
            assert (await driver.apply(Release())).confirmed
            assert server.holding[1, at + 5] == 0


@pytest.mark.parametrize(
    ("catalog", "models", "control", "percent", "timer", "switch"),
    [("sunspec-pv-704", [1, 701, 704], 704, 15, 19, 14), ("sunspec-pv-123", [1, 103, 123], 123, 5, 7, 9)],
)
async def test_a_generation_limit_is_a_share_of_the_rating(
    catalog: str, models: list[int], control: int, percent: int, timer: int, switch: int
) -> None:
    async with ModbusServer() as server:
        at = sunspec_map(server, models)[control]
        async with drive(device(server, "pv1", catalog, p_min_w=-40000.0)) as driver:
            assert (await driver.apply(LimitGeneration(-10000.0, 179.2))).confirmed
            assert [server.holding[1, at + offset] for offset in (percent, timer, switch)] == [25, 180, 1]
            assert (await driver.apply(LimitGeneration(0.0, 180.0))).confirmed
            assert server.holding[1, at + percent] == 0, "zero is a limit, not its absence"
            assert (await driver.apply(LimitGeneration(None, 180.0))).confirmed
            assert server.holding[1, at + switch] == 0


def load_switch(server: ModbusServer, unit: int) -> None:
    server.put(unit, 0, [0x0000, 0x2EE0, 2305, 0x0001, 0x0001], server.inputs)
    server.put(unit, 0, [1], server.discretes)
    server.put(unit, 0, [1], server.coils)


async def test_a_load_switch_is_read_and_opened_with_its_off_timer() -> None:
    async with ModbusServer() as server:
        load_switch(server, 3)
        server.put(3, 0, [1, 0])
        async with drive(device(server, "load03", "modbus-load-switch", unit=3, priority_class=2)) as driver:
            values = {reading.point.quantity: reading.value for reading in await driver.read()}
            answer = await driver.apply(SwitchContact(closed=False, off_timer_s=900.0))
            assert (server.holding[3, 1], server.coils[3, 0]) == (900, 0)
            await driver.apply(SwitchContact(closed=False, off_timer_s=1e6))
            assert server.holding[3, 1] == 0xFFFF, "longer than the register holds = its longest"
            await driver.apply(SwitchContact(closed=True))
    assert values == {"p_w": 12000.0, "v_v": 230.5, "e_import_wh": 655370.0, "closed": 1.0}
    assert answer.confirmed
    assert server.coils[3, 0] == 1


async def test_a_latched_load_switch_never_touches_the_timer() -> None:
    async with ModbusServer() as server:
        load_switch(server, 4)
        async with drive(device(server, "load04", "modbus-load-switch-latched", unit=4, priority_class=2)) as driver:
            assert (await driver.apply(SwitchContact(closed=False, off_timer_s=900.0))).confirmed
        assert not any(function in (3, 6, 16) for _, function, _ in server.requests)


async def test_a_write_that_the_device_ignores_is_not_confirmed_and_says_what_it_holds() -> None:
    async with ModbusServer() as server:
        at = battery_704(server)
        server.stuck = {(1, at + 25)}
        async with drive(device(server, "bat1", "sunspec-storage-704", **BATTERY)) as driver:
            answer = await driver.apply(HoldPower(-25000.0, 180.0))
    assert not answer.confirmed
    assert "WSet" in answer.text
    assert "model 704 offset 25 was given 2500, holds 0" in answer.text


@pytest.mark.parametrize(
    ("action", "words"),
    [
        (HoldPower(60001.0, 180.0), "outside"),
        (HoldPower(float("nan"), 180.0), "no power"),
        (HoldPower(-1000.0, 0.0), "revert_s"),
        (LimitGeneration(-1000.0, 180.0), "cannot limit_generation"),
        (SwitchContact(closed=False), "cannot switch"),
    ],
)
async def test_what_the_device_cannot_do_is_refused_with_zero_bytes_on_the_wire(action: Action, words: str) -> None:
    async with ModbusServer() as server:
        battery_704(server)
        async with drive(device(server, "bat1", "sunspec-storage-704", **BATTERY)) as driver:
            before = server.bytes_in
            with pytest.raises(DevicePermanentError, match=words):
                await driver.apply(action)
            assert server.bytes_in == before


@pytest.mark.parametrize(
    ("code", "kind", "words"),
    [
        (1, DevicePermanentError, "illegal function"),
        (2, DevicePermanentError, "illegal data address"),
        (3, DevicePermanentError, "illegal data value"),
        (4, DeviceTransientError, "device failure"),
        (5, DeviceTransientError, "needs more time"),
        (6, DeviceTransientError, "busy"),
        (8, DeviceTransientError, "parity"),
        (10, DeviceTransientError, "gateway path"),
        (11, DeviceTransientError, "silent"),
        (99, DeviceTransientError, "does not name"),
    ],
)
async def test_each_modbus_exception_becomes_words_and_says_whether_to_retry(
    code: int, kind: type[Exception], words: str
) -> None:
    async with ModbusServer(exceptions={(1, 2): code, (1, 4): code}) as server:
        load_switch(server, 1)
        async with drive(device(server, "load01", "modbus-load-switch", priority_class=1)) as driver:
            with pytest.raises(kind, match=words):
                await driver.read()


async def test_a_late_answer_is_never_taken_for_the_next_one() -> None:
    async with ModbusServer() as server:
        load_switch(server, 1)
        load_switch(server, 2)
        server.inputs[2, 1] = 77
        context, _ = make_context()
        slow = drive(device(server, "load01", "modbus-load-switch", priority_class=1), context)
        quick = drive(device(server, "load02", "modbus-load-switch-latched", unit=2, priority_class=1), context)
        async with slow, quick:
            await quick.read()
            server.delays_s[1] = 0.4
            with pytest.raises(DeviceTransientError, match="no answer"):
                await slow.read()
            await asyncio.sleep(0.2)
            values = {reading.point.quantity: reading.value for reading in await quick.read()}
    assert values["p_w"] == 77.0
    assert server.connections == 2, "the connection was closed after the time-out"


async def test_units_of_one_server_share_one_connection_and_close_it_with_the_last() -> None:
    async with ModbusServer() as server:
        for unit in (1, 2, 3):
            load_switch(server, unit)
        context, _ = make_context()
        drivers = [
            drive(device(server, f"load{unit:02}", "modbus-load-switch-latched", unit=unit, priority_class=1), context)
            for unit in (1, 2, 3)
        ]
        async with drivers[0], drivers[1], drivers[2]:
            await asyncio.gather(*(driver.read() for driver in drivers))
            assert server.connections == 1
        async with asyncio.timeout(2):
            while server._writers:  # noqa: ASYNC110 - the server's side of the close comes a turn later
                await asyncio.sleep(0.01)


async def test_a_block_that_the_device_does_not_know_makes_only_its_own_points_bad() -> None:
    async with ModbusServer() as server:
        load_switch(server, 1)
        server.discretes.clear()
        async with drive(device(server, "load01", "modbus-load-switch", priority_class=1)) as driver:
            readings = {reading.point.quantity: reading for reading in await driver.read()}
    assert readings["closed"].quality is Quality.BAD
    assert readings["closed"].value is None
    assert readings["p_w"].value == 12000.0


async def test_what_was_answered_before_a_time_out_is_kept_and_the_next_poll_tells() -> None:
    async with ModbusServer() as server:
        battery_704(server)
        async with drive(device(server, "bat1", "sunspec-storage-704", **BATTERY)) as driver:
            original = server._answer

            def answer(unit: int, pdu: bytes) -> bytes:
                server.silent = {1}
                return original(unit, pdu)

            server._answer = answer  # type: ignore[method-assign]  # falls silent after one more answer
            readings = {reading.point.quantity: reading for reading in await driver.read()}
            with pytest.raises(DeviceTransientError, match="no answer"):
                await driver.read()
    assert readings["p_w"].value == -30000.0
    assert readings["soc_pct"].quality is Quality.BAD


async def test_a_device_without_the_needed_model_is_named_with_what_it_has() -> None:
    async with ModbusServer() as server:
        sunspec_map(server, [1, 103])
        with pytest.raises(DevicePermanentError, match="needs SunSpec model 203; the device has 1, 103"):
            async with drive(device(server, "fm1", "sunspec-meter-203")):
                pass


@pytest.mark.parametrize("base", [50000, 0])
async def test_the_marker_is_found_at_the_other_bases(base: int) -> None:
    async with ModbusServer() as server:
        sunspec_map(server, [1, 203], base=base)
        async with drive(device(server, "fm1", "sunspec-meter-203")) as driver:
            assert driver.spec.device_id == DeviceId("fm1")


async def test_no_sunspec_device_and_an_endless_chain_are_refused_in_words() -> None:
    async with ModbusServer() as server:
        with pytest.raises(DevicePermanentError, match="no SunSpec device"):
            async with drive(device(server, "fm1", "sunspec-meter-203")):
                pass
        server.put(1, 40000, (0x5375, 0x6E53, *[1, 0] * 100))
        with pytest.raises(DevicePermanentError, match="no end"):
            async with drive(device(server, "fm1", "sunspec-meter-203")):
                pass


async def test_an_unreachable_device_is_transient_and_named() -> None:
    async with ModbusServer() as server:
        settings = device(server, "fm1", "sunspec-meter-203")
    with pytest.raises(DeviceTransientError, match=r"127\.0\.0\.1:\d+: no connection"):
        async with drive(settings):
            pass
