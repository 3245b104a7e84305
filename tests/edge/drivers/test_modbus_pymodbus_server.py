"""The Modbus driver against pymodbus' own server: a second opinion on the wire format."""

from __future__ import annotations

from deploy.ports import free_port
from tests.edge.drivers.field import EDGE, LENGTHS, SUNS, make_context
from tieline_edge.drivers.capabilities import HoldPower, Release
from tieline_edge.drivers.registry import open_driver
from tieline_edge.settings import DeviceSettings


async def test_a_battery_is_found_read_and_driven_on_a_pymodbus_server() -> None:
    from pymodbus.server import ModbusTcpServer
    from pymodbus.simulator import DataType, SimData, SimDevice

    registers: list[int] = list(SUNS)
    at = {}
    for model in (1, 701, 704, 802):
        at[model] = len(registers)
        registers += [model, LENGTHS[model], *[0] * LENGTHS[model]]
    registers += [0xFFFF, 0]
    registers[at[701] + 10] = 0x10000 - 1234
    registers[at[701] + 116] = 1
    registers[at[802] + 11] = 64
    port = free_port()
    data = SimData(40000, values=registers, datatype=DataType.REGISTERS)
    server = ModbusTcpServer(SimDevice(id=7, simdata=[data]), address=("127.0.0.1", port))
    await server.serve_forever(background=True)
    try:
        settings = DeviceSettings.model_validate(
            {
                "id": "bat1",
                "catalog": "sunspec-storage-704",
                "modbus": {"host": "127.0.0.1", "port": port, "unit": 7},
                "p_min_w": -60000,
                "p_max_w": 60000,
                "energy_wh": 1.5e5,
            }
        )
        async with open_driver(settings, EDGE, make_context()[0]) as driver:
            values = {reading.point.quantity: reading.value for reading in await driver.read()}
            held = await driver.apply(HoldPower(-12345.0, 180.0))
            released = await driver.apply(Release())
    finally:
        await server.shutdown()  # type: ignore[no-untyped-call]
    assert values == {"p_w": 12340.0, "v_v": 0.0, "f_hz": 0.0, "soc_pct": 64.0}
    assert held.confirmed, held.text
    assert "WSet (model 704 offset 24) = 12345" in held.text
    assert released.confirmed
