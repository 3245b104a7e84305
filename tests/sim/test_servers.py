"""The protocols over real sockets: Modbus TCP, SunSpec discovery by an independent client, OPC-UA."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import sunspec2.modbus.client as sunspec_client
from asyncua import Client, ua

from deploy.ports import free_port
from tests.sim.conftest import Instant
from tieline_sim.clock import utc_text
from tieline_sim.errors import SimulatorError
from tieline_sim.servers.modbus import ModbusEndpoint, SunSpecUnit, contactor_units
from tieline_sim.servers.opcua import TransformerBay
from tieline_sim.servers.opcua_security import Security
from tieline_sim.witness import Witness, read_records
from tieline_sim.world import World

Log = list[tuple[str, dict[str, float]]]


async def ask(port: int, unit: int, pdu: bytes) -> bytes:
    """One Modbus TCP transaction by hand (MBAP header as in the Modbus messaging guide)."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(struct.pack(">HHHB", 0x1234, 0, len(pdu) + 1, unit) + pdu)
    header = await reader.readexactly(7)
    transaction, protocol, length, answered = struct.unpack(">HHHB", header)
    assert (transaction, protocol, answered) == (0x1234, 0, unit)
    body = await reader.readexactly(length - 1)
    writer.close()
    return body


@pytest_asyncio.fixture
async def endpoints(world: World, instant: Instant) -> AsyncIterator[tuple[dict[str, ModbusEndpoint], Log]]:
    """All Modbus endpoints of one substation, open."""
    world.tick(instant.seconds)
    station = world.substations["harbour"]
    answers: Log = []

    def answered(device: str, values: dict[str, float]) -> None:
        answers.append((device, values))

    def written(_device: str, _values: dict[str, float]) -> None:
        return

    made = {
        name: ModbusEndpoint(0, {1: (name, SunSpecUnit(device))}, answered, written)
        for name, device in station.sunspec_devices().items()
    }
    made["loads"] = ModbusEndpoint(0, contactor_units(station.contactors), answered, written)
    for endpoint in made.values():
        await endpoint.open()
    yield made, answers
    for endpoint in made.values():
        await endpoint.close()


@pytest.mark.parametrize(
    ("device", "models"),
    [
        ("fm1", [1, 203]),
        ("bat1", [1, 701, 713, 704, 802]),
        ("bat2", [1, 103, 124, 802]),
        ("pv1", [1, 701, 704]),
        ("pv2", [1, 103, 123]),
    ],
)
async def test_pysunspec2_discovers_every_device(
    endpoints: tuple[dict[str, ModbusEndpoint], Log], world: World, device: str, models: list[int]
) -> None:
    port = endpoints[0][device].port

    def scan() -> tuple[list[int], dict[str, Any]]:
        client = sunspec_client.SunSpecModbusClientDeviceTCP(slave_id=1, ipaddr="127.0.0.1", ipport=port, timeout=3)
        client.scan()
        found = [key for key in client.models if isinstance(key, int)]
        values = {f"{key}.{name}": point.cvalue for key in found for name, point in client.models[key][0].points.items()}
        client.close()
        return found, values

    found, values = await asyncio.to_thread(scan)
    assert found == models
    assert values["1.SN"] == f"harbour-{device}"
    busbar = world.substations["harbour"].busbar
    if device == "fm1":
        assert values["203.W"] == pytest.approx(busbar.p_w, abs=51)
        assert values["203.PhV"] == pytest.approx(busbar.phase_v, abs=0.006)
        assert values["203.TotVAhExp"] in (0, None)
    if device.startswith("bat"):
        assert values["802.SoC"] == pytest.approx(world.substations["harbour"].batteries[device].battery.soc_pct, abs=0.006)
        assert values["802.WHRtg"] == 150_000
    if device == "bat2":
        assert values["124.WChaMax"] == 60_000
        assert values["124.InWRte"] == 100


async def test_pysunspec2_writes_a_setpoint_that_the_battery_takes(
    endpoints: tuple[dict[str, ModbusEndpoint], Log], world: World
) -> None:
    port = endpoints[0]["bat1"].port

    def steer() -> Any:
        client = sunspec_client.SunSpecModbusClientDeviceTCP(slave_id=1, ipaddr="127.0.0.1", ipport=port, timeout=3)
        client.scan()
        controls = client.models[704][0]
        controls.WSet.cvalue = 42000
        controls.WSetRvrtTms.value = 120
        controls.WSetEna.value = 1
        controls.write()
        controls.read()
        left = controls.WSetRvrtRem.value
        client.close()
        return left

    assert await asyncio.to_thread(steer) == 120
    assert world.substations["harbour"].batteries["bat1"].target_w() == -42000


@pytest.mark.parametrize(
    ("device", "unit", "pdu", "answer"),
    [
        ("bat1", 1, struct.pack(">BHH", 3, 39999, 2), b"\x83\x02"),
        ("bat1", 1, struct.pack(">BHH", 4, 40000, 2), b"\x84\x02"),
        ("bat1", 1, struct.pack(">BHH", 6, 40000, 7), b"\x86\x02"),
        ("bat1", 9, struct.pack(">BHH", 3, 40000, 2), b"\x83\x0b"),
        ("loads", 4, struct.pack(">BHH", 3, 1, 1), b"\x83\x02"),
        ("loads", 3, struct.pack(">BHH", 6, 1, 9000), b"\x86\x03"),
        ("loads", 11, struct.pack(">BHH", 2, 0, 1), b"\x82\x0b"),
        ("loads", 3, struct.pack(">BHH", 2, 1, 1), b"\x82\x02"),
    ],
)
async def test_modbus_mistakes_get_the_exception_the_standard_asks_for(
    endpoints: tuple[dict[str, ModbusEndpoint], Log], device: str, unit: int, pdu: bytes, answer: bytes
) -> None:
    assert await ask(endpoints[0][device].port, unit, pdu) == answer
    assert endpoints[1] == [], "an exception carries no measurement"


async def test_a_coil_opens_the_contactor_and_the_answers_are_witnessed_once(
    endpoints: tuple[dict[str, ModbusEndpoint], Log], world: World
) -> None:
    port = endpoints[0]["loads"].port
    assert await ask(port, 3, struct.pack(">BHH", 5, 0, 0)) == struct.pack(">BHH", 5, 0, 0)
    assert not world.substations["harbour"].contactors[3].closed
    assert endpoints[1] == [], "the echo of a write is no measurement"
    assert await ask(port, 3, struct.pack(">BHH", 2, 0, 1)) == bytes([2, 1, 0])
    words = await ask(port, 3, struct.pack(">BHH", 4, 0, 5))
    assert words[2:6] == b"\0\0\0\0"
    assert [name for name, _ in endpoints[1]] == ["load03", "load03"]
    assert endpoints[1][0][1] == {"closed": 0.0}
    assert await ask(port, 3, struct.pack(">BHHBB", 15, 0, 1, 1, 1)) == struct.pack(">BHH", 15, 0, 1)
    assert world.substations["harbour"].contactors[3].closed


async def test_a_dead_device_refuses_connections_and_comes_back_on_its_port(
    endpoints: tuple[dict[str, ModbusEndpoint], Log],
) -> None:
    endpoint = endpoints[0]["bat1"]
    port = endpoint.port
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    await endpoint.close()
    assert await asyncio.wait_for(reader.read(), 2) == b"", "open connections die too"
    writer.close()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)
    await endpoint.open()
    assert endpoint.port == port
    assert (await ask(port, 1, struct.pack(">BHH", 3, 40000, 2)))[2:] == b"SunS"


async def test_a_taken_port_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        endpoint = ModbusEndpoint(port, {}, lambda *_: None, lambda *_: None)
        with pytest.raises(SimulatorError, match=str(port)):
            await endpoint.open()


async def test_the_transformer_bay_reads_over_opcua_and_each_read_is_witnessed(
    world: World, instant: Instant, tmp_path: Path
) -> None:
    world.tick(instant.seconds)
    witness = Witness(tmp_path / "witness.jsonl")
    station = world.substations["harbour"]
    bay = TransformerBay(station, free_port(), witness, instant)
    await bay.open()
    try:
        async with Client(bay.url) as client:
            early = await client.get_node("ns=2;s=TR1.ActivePowerW").read_data_value(raise_on_bad_status=False)
            await bay.publish(instant.seconds, set())
            power = await client.get_node("ns=2;s=TR1.ActivePowerW").read_data_value()
            closed = await client.get_node("ns=2;s=TR1.BreakerClosed").read_value()
            rated = await client.get_node("ns=2;s=TR1.RatedPowerVA").read_value()
            await bay.publish(instant.seconds + 1, {"TR1.OilTempC"})
            dead = await client.get_node("ns=2;s=TR1.OilTempC").read_data_value(raise_on_bad_status=False)
    finally:
        await bay.close()
        witness.close()
    assert early.StatusCode.value == ua.StatusCodes.BadWaitingForInitialData
    assert early.Value.Value is None
    assert power.Value.Value == pytest.approx(station.busbar.p_w, abs=0.06)
    assert power.SourceTimestamp.timestamp() == instant.seconds
    assert closed is True
    assert rated == 630_000
    assert dead.StatusCode.value == ua.StatusCodes.BadSensorFailure
    assert dead.Value.Value is None
    records = list(read_records(tmp_path / "witness.jsonl"))
    reads = [row for row in records if row["kind"] == "response"]
    assert [list(row["q"]) for row in reads] == [["TR1.ActivePowerW"], ["TR1.BreakerClosed"], ["TR1.RatedPowerVA"]]
    assert reads[0]["ts"] == utc_text(instant.seconds)
    assert reads[0]["q"]["TR1.ActivePowerW"] == power.Value.Value
    assert [row["kind"] for row in records].count("published") == 2
    assert json.dumps(records[0])


async def test_a_secured_bay_lets_in_nobody_without_security_and_no_unknown_certificate(
    world: World, instant: Instant, tmp_path: Path
) -> None:
    witness = Witness(tmp_path / "witness.jsonl")
    security = Security(tmp_path / "own", "urn:test:bay")
    bay = TransformerBay(world.substations["harbour"], free_port(), witness, instant, security)
    await bay.open()
    stranger = Security(tmp_path / "stranger", "urn:test:stranger")
    await stranger.prepare()
    try:
        with pytest.raises(ua.UaError):
            async with Client(bay.url):
                pass
        client = Client(bay.url)
        client.application_uri = stranger.uri
        files = (stranger.certificate, stranger.certificate.with_name("key.pem"), security.certificate)
        await client.set_security_string(f"Basic256Sha256,SignAndEncrypt,{files[0]},{files[1]},{files[2]}")
        with pytest.raises(ua.uaerrors.BadCertificateUntrusted):
            await client.connect()
    finally:
        await bay.close()
        witness.close()
