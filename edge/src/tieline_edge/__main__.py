"""Command line of the edge agent."""

from __future__ import annotations

import argparse
import http.client
import json
import logging
import os
import sys
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from tieline_core.allocator import tune
from tieline_core.errors import BadInputError, TielineError
from tieline_edge.site_option import add_site_option

_EPILOG: Final = """\
a first hour with a new site:
  tieline-edge scan 192.0.2.10 --site harbour > site.yaml   look at devices and get a site file for them
  tieline-edge check-config site.yaml       every mistake at once: file, key, value, reason
  tieline-edge check-device site.yaml bat1  read one device: values, signs, plausibility; nothing is written
  tieline-edge checkout site.yaml --by NAME point by point with a tick sheet; moves what you consent to
  tieline-edge run site.yaml                measure, record, send; with hub keys also follow plans and shed
  tieline-edge run --dry-run site.yaml      decide and trace everything, write nothing to any device
  tieline-edge status --config site.yaml    how it stands (without --config: the only site file in /etc/tieline)
  tieline-edge why bat1 --config site.yaml  why a device does what it does, now or --at a moment of the past
  tieline-edge tag load01 --config site.yaml --by NAME --reason TEXT   do not operate this device; untag, tags

exit codes: 0 done, 1 it went wrong or mistakes were found, 2 it could not begin, 3 the edge is not running
"""
#: Readings under way are small and short-lived; everything larger goes back to the system at once.
_MMAP_BYTES: Final = 64 * 1024
_TRIM_BYTES: Final = 128 * 1024


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(
        level=logging.DEBUG if options.verbose else logging.INFO,
        format="%(asctime)s %(levelname)-7s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    for noisy in ("asyncua", "pymodbus"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    try:
        code = int(options.run(options))
        sys.stdout.flush()
    except BadInputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except TielineError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except PermissionError as error:
        print(
            f"error: {error.filename}: {error.strerror}. What an edge keeps belongs to the user it runs as: "
            "run this as that user, or with sudo",
            file=sys.stderr,
        )
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # whoever read the output has seen enough; the interpreter must not write the rest at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tieline-edge",
        description="Edge agent of Tieline: reads a site's devices, remembers everything, follows plans, sheds by itself.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("-v", "--verbose", action="store_true", help="tell more on standard error")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    run = commands.add_parser(
        "run",
        help="run the agent until SIGTERM or Ctrl-C",
        description="Run the agent. Without hub.public_keys it only measures, records and sends. A clean end hands batteries "
        "and PV back to their own defaults and leaves shed loads open.",
    )
    run.add_argument("config", type=Path, metavar="CONFIG", help="YAML file of the site")
    run.add_argument("--dry-run", action="store_true", help="decide, trace and report everything, write nothing to any device")
    run.set_defaults(run=_run)
    check = commands.add_parser(
        "check-config",
        help="name every mistake of configuration files",
        description="Check files without touching any device. Each mistake is told with file, key, value and reason.",
    )
    check.add_argument("configs", type=Path, nargs="+", metavar="CONFIG", help="YAML files")
    check.set_defaults(run=_check)
    _add_scan(commands)
    _add_certificate(commands)
    _add_why(commands)
    from tieline_edge.commissioning.check_commands import add_check_device
    from tieline_edge.commissioning.checkout_commands import add_checkout
    from tieline_edge.commissioning.tag_commands import add_tag_commands

    add_check_device(commands)
    add_checkout(commands)
    add_tag_commands(commands)
    status = commands.add_parser(
        "status", help="how a running edge stands", description="Ask a running edge on this computer how it stands."
    )
    add_site_option(status)
    status.add_argument("--json", action="store_true", help="print the whole status document")
    status.set_defaults(run=_status)
    return parser


def _add_scan(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    from tieline_edge.commissioning.scan_commands import add_scan_arguments, run_scan

    scan = commands.add_parser(
        "scan",
        help="look at devices and propose YAML for them",
        description="Look at the endpoints you name, and only at those: SunSpec models over Modbus, nodes over OPC-UA.",
    )
    add_scan_arguments(scan)
    scan.set_defaults(run=run_scan)


def _add_certificate(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    from tieline_edge.drivers.opcua.command import add_certificate_arguments, run_certificate

    certificate = commands.add_parser("opcua-certificate", help="the edge's OPC-UA certificate, and the servers it trusts")
    add_certificate_arguments(certificate)
    certificate.set_defaults(run=run_certificate)


def _add_why(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    from tieline_edge.why import add_why_arguments

    why = commands.add_parser(
        "why",
        help="why a device does what it does",
        description="Tell the decision in force for a device: winner, losers, limits, notes, ages of the inputs, and what "
        "became of the writes; or a line for each change of a span. Reads the trace beside a running edge or "
        "after a stopped one.",
    )
    add_why_arguments(why)
    why.set_defaults(run=_why)


def _run(options: argparse.Namespace) -> int:
    # Both before any library is loaded: a gateway has little memory, and one thread for each numeric library is enough.
    tune(arenas=1, mmap_bytes=_MMAP_BYTES, trim_bytes=_TRIM_BYTES)
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    import asyncio

    from tieline_edge.agent import Agent
    from tieline_edge.commissioning.site_in_force import site_in_force
    from tieline_edge.config_file import check_config

    try:
        site = site_in_force(options.config)
    except BadInputError as first:
        # Only now all of them are worth a second look at the file: a start that works reads it once.
        _print_mistakes(check_config(options.config) or [first])
        return 2
    agent = Agent(site.dry() if options.dry_run else site)
    try:
        asyncio.run(agent.run())
    except BaseExceptionGroup as group:
        known, rest = group.split(TielineError)
        if rest is not None or known is None:
            raise
        for leaf in _leaves(known):
            print(f"error: {leaf}", file=sys.stderr)
        return 1
    return 0


def _check(options: argparse.Namespace) -> int:
    from tieline_edge.commissioning.scan_commands import run_check_config

    return run_check_config(options.configs)


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    """The errors inside nested groups."""
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error


def _print_mistakes(mistakes: Sequence[BadInputError]) -> None:
    for mistake in mistakes:
        print(mistake, file=sys.stderr)


def _why(options: argparse.Namespace) -> int:
    from tieline_edge.why import run_why

    return run_why(options)


def _status(options: argparse.Namespace) -> int:
    from tieline_edge.config_file import load_settings

    settings = load_settings(options.config)
    port = settings.metrics.port
    if port == 0:
        print("error: metrics.port is 0 in the configuration: the edge serves no status page", file=sys.stderr)
        return 2
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/status", timeout=5) as answer:
            document = json.load(answer)
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = getattr(error, "reason", error)
        why = getattr(reason, "strerror", None) or reason
        print(
            f"{settings.edge_id} does not answer on 127.0.0.1:{port} ({why}). Is it running?",
            file=sys.stderr,
        )
        return 3
    if options.json:
        print(json.dumps(document, indent=2))
        return 0
    from tieline_edge.status import in_words

    print(in_words(document))
    return 0


if __name__ == "__main__":
    sys.exit(main())
