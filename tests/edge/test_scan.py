"""Scanning real sockets, and the check-config command."""

from __future__ import annotations

import argparse
import io
import struct
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import yaml

from tests.conftest import free_port
from tests.edge.drivers.field import ModbusServer, sunspec_map
from tieline_edge.scan import (
    add_scan_arguments,
    fitting_entries,
    proposal,
    run_check_config,
    run_scan,
    scan_modbus,
    scan_opcua,
)


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
        assert {function for _, function, _ in server.requests} == {3}
    assert [finding.place["unit"] for finding in findings] == [1, 3]
    assert findings[0].text == "ACME M-3 SN42: SunSpec models 1, 203"
    assert "no SunSpec device" in findings[1].text
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
    for name in ("ActivePowerW", "LoadingPct", "OilTempC"):
        await folder.add_variable(ua.NodeId(f"TR7.{name}", 2), name, 0.0)
    async with server:
        yield url


async def test_a_transformer_bay_is_found_by_browsing(opcua_url: str) -> None:
    (finding,) = await scan_opcua(opcua_url, 2.0)
    assert finding.place == {"url": opcua_url, "root": "TR7"}
    assert yaml.safe_load(proposal([finding]))["devices"][0]["catalog"] == "transformer-bay-opcua"


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


def test_check_config_prints_every_mistake_of_every_file(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("edge_id: harbour\ntypo: 1\n", encoding="utf-8")
    out = io.StringIO()
    assert run_check_config([tmp_path / "a.yaml", tmp_path / "b.yaml"], out) == 1
    text = out.getvalue()
    assert "a.yaml: typo = 1: unknown key" in text
    assert "a.yaml: devices = None: this key is required" in text
    assert "b.yaml: (whole file)" in text
    assert text.rstrip().endswith("mistakes")
