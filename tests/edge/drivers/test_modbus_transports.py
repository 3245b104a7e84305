"""RTU over TCP and on a serial line, behind the same link class as Modbus TCP."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from pydantic import ValidationError

from tests.edge.drivers.field import EDGE, ModbusServer, make_context
from tests.edge.drivers.rtu import RtuGateway, crc, serial_line
from tieline_edge.drivers.capabilities import DevicePermanentError, DeviceTransientError, Driver, SwitchContact
from tieline_edge.drivers.catalog.entry import Table
from tieline_edge.drivers.context import DriverContext
from tieline_edge.drivers.modbus.endpoint import SerialEndpoint, TcpEndpoint, endpoint_of
from tieline_edge.drivers.modbus.link import ModbusLink, ModbusLinks
from tieline_edge.drivers.registry import open_driver
from tieline_edge.settings import DeviceSettings, ModbusEndpoint


def load_switch(bank: ModbusServer, unit: int, power_w: int = 12000) -> None:
    bank.put(unit, 0, [power_w >> 16, power_w & 0xFFFF, 2305, 1, 1], bank.inputs)
    bank.put(unit, 0, [1], bank.discretes)
    bank.put(unit, 0, [1], bank.coils)
    bank.put(unit, 0, [1, 0])


def drive(place: dict[str, Any], unit: int = 1, context: DriverContext | None = None) -> Driver:
    settings = {
        "id": f"load{unit:02}",
        "catalog": "modbus-load-switch",
        "priority_class": 2,
        "modbus": {**place, "unit": unit, "timeout_s": 0.6},
    }
    return open_driver(DeviceSettings.model_validate(settings), EDGE, context or make_context()[0])


def test_the_checksum_of_these_tests_is_that_of_the_standard() -> None:
    # Modbus over Serial Line V1.02, appendix B: the frame 02 07 ends with 41 12.
    assert crc(bytes([0x02, 0x07])) == bytes([0x41, 0x12])


async def test_a_unit_behind_a_transparent_gateway_is_read_and_switched() -> None:
    async with RtuGateway() as gateway:
        load_switch(gateway.bank, 3)
        async with drive({"host": "127.0.0.1", "port": gateway.port, "framing": "rtu"}, 3) as driver:
            values = {reading.point.quantity: reading.value for reading in await driver.read()}
            answer = await driver.apply(SwitchContact(closed=False, off_timer_s=900.0))
    assert values == {"p_w": 12000.0, "v_v": 230.5, "e_import_wh": 655370.0, "closed": 1.0}
    assert answer.confirmed, answer.text
    assert (gateway.bank.holding[3, 1], gateway.bank.coils[3, 0]) == (900, 0)


async def test_units_on_a_serial_line_are_read_and_switched_over_one_opening() -> None:
    bank, context = ModbusServer(), make_context()[0]
    load_switch(bank, 3)
    load_switch(bank, 4, power_w=77)
    async with serial_line(bank) as path:
        place = {"serial": path, "baud": 19200}
        async with drive(place, 3, context) as first, drive(place, 4, context) as second:
            readings = await asyncio.gather(first.read(), second.read())
            answer = await second.apply(SwitchContact(closed=False, off_timer_s=60.0))
    powers = [next(reading.value for reading in row if reading.point.quantity == "p_w") for row in readings]
    assert powers == [12000.0, 77.0]
    assert answer.confirmed, answer.text
    assert (bank.coils[3, 0], bank.coils[4, 0]) == (1, 0)


async def test_a_silent_unit_of_a_serial_line_leaves_the_others_readable() -> None:
    bank, context = ModbusServer(silent={3}), make_context()[0]
    load_switch(bank, 4)
    async with serial_line(bank) as path:
        place = {"serial": path, "baud": 115200}
        dead = drive(place, 3, context)
        async with drive(place, 4, context) as alive:
            with pytest.raises(DeviceTransientError, match="no answer"):
                async with dead:
                    await dead.read()
            assert len(await alive.read()) == 4


async def test_a_line_that_is_not_there_is_named() -> None:
    with pytest.raises(DeviceTransientError, match=r"/dev/tieline-no-such-line: no connection.*may it be opened"):
        async with drive({"serial": "/dev/tieline-no-such-line"}) as driver:
            await driver.read()


@pytest.mark.parametrize(
    "mangle",
    [
        pytest.param(lambda frame: frame[:-1] + bytes([frame[-1] ^ 1]), id="wrong checksum"),
        pytest.param(lambda frame: frame[:4], id="short frame"),
        pytest.param(lambda frame: bytes([9]) + frame[1:-2] + crc(bytes([9]) + frame[1:-2]), id="other unit"),
        pytest.param(lambda _: b"", id="nothing"),
    ],
)
async def test_a_broken_rtu_answer_gives_no_value_and_the_next_one_is_good(mangle: Any) -> None:
    async with RtuGateway() as gateway:
        load_switch(gateway.bank, 3)
        load_switch(gateway.bank, 4)
        link = ModbusLink(TcpEndpoint("127.0.0.1", gateway.port, "rtu"), 0.2)
        gateway.mangle = mangle
        with pytest.raises(DeviceTransientError):
            await link.read(3, Table.INPUT, 0, 5)
        gateway.mangle = lambda frame: frame
        assert await link.read(4, Table.INPUT, 2, 1) == [2305]
        assert gateway.connections == 2, "the connection was started anew"
        link.close()


async def test_a_late_rtu_answer_of_the_same_unit_is_dropped_before_the_next_request() -> None:
    async with RtuGateway() as gateway:
        load_switch(gateway.bank, 3)
        load_switch(gateway.bank, 4)
        link = ModbusLink(TcpEndpoint("127.0.0.1", gateway.port, "rtu"), 0.2)

        def hold(frame: bytes) -> bytes:
            gateway.late = frame
            return b""

        gateway.mangle = hold
        with pytest.raises(DeviceTransientError, match="no answer"):
            await link.read(3, Table.INPUT, 0, 2)
        gateway.mangle = lambda frame: frame
        link._breakers.clear()  # ask the same unit at once: only the drained connection protects now
        assert await link.read(3, Table.INPUT, 2, 2) == [2305, 1]
        link.close()


@pytest.mark.parametrize(
    ("block", "reason"),
    [
        ({}, "exactly one of host and serial"),
        ({"host": "a", "serial": "/dev/ttyS0"}, "exactly one of host and serial"),
        ({"serial": "/dev/ttyS0", "port": 502}, "port does not belong to a serial line"),
        ({"host": "a", "baud": 9600, "parity": "E"}, "baud, parity does not belong to a host"),
        ({"serial": "/dev/ttyS0", "parity": "X"}, "'N', 'E' or 'O'"),
    ],
)
def test_a_bus_that_is_described_wrongly_is_refused_with_the_reason(block: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        ModbusEndpoint.model_validate(block)


def test_the_silence_between_frames_is_three_and_a_half_characters_and_never_below_the_standards() -> None:
    # 9600 baud, 8N1: 10 bits a character, 3.5 characters = 3.65 ms; above 19200 baud 1.75 ms.
    assert SerialEndpoint("/dev/ttyS0").gap_s == pytest.approx(3.5 * 10 / 9600)
    assert SerialEndpoint("/dev/ttyS0", 9600, "E", 2).gap_s == pytest.approx(3.5 * 12 / 9600)
    assert SerialEndpoint("/dev/ttyS0", 115200).gap_s == 0.00175


def test_one_bus_described_in_two_ways_is_refused() -> None:
    links = ModbusLinks()
    first = links.link(endpoint_of(ModbusEndpoint(host="gw", port=4001)), 1.0)
    assert links.link(TcpEndpoint("gw", 4001), 0.5) is first
    assert first.timeout_s == 0.5, "the shortest time-out holds"
    with pytest.raises(DevicePermanentError, match="gw:4001 is configured in two ways"):
        links.link(TcpEndpoint("gw", 4001, "rtu"), 1.0)
