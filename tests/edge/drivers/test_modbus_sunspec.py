"""SunSpec: discovery with identity, scale factors that move, values that vanish."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from functools import partial

import pytest

from tests.edge.drivers.field import EDGE, ModbusServer, make_context, sunspec_map
from tieline_core.ids import DeviceId
from tieline_core.quantities import Quality, Reading
from tieline_edge.drivers.capabilities import DevicePermanentError, Driver, HoldPower, LimitGeneration
from tieline_edge.drivers.catalog.entry import Table
from tieline_edge.drivers.catalog.load import entry
from tieline_edge.drivers.modbus.endpoint import TcpEndpoint
from tieline_edge.drivers.modbus.layout import locate
from tieline_edge.drivers.modbus.link import ModbusLink
from tieline_edge.drivers.modbus.sunspec import Identity, Model, discover
from tieline_edge.drivers.registry import open_driver
from tieline_edge.settings import DeviceSettings


def text(value: str, count: int) -> list[int]:
    return list(struct.unpack(f">{count}H", value.encode().ljust(2 * count, b"\0")))


def drive(server: ModbusServer, catalog: str, **more: object) -> Driver:
    place = {"host": "127.0.0.1", "port": server.port, "timeout_s": 1.0}
    settings = DeviceSettings.model_validate({"id": "d1", "catalog": catalog, "modbus": place, **more})
    return open_driver(settings, EDGE, make_context()[0])


def meter(server: ModbusServer) -> int:
    at = sunspec_map(server, [1, 203])[203]
    server.put(1, at + 7, [2300])
    server.put(1, at + 15, [0xFFFF])  # V: * 10**-1
    server.put(1, at + 16, [5000, 0xFFFE])  # Hz: * 10**-2
    server.put(1, at + 18, [1234])  # W
    return at


def by_quantity(readings: Sequence[Reading]) -> dict[str, Reading]:
    return {reading.point.quantity: reading for reading in readings}


async def test_discovery_gives_models_with_addresses_and_who_the_device_is() -> None:
    async with ModbusServer() as server:
        at = sunspec_map(server, [1, 103, 124], base=50000)
        server.put(1, at[1] + 2, [*text("ACME", 16), *text("B-9", 16), *text("", 8), *text("1.2\x07", 8), *text("SN7", 16)])
        link = ModbusLink(TcpEndpoint("127.0.0.1", server.port), 1.0)
        found = await discover(partial(link.read, 1, Table.HOLDING))
        link.close()
        assert {function for _, function, _ in server.requests} == {3}, "nothing is written"
    assert found.models == (Model(1, 50002, 66), Model(103, 50070, 50), Model(124, 50122, 24))
    assert found.identity == Identity("ACME", "B-9", "1.2?", "SN7")
    assert str(found.identity) == "ACME B-9 SN7"


async def test_a_device_that_does_not_say_who_it_is_is_still_discovered() -> None:
    async with ModbusServer() as server:
        sunspec_map(server, [203])
        link = ModbusLink(TcpEndpoint("127.0.0.1", server.port), 1.0)
        found = await discover(partial(link.read, 1, Table.HOLDING))
        assert (found.identity, [model.number for model in found.models]) == (None, [203])
        server.holding.clear()
        sunspec_map(server, [1, 203])
        assert (await discover(partial(link.read, 1, Table.HOLDING))).identity is None
        link.close()


async def test_a_scale_factor_that_has_moved_holds_for_the_value_that_came_with_it() -> None:
    async with ModbusServer() as server:
        at = meter(server)
        async with drive(server, "sunspec-meter-203") as driver:
            assert by_quantity(await driver.read())["p_w"].value == 1234.0
            server.put(1, at + 18, [123])
            server.put(1, at + 22, [1])
            server.requests.clear()
            assert by_quantity(await driver.read())["p_w"].value == 1230.0
            assert server.requests == [(1, 3, at + 3)] * 2, "read once more, to see it stand still"
            server.requests.clear()
            await driver.read()
            assert len(server.requests) == 1


async def test_a_scale_factor_that_keeps_moving_belongs_to_no_value() -> None:
    async with ModbusServer() as server:
        at = meter(server)
        async with drive(server, "sunspec-meter-203") as driver:
            await driver.read()
            moves = iter([1, 2])
            server.asked = lambda *_: server.put(1, at + 22, [next(moves)])
            readings = by_quantity(await driver.read())
    assert readings["p_w"].quality is Quality.BAD
    assert readings["v_v"].value == 230.0, "its own factor stood still"


async def test_a_scale_factor_that_is_not_implemented_between_two_polls_drops_its_values_only() -> None:
    async with ModbusServer() as server:
        at = meter(server)
        async with drive(server, "sunspec-meter-203") as driver:
            await driver.read()
            server.put(1, at + 22, [0x8000])
            readings = by_quantity(await driver.read())
            assert (readings["p_w"].quality, readings["p_w"].value) == (Quality.BAD, None)
            assert readings["f_hz"].value == 50.0
            server.put(1, at + 22, [0])
            assert by_quantity(await driver.read())["p_w"].value == 1234.0


async def test_a_value_that_was_never_implemented_is_no_gap_and_one_that_vanishes_is() -> None:
    async with ModbusServer() as server:
        at = meter(server)
        server.put(1, at + 28, [0x8000])
        async with drive(server, "sunspec-meter-203") as driver:
            assert "q_var" not in by_quantity(await driver.read())
            server.put(1, at + 18, [0x8000])
            readings = by_quantity(await driver.read())
    assert "q_var" not in readings
    assert readings["p_w"].quality is Quality.BAD


async def test_an_order_uses_the_scale_factor_of_now_and_not_that_of_the_connection() -> None:
    async with ModbusServer() as server:
        at = sunspec_map(server, [1, 701, 704, 802])[704]
        more = {"p_min_w": -60000.0, "p_max_w": 60000.0, "energy_wh": 1e5}
        async with drive(server, "sunspec-storage-704", **more) as driver:
            server.put(1, at + 55, [2])  # hundreds of watts since a moment ago
            answer = await driver.apply(HoldPower(-25000.0, 180.0))
            assert answer.confirmed, answer.text
            assert [server.holding[1, at + 24], server.holding[1, at + 25]] == [0, 250]
            server.put(1, at + 55, [0x8000])
            server.requests.clear()
            with pytest.raises(DevicePermanentError, match="not implemented WSet"):
                await driver.apply(HoldPower(-30000.0, 180.0))
            assert {function for _, function, _ in server.requests} == {3}, "nothing was written"


@pytest.mark.parametrize("number", [101, 102, 103])
async def test_inverters_of_every_phase_count_generation_positive(number: int) -> None:
    async with ModbusServer() as server:
        at = sunspec_map(server, [1, number])[number]
        server.put(1, at + 3, [217])
        server.put(1, at + 6, [0xFFFE])  # 2.17 A
        server.put(1, at + 10, [2310])
        server.put(1, at + 13, [0xFFFF])  # 231.0 V
        server.put(1, at + 14, [500, 0])  # 500 W delivered
        server.put(1, at + 16, [5002, 0xFFFE])
        server.put(1, at + 20, [0xFFF6, 1])  # -100 var
        server.put(1, at + 24, [1, 34464, 0])  # 100000 Wh
        async with drive(server, f"sunspec-inverter-{number}") as driver:
            values = {name: reading.value for name, reading in by_quantity(await driver.read()).items()}
    assert values == {"p_w": -500.0, "q_var": 100.0, "i_a": 2.17, "v_v": 231.0, "f_hz": 50.02, "e_export_wh": 100000.0}


@pytest.mark.parametrize(("number", "voltage", "place"), [(201, 2300, 7), (202, 1200, 7), (203, 2300, 7), (204, 4000, 11)])
async def test_meters_of_every_wiring_count_import_positive(number: int, voltage: int, place: int) -> None:
    async with ModbusServer() as server:
        at = sunspec_map(server, [1, number])[number]
        server.put(1, at + place, [voltage])
        server.put(1, at + 15, [0xFFFF])
        server.put(1, at + 16, [5000, 0xFFFE])
        server.put(1, at + 18, [0xFC18])  # -1000 W
        server.put(1, at + 38, [0, 7])
        server.put(1, at + 46, [0, 9])
        async with drive(server, f"sunspec-meter-{number}") as driver:
            readings = by_quantity(await driver.read())
    assert readings["p_w"].value == -1000.0
    assert (readings["e_export_wh"].value, readings["e_import_wh"].value) == (7.0, 9.0)
    assert (readings["v_v"].value, readings["v_v"].quality) == (voltage / 10, Quality.GOOD)


@pytest.mark.parametrize(("instance", "power_w"), [(1, 100.0), (2, 200.0)])
async def test_the_second_meter_of_an_inverter_is_a_device_of_its_own(instance: int, power_w: float) -> None:
    async with ModbusServer() as server:
        first = sunspec_map(server, [1, 203])[203]
        second = first + 2 + 105
        server.put(1, second, [203, 105, *[0] * 105, 0xFFFF, 0])
        server.put(1, first + 18, [100])
        server.put(1, second + 18, [200])
        place = {"host": "127.0.0.1", "port": server.port, "timeout_s": 1.0, "instance": instance}
        settings = DeviceSettings.model_validate({"id": "d1", "catalog": "sunspec-meter-203", "modbus": place})
        async with open_driver(settings, EDGE, make_context()[0]) as driver:
            assert by_quantity(await driver.read())["p_w"].value == power_w


def test_an_instance_that_is_not_there_is_named_and_a_model_that_is_there_once_serves_all() -> None:
    chain = [Model(1, 40002, 66), Model(701, 40070, 153), Model(704, 40225, 65), Model(802, 40292, 62), Model(802, 40356, 62)]
    model = entry("sunspec-storage-704")
    assert dict(locate(DeviceId("d1"), model, chain, 2).bases) == {701: 40070, 704: 40225, 802: 40356}
    with pytest.raises(DevicePermanentError, match="model 802 is there 2 times, not 3"):
        locate(DeviceId("d1"), model, chain, 3)
    with pytest.raises(DevicePermanentError, match="is 20 registers long, sunspec-storage-704 needs"):
        locate(DeviceId("d1"), model, [Model(701, 40070, 153), Model(704, 40225, 20), Model(802, 40292, 62)])


async def test_a_limit_to_zero_is_written_as_zero_and_the_reversion_never_exceeds_its_register() -> None:
    async with ModbusServer() as server:
        at = sunspec_map(server, [1, 103, 123])[123]
        async with drive(server, "sunspec-pv-123", p_min_w=-40000.0) as driver:
            assert (await driver.apply(LimitGeneration(0.0, 1e6))).confirmed
    assert [server.holding[1, at + offset] for offset in (5, 7, 9)] == [0, 65534, 1], "65535 says 'not implemented'"
