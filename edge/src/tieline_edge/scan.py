"""``tieline-edge scan`` and ``check-config``: look at given endpoints, propose YAML; name every mistake of a file.

Scanning asks only the hosts, ports and units it was given and never writes to a device.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final, TextIO

import yaml

from tieline_core.errors import BadInputError
from tieline_edge.config_file import check_config
from tieline_edge.drivers.capabilities import DevicePermanentError, DeviceTransientError
from tieline_edge.drivers.catalog.entry import CatalogEntry, Table
from tieline_edge.drivers.catalog.load import entry, names
from tieline_edge.drivers.modbus.endpoint import TcpEndpoint
from tieline_edge.drivers.modbus.link import ModbusLink
from tieline_edge.drivers.modbus.sunspec import discover

_MAX_TRIES: Final = 4096
_MAX_NODES: Final = 2000
_MAX_DEPTH: Final = 6


@dataclass(frozen=True, slots=True)
class Finding:
    """One endpoint that answered.

    Attributes:
        place: Where, as the ``modbus`` or ``opcua`` block of a device.
        text: What it is, for people.
        entries: Catalogue entries that fit, best first.
        details: Further lines for the comment.
    """

    place: Mapping[str, object]
    text: str
    entries: tuple[str, ...] = ()
    details: tuple[str, ...] = field(default=())


def fitting_entries(models: Iterable[int]) -> tuple[str, ...]:
    """SunSpec catalogue entries whose models a device has all of; the one that uses most of them first."""
    have = set(models)
    fits = [(len(needs), name) for name in names() if (needs := _models_of(entry(name))) and needs <= have]
    return tuple(name for _, name in sorted(fits, key=lambda row: (-row[0], row[1])))


def _models_of(found: CatalogEntry) -> set[int]:
    return {register.model for register in found.registers if register.model is not None}


async def scan_modbus(host: str, port: int, units: Sequence[int], timeout_s: float) -> list[Finding]:
    """Ask each unit of one server for a SunSpec chain; a silent server is given up after its first time-out."""
    link = ModbusLink(TcpEndpoint(host, port), timeout_s)
    findings = []
    try:
        for unit in units:
            place = {"host": host, "port": port, "unit": unit}
            try:
                device = await discover(partial(link.read, unit, Table.HOLDING))
            except DevicePermanentError:
                findings.append(Finding(place, "answers Modbus, is no SunSpec device; choose the entry by its register sheet"))
                continue
            except DeviceTransientError as error:
                if "no connection" in str(error):
                    break
                continue
            identity = f"{device.identity}: " if device.identity else ""
            chain = ", ".join(str(model.number) for model in device.models)
            fits = fitting_entries(model.number for model in device.models)
            findings.append(Finding(place, f"{identity}SunSpec models {chain}", fits))
    finally:
        link.close()
    return findings


async def scan_opcua(url: str, timeout_s: float) -> list[Finding]:
    """Browse a server's objects and list its variables; propose a bay where the names fit one."""
    from asyncua import Client, ua

    client = Client(url, timeout=timeout_s)
    try:
        async with asyncio.timeout(10 * timeout_s):
            await client.connect()
            variables = await _variables(client)
    except (TimeoutError, OSError, ua.UaError):
        client.disconnect_socket()
        return []
    await client.disconnect()
    findings = []
    bays = {_root(node, name) for node in variables for name in ("ActivePowerW", "LoadingPct") if node.endswith(f".{name}")}
    for root in sorted(root for root in bays if root):
        place = {"url": url, "root": root}
        findings.append(Finding(place, f"transformer bay {root}", ("transformer-bay-opcua",)))
    if not findings:
        findings.append(Finding({"url": url}, f"OPC-UA server with {len(variables)} variables", (), tuple(variables[:20])))
    return findings


def _root(node: str, name: str) -> str:
    return node.partition(";s=")[2].removesuffix(f".{name}")


async def _variables(client: Any) -> list[str]:  # asyncua is untyped here
    from asyncua import ua

    found: list[str] = []
    level = [client.nodes.objects]
    for _ in range(_MAX_DEPTH):
        below = []
        for node in level:
            for child in await node.get_children():
                if child.nodeid.NamespaceIndex == 0 or len(found) >= _MAX_NODES:
                    continue
                if await child.read_node_class() == ua.NodeClass.Variable:
                    found.append(child.nodeid.to_string())
                else:
                    below.append(child)
        level = below
    return found


def proposal(findings: Sequence[Finding]) -> str:
    """A YAML snippet for the ``devices`` list of a site file; what needs a person's knowledge stands as a comment."""
    lines = ["devices:"]
    for number, finding in enumerate(findings, 1):
        lines += [f"  # {text}" for text in (finding.text, *finding.details)]
        if not finding.entries:
            lines.append(f"  # at {_flow(finding.place)}")
            continue
        chosen = entry(finding.entries[0])
        if len(finding.entries) > 1:
            lines.append(f"  # also fits: {', '.join(finding.entries[1:])}")
        protocol = "opcua" if "url" in finding.place else "modbus"
        lines.append(f"  - id: {chosen.role.value}{number}")
        lines.append(f"    catalog: {chosen.name}")
        lines.append(f"    {protocol}: {_flow(finding.place)}")
        if chosen.role.value == "storage":
            lines.append("    # give p_min_w, p_max_w [W, charging is positive] and energy_wh")
        if chosen.role.value == "pv":
            lines.append("    # give p_min_w [W, the rating, below 0]")
    return "\n".join(lines) + "\n"


def _flow(place: Mapping[str, object]) -> str:
    return yaml.safe_dump(dict(place), default_flow_style=True, sort_keys=False, width=200).strip()


def _numbers(text: str) -> tuple[int, ...]:
    """``1,3,10-12`` as numbers; refuses what is no number, out of range or too much."""
    found: list[int] = []
    for part in text.split(","):
        first, _, last = part.strip().partition("-")
        try:
            low, high = int(first), int(last or first)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{part!r} is no number and no range like 1-10") from None
        if not 0 <= low <= high <= 65535 or len(found) + high - low >= _MAX_TRIES:
            raise argparse.ArgumentTypeError(f"{part!r} is no range of at most {_MAX_TRIES} numbers from 0 to 65535")
        found.extend(range(low, high + 1))
    return tuple(dict.fromkeys(found))


def add_scan_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``tieline-edge scan``."""
    parser.description = (
        "Look for devices at the given hosts only, and print a proposal for the 'devices' list of a site file. "
        "SunSpec devices are found by their chain of models, OPC-UA servers are browsed. Nothing is written to a device."
    )
    parser.add_argument("hosts", nargs="*", metavar="HOST", help="Modbus TCP hosts to ask")
    parser.add_argument("--ports", type=_numbers, default=(502,), metavar="LIST", help="Modbus ports, e.g. 502,1502-1510")
    parser.add_argument("--units", type=_numbers, default=(1,), metavar="LIST", help="Modbus unit ids, e.g. 1-10")
    parser.add_argument("--opcua", action="append", default=[], metavar="URL", help="OPC-UA server, e.g. opc.tcp://bay1:4840")
    parser.add_argument("--timeout", type=float, default=1.0, metavar="S", help="seconds to wait for each answer")


async def _scan(args: argparse.Namespace) -> list[Finding]:
    servers = [(host, port) for host in args.hosts for port in args.ports]
    found = await asyncio.gather(*(scan_modbus(host, port, args.units, args.timeout) for host, port in servers))
    browsed = await asyncio.gather(*(scan_opcua(url, args.timeout) for url in args.opcua))
    return [finding for findings in (*found, *browsed) for finding in findings]


def run_scan(args: argparse.Namespace, out: TextIO | None = None) -> int:
    """Carry out ``tieline-edge scan``; exit code 0 when something answered, 1 when nothing did, 2 for no place to look."""
    out = out or sys.stdout
    if not args.hosts and not args.opcua:
        sys.stderr.write("scan: name at least one HOST or --opcua URL; nothing else is searched\n")
        return 2
    findings = asyncio.run(_scan(args))
    if not findings:
        sys.stderr.write("nothing answered; check host, --ports, --units and the cable\n")
        return 1
    out.write(proposal(findings))
    return 0


def run_check_config(paths: Sequence[Path], out: TextIO | None = None) -> int:
    """Carry out ``tieline-edge check-config``: print every mistake; exit code 0 when there is none, else 1."""
    out = out or sys.stdout
    mistakes: list[BadInputError] = []
    for path in paths:
        found = check_config(path)
        mistakes.extend(found)
        for mistake in found:
            out.write(f"{mistake}\n")
        if not found:
            out.write(f"{path}: good\n")
    if mistakes:
        out.write(f"{len(mistakes)} mistake{'s' if len(mistakes) > 1 else ''}\n")
    return 1 if mistakes else 0
