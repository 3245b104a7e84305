"""Outside peers: mbpoll and pysunspec2 see in the simulator what our driver sees, and pymodbus' RTU servers are driven."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import sunspec2.modbus.client as sunspec_client
from pymodbus import FramerType
from pymodbus.server import ModbusSerialServer, ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from tests.edge.drivers.field import EDGE, make_context
from tieline_edge.drivers.capabilities import Driver, HoldPower, SwitchContact
from tieline_edge.drivers.catalog.entry import Table
from tieline_edge.drivers.modbus.endpoint import TcpEndpoint
from tieline_edge.drivers.modbus.link import ModbusLink
from tieline_edge.drivers.modbus.sunspec import discover
from tieline_edge.drivers.registry import open_driver
from tieline_edge.settings import DeviceSettings
from tieline_sim.devices.battery import Battery, Battery124, Battery704
from tieline_sim.devices.meter import BusbarMeter
from tieline_sim.devices.sunspec import SunSpecDevice
from tieline_sim.scenario import BatterySpec
from tieline_sim.servers.modbus import ModbusEndpoint, SunSpecUnit

#: Offset of each model's ID register in the simulator's battery: models 1, 701, 713, 704, 802 from 40002 on.
MODEL_704 = 40002 + 68 + 155 + 9
LIMITS = {"p_min_w": -60e3, "p_max_w": 60e3, "energy_wh": 1.5e5}


def tool(name: str) -> str:
    """Path of a program; in CI a missing one is an error."""
    found = shutil.which(name)
    if found is None and os.environ.get("CI"):
        pytest.fail(f"{name} is not installed; in CI a missing peer is an error (deploy/system-packages.sh test)")
    if found is None:
        pytest.skip(f"{name} is not installed (deploy/system-packages.sh test)")
    return found


async def mbpoll(*arguments: object) -> dict[int, float]:
    """What mbpoll reads: reference -> value."""
    done = await asyncio.create_subprocess_exec(
        tool("mbpoll"), "-1", "-0", "-q", *map(str, arguments), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    out, _ = await done.communicate()
    text = out.decode()
    assert done.returncode == 0, text
    # A negative word is shown as "65036 (-500)".
    return {int(ref): float(value) for ref, value in re.findall(r"\[(\d+)\]:\s+(-?[\d.]+)", text)}


def battery() -> Battery:
    made = Battery(BatterySpec("bat1", 60.0, 150.0, 55.5))
    made.p_w = -12340.0
    return made


@asynccontextmanager
async def simulated(device: SunSpecDevice) -> AsyncIterator[int]:
    """The simulator's own endpoint in front of one of its devices; gives the port."""
    endpoint = ModbusEndpoint(0, {1: ("d1", SunSpecUnit(device))}, lambda *_: None, lambda *_: None)
    await endpoint.open()
    try:
        yield endpoint.port
    finally:
        await endpoint.close()


def drive(catalog: str, place: dict[str, Any], **more: Any) -> Driver:
    settings = DeviceSettings.model_validate({"id": "d1", "catalog": catalog, "modbus": place, **more})
    return open_driver(settings, EDGE, make_context()[0])


async def values_of(driver: Driver) -> dict[str, float | None]:
    return {reading.point.quantity: reading.value for reading in await driver.read()}


async def test_mbpoll_and_the_driver_read_the_same_power_of_the_simulated_meter() -> None:
    meter = BusbarMeter("M-1")
    meter.p_w, meter.q_var = -45600.0, 3200.0
    async with simulated(meter) as port:
        async with drive("sunspec-meter-203", {"host": "127.0.0.1", "port": port}) as driver:
            ours = await values_of(driver)
        seen = await mbpoll("-m", "tcp", "-p", port, "-a", 1, "-t", "4", "-r", 40070, "-c", 60, "127.0.0.1")
    power = struct.unpack(">h", struct.pack(">H", int(seen[40070 + 18])))[0]
    factor = struct.unpack(">h", struct.pack(">H", int(seen[40070 + 22])))[0]
    assert power * 10.0**factor == ours["p_w"] == -45600.0
    assert seen[40070 + 7] / 100 == ours["v_v"]


async def test_mbpoll_sees_in_the_device_what_the_driver_has_written() -> None:
    made = Battery704(battery(), "B-1", lambda: 0.0, lambda: 50.0)
    async with simulated(made) as port:
        async with drive("sunspec-storage-704", {"host": "127.0.0.1", "port": port}, **LIMITS) as driver:
            answer = await driver.apply(HoldPower(-25000.0, 180.0))
        seen = await mbpoll("-p", port, "-t", "4:int", "-B", "-r", MODEL_704 + 24, "-c", 1, "127.0.0.1")
        timer = await mbpoll("-p", port, "-t", "4:int", "-B", "-r", MODEL_704 + 31, "-c", 2, "127.0.0.1")
    assert answer.confirmed, answer.text
    assert answer.remaining_s == 180.0
    assert seen == {MODEL_704 + 24: 25000.0}
    assert timer == {MODEL_704 + 31: 180.0, MODEL_704 + 33: 180.0}, "time and what is left of it"
    assert made.target_w() == -25000.0


@pytest.mark.parametrize(
    ("catalog", "build"), [("sunspec-storage-704", Battery704), ("sunspec-storage-124", Battery124)], ids=["704", "124"]
)
async def test_pysunspec2_and_our_discovery_find_the_same_device_and_values(catalog: str, build: Any) -> None:
    def scan(port: int) -> tuple[dict[int, int], dict[str, Any]]:
        client = sunspec_client.SunSpecModbusClientDeviceTCP(slave_id=1, ipaddr="127.0.0.1", ipport=port, timeout=3)
        client.scan()
        found = {key: client.models[key][0].model_addr for key in client.models if isinstance(key, int)}
        values = {f"{key}.{name}": point.cvalue for key in found for name, point in client.models[key][0].points.items()}
        client.close()
        return found, values

    async with simulated(build(battery(), "B-7", lambda: 0.0, lambda: 50.0)) as port:
        link = ModbusLink(TcpEndpoint("127.0.0.1", port), 1.0)
        ours = await discover(partial(link.read, 1, Table.HOLDING))
        link.close()
        models, theirs = await asyncio.to_thread(scan, port)
        async with drive(catalog, {"host": "127.0.0.1", "port": port}, **LIMITS) as driver:
            values = await values_of(driver)
    assert {model.number: model.address for model in ours.models} == models
    assert ours.identity is not None
    assert (ours.identity.manufacturer, ours.identity.model) == (theirs["1.Mn"], theirs["1.Md"])
    assert ours.identity.serial == theirs["1.SN"] == "B-7"
    face = 701 if 701 in models else 103
    assert theirs[f"{face}.W"] == 12340, "SunSpec counts what is delivered positive"
    assert values["p_w"] == -12340.0
    assert values["soc_pct"] == theirs["802.SoC"]
    assert values["f_hz"] == theirs[f"{face}.Hz"]


def load_switch() -> SimDevice:
    """A load switch with unit id 3 in pymodbus' own registers: coils, discrete inputs, holding and input registers apart."""
    bits, words = DataType.BITS, DataType.REGISTERS
    return SimDevice(
        id=3,
        simdata=(
            [SimData(0, values=[True] + [False] * 15, datatype=bits)],
            [SimData(0, values=[True] + [False] * 15, datatype=bits)],
            [SimData(0, values=[1, 0], datatype=words)],
            [SimData(0, values=[0, 12000, 2305, 1, 1], datatype=words)],
        ),
    )


async def switch_off(place: dict[str, Any]) -> None:
    async with drive("modbus-load-switch", {**place, "unit": 3}, priority_class=2) as driver:
        assert await values_of(driver) == {"p_w": 12000.0, "v_v": 230.5, "e_import_wh": 655370.0, "closed": 1.0}
        answer = await driver.apply(SwitchContact(closed=False, off_timer_s=900.0))
    assert answer.confirmed, answer.text


async def test_a_pymodbus_server_is_driven_with_rtu_frames_over_tcp() -> None:
    server = ModbusTcpServer(load_switch(), framer=FramerType.RTU, address=("127.0.0.1", 0))
    await server.serve_forever(background=True)
    try:
        transport: Any = server.transport
        await switch_off({"host": "127.0.0.1", "port": int(transport.sockets[0].getsockname()[1]), "framing": "rtu"})
    finally:
        await server.shutdown()  # type: ignore[no-untyped-call]  # pymodbus does not annotate it


@asynccontextmanager
async def null_modem(folder: Path) -> AsyncIterator[tuple[str, str]]:
    """Two serial lines with their ends crossed."""
    ends = str(folder / "ours"), str(folder / "theirs")
    lines = [f"pty,raw,echo=0,link={end}" for end in ends]
    socat = await asyncio.create_subprocess_exec(tool("socat"), *lines)
    try:
        async with asyncio.timeout(10):
            while not all(Path(end).exists() for end in ends):  # noqa: ASYNC110, ASYNC240 - another program makes them
                await asyncio.sleep(0.02)
        yield ends
    finally:
        socat.terminate()
        await socat.wait()


async def test_a_pymodbus_server_on_a_serial_line_is_driven_and_mbpoll_sees_the_same(tmp_path: Path) -> None:
    async with null_modem(tmp_path) as (ours, theirs):
        server = ModbusSerialServer(load_switch(), framer=FramerType.RTU, port=theirs, baudrate=19200)
        await server.serve_forever(background=True)
        try:
            await switch_off({"serial": ours, "baud": 19200})
            line = ("-m", "rtu", "-b", 19200, "-P", "none", "-a", 3)
            timer = await mbpoll(*line, "-t", 4, "-r", 1, "-c", 1, ours)
            coil = await mbpoll(*line, "-t", 0, "-r", 0, "-c", 1, ours)
        finally:
            await server.shutdown()  # type: ignore[no-untyped-call]  # pymodbus does not annotate it
    assert timer == {1: 900.0}
    assert coil == {0: 0.0}
