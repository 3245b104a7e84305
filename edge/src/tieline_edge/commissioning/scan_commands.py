"""``tieline-edge scan`` and ``check-config``: look at given endpoints, propose YAML; name every mistake of a file.

Scanning asks only the hosts, ports, lines and units it was given and never writes to a device.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, Final, Literal, TextIO

from tieline_core.errors import BadInputError
from tieline_core.ids import EdgeId
from tieline_edge.commissioning.finding import Finding
from tieline_edge.commissioning.proposal import proposal
from tieline_edge.commissioning.scan_modbus import scan_bus
from tieline_edge.commissioning.scan_opcua import scan_opcua
from tieline_edge.config_file import check_config
from tieline_edge.drivers.catalog.load import entry, names
from tieline_edge.drivers.modbus.endpoint import Endpoint, SerialEndpoint, TcpEndpoint
from tieline_edge.settings import opcua_address

_MAX_TRIES: Final = 4096
#: Buses that are asked at the same time.
_AT_ONCE: Final = 16
#: Places without an answer that are named.
_MAX_SILENT: Final = 20


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


def _opcua(text: str) -> str:
    try:
        return opcua_address(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: {error}") from error


def _edge(text: str) -> EdgeId:
    try:
        return EdgeId(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def add_scan_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``tieline-edge scan``."""
    parser.description = (
        "Look for devices at the given places only, and propose a site file. SunSpec devices are found by their chain of "
        "models, with maker, model, serial number and ratings; other Modbus units are listed with what they answer and the "
        "catalogue entries they look like; OPC-UA servers with their security and the entries their nodes fit. Nothing is "
        "written to a device, and what only looks like something that can be operated stands as a comment."
    )
    parser.epilog = (
        "examples:\n"
        "  tieline-edge scan 10.0.0.3 --units 1-10 --site harbour > site.yaml\n"
        "  tieline-edge scan 10.0.0.9 --ports 8899 --rtu           (RTU frames over TCP)\n"
        "  tieline-edge scan --serial /dev/ttyUSB0 --baud 9600 --parity E --units 1-20\n"
        "  tieline-edge scan --opcua opc.tcp://bay1:4840\n"
        "exit codes: 0 something answered, 1 nothing did, 2 no place to look was named"
    )
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("hosts", nargs="*", metavar="HOST", help="Modbus hosts to ask")
    parser.add_argument(
        "--ports", type=_numbers, default=(502,), metavar="LIST", help="ports, e.g. 502,1502-1510 (default: 502)"
    )
    parser.add_argument("--units", type=_numbers, default=(1,), metavar="LIST", help="unit ids, e.g. 1-10 (default: 1)")
    parser.add_argument("--rtu", action="store_true", help="the hosts are gateways that pass RTU frames on")
    parser.add_argument("--serial", action="append", default=[], metavar="PATH", help="serial line (RTU frames); repeatable")
    parser.add_argument("--baud", type=int, default=9600, metavar="N", help="of the serial lines (default: 9600)")
    parser.add_argument("--parity", choices=("N", "E", "O"), default="N", help="of the serial lines (default: N)")
    parser.add_argument("--stop-bits", type=int, choices=(1, 2), default=1, help="of the serial lines (default: 1)")
    parser.add_argument(
        "--opcua", type=_opcua, action="append", default=[], metavar="URL", help="e.g. opc.tcp://bay1:4840; repeatable"
    )
    parser.add_argument("--timeout", type=float, default=1.0, metavar="S", help="seconds to wait for each answer (default: 1)")
    parser.add_argument("--site", type=_edge, metavar="EDGE", help="propose a whole site file for this edge id")
    parser.add_argument("--no-guess", action="store_true", help="do not compare units without SunSpec with the catalogue")


def _buses(args: argparse.Namespace) -> list[Endpoint]:
    framing: Literal["tcp", "rtu"] = "rtu" if args.rtu else "tcp"
    buses: list[Endpoint] = [TcpEndpoint(host, port, framing) for host in args.hosts for port in args.ports]
    return buses + [SerialEndpoint(path, args.baud, args.parity, args.stop_bits) for path in args.serial]


def _ready(args: argparse.Namespace) -> None:
    """Load what is slow to load before the first question: a blocked loop would look like devices that do not answer."""
    if args.hosts or args.serial:
        import pymodbus.client  # noqa: F401 - loaded for its being loaded
    if args.opcua:
        import asyncua  # noqa: F401 - loaded for its being loaded
    for name in names():
        entry(name)


async def _scan(
    args: argparse.Namespace, buses: Sequence[Endpoint], tell: Callable[[str], None], silence: Callable[[str], None]
) -> list[Finding]:
    slots, total, done = asyncio.Semaphore(_AT_ONCE), len(buses) * len(args.units), 0

    def step() -> None:
        nonlocal done
        done += 1
        tell(f"\r{done} of {total} units asked")

    async def taking_turns(look: Coroutine[Any, Any, list[Finding]]) -> list[Finding]:
        async with slots:
            return await look

    looks = [scan_bus(bus, args.units, args.timeout, step, silence, guess=not args.no_guess) for bus in buses]
    looks += [scan_opcua(url, args.timeout, silence) for url in args.opcua]
    found = await asyncio.gather(*(taking_turns(look) for look in looks))
    if buses:
        tell("\n")
    return [finding for findings in found for finding in findings]


def run_scan(args: argparse.Namespace, out: TextIO | None = None) -> int:
    """Carry out ``tieline-edge scan``; exit code 0 when something answered, 1 when nothing did, 2 for no place to look."""
    out = out or sys.stdout
    buses = _buses(args)
    if not buses and not args.opcua:
        sys.stderr.write("scan: name at least one HOST, --serial PATH or --opcua URL; nothing else is searched\n")
        return 2
    if (tries := len(buses) * len(args.units) + len(args.opcua)) > _MAX_TRIES:
        sys.stderr.write(f"scan: {tries} places are more than {_MAX_TRIES}: name fewer hosts, ports or units\n")
        return 2
    _ready(args)
    silent: list[str] = []
    findings = asyncio.run(_scan(args, buses, _progress, silent.append))
    for line in silent[:_MAX_SILENT]:
        sys.stderr.write(f"{line}\n")
    if len(silent) > _MAX_SILENT:
        sys.stderr.write(f"... and {len(silent) - _MAX_SILENT} more places without an answer\n")
    if not findings:
        sys.stderr.write("nothing answered; check host, --ports, --units, --timeout and the cable\n")
        return 1
    out.write(proposal(findings, args.site))
    return 0


def _progress(text: str) -> None:
    """For somebody who waits, not for a log."""
    if sys.stderr.isatty():
        sys.stderr.write(text)


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
