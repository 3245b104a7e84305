"""Scanning real sockets, and the check-config command."""

from __future__ import annotations

import argparse
import asyncio
import io
import struct
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
import yaml

from deploy.ports import free_port
from tests.edge.commissioning.site import tree
from tests.edge.drivers.field import ModbusServer, sunspec_map
from tieline_edge.__main__ import main
from tieline_edge.commissioning.finding import Finding
from tieline_edge.commissioning.proposal import proposal
from tieline_edge.commissioning.scan_commands import _buses, add_scan_arguments, run_check_config, run_scan
from tieline_edge.commissioning.scan_modbus import fitting_entries, scan_bus
from tieline_edge.commissioning.scan_opcua import bays, scan_opcua
from tieline_edge.config_file import check_config
from tieline_edge.drivers.catalog.load import entry
from tieline_edge.drivers.modbus.endpoint import SerialEndpoint, TcpEndpoint


async def scan_modbus(host: str, port: int, units: Sequence[int], timeout_s: float) -> list[Finding]:
    return await scan_bus(TcpEndpoint(host, port), units, timeout_s)


def words(text: str, count: int) -> list[int]:
    return list(struct.unpack(f">{count}H", text.encode().ljust(2 * count, b"\0")))


@pytest.mark.parametrize(
    ("models", "best"),
    [
        ([1, 203], "sunspec-meter-203"),
        ([1, 701, 704, 802], "sunspec-storage-704"),
        ([1, 103, 124, 802], "sunspec-storage-124"),
        ([1, 701, 704], "sunspec-pv-704"),
        ([1, 103, 123], "sunspec-pv-123"),
    ],
)
def test_the_entry_that_uses_most_of_the_models_is_proposed(models: list[int], best: str) -> None:
    assert fitting_entries(models)[0] == best


async def test_a_sunspec_device_is_found_with_its_name_and_nothing_is_written() -> None:
    async with ModbusServer(silent={2}) as server:
        at = sunspec_map(server, [1, 203])[1]
        server.put(1, at + 2, words("ACME", 16))
        server.put(1, at + 18, words("M-3", 16))
        server.put(1, at + 50, words("SN42", 16))
        server.put(3, 0, [7])
        findings = await scan_modbus("127.0.0.1", server.port, [1, 2, 3], 0.2)
        assert {function for _, function, _ in server.requests} <= {1, 2, 3, 4}
    assert [finding.place["unit"] for finding in findings] == [1, 3]
    assert findings[0].text == "ACME M-3 SN42: SunSpec models 1, 203"
    assert "no SunSpec device" in findings[1].text
    assert "holding 0 = 7" in findings[1].details
    assert any(text.startswith("coil 0: the device has no such register") for text in findings[1].details)
    tree = yaml.safe_load(proposal(findings))
    assert tree["devices"] == [
        {
            "id": "meter1",
            "catalog": "sunspec-meter-203",
            "modbus": {"host": "127.0.0.1", "port": server.port, "unit": 1},
        }
    ]


async def test_a_host_that_is_not_there_gives_nothing() -> None:
    assert await scan_modbus("127.0.0.1", free_port(), [1, 2, 3], 0.2) == []
    assert await scan_opcua(f"opc.tcp://127.0.0.1:{free_port()}", 0.2) == []


@pytest.fixture
async def opcua_url() -> AsyncIterator[str]:
    from asyncua import Server, ua

    server = Server()
    await server.init()
    url = f"opc.tcp://127.0.0.1:{free_port()}"
    server.set_endpoint(url)
    server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
    await server.register_namespace("urn:test")
    folder = await server.nodes.objects.add_folder(2, "TR7")
    for name, value in (("ActivePowerW", -401e3), ("LoadingPct", 63.0), ("OilTempC", 41.0)):
        await folder.add_variable(ua.NodeId(f"TR7.{name}", 2), name, value)
    async with server:
        yield url


async def test_a_transformer_bay_is_found_by_browsing_and_shown_point_by_point(
    opcua_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (finding,) = await scan_opcua(opcua_url, 2.0)
    assert finding.place == {"url": opcua_url, "insecure": True, "root": "TR7"}
    assert finding.details == ("offers no security",)
    (device,) = yaml.safe_load(proposal([finding]))["devices"]
    assert device["catalog"] == "transformer-bay-opcua"
    path = tmp_path / "site.yaml"
    path.write_text(yaml.safe_dump(tree(tmp_path, [device])), encoding="utf-8")
    assert await asyncio.to_thread(main, ["check-device", str(path), device["id"], "--pause", "0.05"]) == 1
    out = capsys.readouterr().out
    assert "-401 000 W" in out
    assert "export: delivered upstream" in out
    assert "nothing: it only measures" in out


def test_nodes_are_compared_with_every_entry_and_the_better_one_wins() -> None:
    nodes = [point.node.format(root="B1") for point in entry("switchgear-bay-opcua").points if point.node is not None]
    (bay,) = bays({"url": "opc.tcp://bay"}, ("offers no security",), nodes)
    assert bay.entries[0] == "switchgear-bay-opcua"
    assert bay.certain
    (server,) = bays({"url": "opc.tcp://bay"}, (), ["ns=3;s=Other"])
    assert server.entries == ()
    assert "ns=3;s=Other" in server.details


async def test_a_site_file_is_proposed_that_passes_the_check_with_the_ratings_the_devices_tell(tmp_path: Path) -> None:
    async with ModbusServer() as server:
        at = sunspec_map(server, [1, 120, 701, 704, 802], 1)
        server.put(1, at[120] + 19, [1500, 2])
        server.put(1, at[120] + 23, [600, 2, 500, 2])
        sunspec_map(server, [1, 701, 704], 2)
        server.put(3, 0, [0, 9000, 2301, 0, 1234], server.inputs)
        server.holding[3, 0] = 0
        findings = await scan_modbus("127.0.0.1", server.port, [1, 2, 3], 0.5)
    text = proposal(findings, "harbour")
    path = tmp_path / "site.yaml"
    path.write_text(text, encoding="utf-8")
    assert check_config(path) == []
    storage, pv = yaml.safe_load(text)["devices"][:2]
    assert (storage["p_min_w"], storage["p_max_w"], storage["energy_wh"]) == (-50000, 60000, 150000)
    assert pv["p_min_w"] == -1
    assert "NOT KNOWN" in text
    guess = next(finding for finding in findings if finding.place["unit"] == 3)
    assert "modbus-load-switch" in guess.entries
    assert not guess.certain
    assert "# - id: load1" in text, "what only looks like something that can be operated stays a comment"


def test_a_storage_that_tells_no_rating_is_proposed_so_that_nothing_flows(tmp_path: Path) -> None:
    text = proposal([Finding({"host": "192.0.2.1", "port": 502, "unit": 1}, "x", ("sunspec-storage-704",))], "harbour")
    path = tmp_path / "site.yaml"
    path.write_text(text, encoding="utf-8")
    assert check_config(path) == []
    (storage,) = yaml.safe_load(text)["devices"]
    assert (storage["p_min_w"], storage["p_max_w"]) == (0, 0)


def test_a_line_and_a_gateway_stand_in_the_proposal_as_they_were_asked() -> None:
    args = parse("gw", "--rtu", "--ports", "8899", "--serial", "/dev/ttyUSB0", "--parity", "E")
    gateway, line = _buses(args)
    assert gateway == TcpEndpoint("gw", 8899, "rtu")
    assert line == SerialEndpoint("/dev/ttyUSB0", 9600, "E", 1)


def test_no_more_places_than_the_bound_are_asked(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_scan(parse("a", "b", "--ports", "1-100", "--units", "1-100")) == 2
    assert "more than 4096" in capsys.readouterr().err


def parse(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_scan_arguments(parser)
    return parser.parse_args(arguments)


def test_ports_and_units_are_lists_and_ranges() -> None:
    args = parse("host", "--ports", "502,1502-1504", "--units", "1,3,3")
    assert (args.ports, args.units) == ((502, 1502, 1503, 1504), (1, 3))


@pytest.mark.parametrize("text", ["x", "1-x", "5-1", "70000", "0-65535", "-1"])
def test_a_wrong_list_is_refused_in_words(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse("host", f"--ports={text}")
    assert "is no" in capsys.readouterr().err


def test_a_scan_without_a_place_or_an_answer_says_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_scan(parse()) == 2
    assert "at least one HOST" in capsys.readouterr().err
    assert run_scan(parse("127.0.0.1", "--ports", str(free_port()), "--timeout", "0.2")) == 1
    assert "nothing answered" in capsys.readouterr().err


def test_a_scan_names_the_places_that_did_not_answer(capsys: pytest.CaptureFixture[str]) -> None:
    ports = [free_port() for _ in range(2)]
    assert run_scan(parse("127.0.0.1", "--ports", ",".join(map(str, ports)), "--timeout", "0.2")) == 1
    told = capsys.readouterr().err
    assert all(f"127.0.0.1:{port}: no connection" in told for port in ports)


async def test_a_unit_that_is_silent_among_others_is_told() -> None:
    told: list[str] = []
    async with ModbusServer() as server:
        sunspec_map(server, [1, 701, 704], 1)
        server.silent |= {2, 4, 5}
        sunspec_map(server, [1, 701, 704], 3)
        findings = await scan_bus(TcpEndpoint("127.0.0.1", server.port), [1, 2, 3, 4, 5], 0.2, silence=told.append)
    assert len(findings) == 2
    assert told == [f"127.0.0.1:{server.port}: no answer within 0.2 s of unit 2, 4-5"]


def test_proposed_ids_count_by_role_and_sort_well() -> None:
    load = Finding({"host": "192.0.2.1", "port": 502, "unit": 1}, "x", ("modbus-load-switch",), certain=False)
    storage = Finding({"host": "192.0.2.2", "port": 502, "unit": 1}, "x", ("sunspec-storage-704",))
    text = proposal([load] * 10 + [storage])
    assert all(f"- id: {name}\n" in text for name in ("load01", "load10", "storage1"))


def test_check_config_prints_every_mistake_of_every_file(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("edge_id: harbour\ntypo: 1\n", encoding="utf-8")
    out = io.StringIO()
    assert run_check_config([tmp_path / "a.yaml", tmp_path / "b.yaml"], out) == 1
    text = out.getvalue()
    assert "a.yaml: typo = 1: unknown key" in text
    assert "a.yaml: devices = None: this key is required" in text
    assert "b.yaml: cannot be read: No such file or directory" in text
    assert text.rstrip().endswith("mistakes")


@pytest.mark.parametrize("address", ["bay1:4840", "opc.tcp://bay1", "http://bay1:4840"])
def test_what_is_no_address_of_an_opcua_server_is_refused_in_words(address: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["scan", "--opcua", address])
    assert f"'{address}': the address of an OPC-UA server is expected" in capsys.readouterr().err
