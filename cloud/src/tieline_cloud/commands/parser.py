"""What can be said to ``tieline-cloud``."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tieline_cloud.commands import local, remote

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001 (what add_subparsers returns has no public name)

_DESCRIPTION: Final = """The Tieline hub: takes in what edges measure, forecasts, plans, and shows it.

First steps:
  tieline-cloud keygen keys              make the key that signs plans and commands
  tieline-cloud check-config hub.yaml    name every mistake of a configuration
  tieline-cloud serve hub.yaml           run the hub
Then, beside the running hub:
  tieline-cloud network network.json     give it the network
  tieline-cloud import history.parquet   give it the past
  tieline-cloud prices prices.csv        give it the prices
  tieline-cloud train                    make load models and send them to the edges
  tieline-cloud plan                     plan the day and send the plans to the edges
  tieline-cloud publish-config EDGE site.yaml   give an edge another site file, without a restart
  tieline-cloud publish-policy EDGE policy.yaml give an edge other shedding rules
  tieline-cloud status                   see how everything stands
  tieline-cloud reconcile EDGE ...       see whether an edge and the hub hold the same"""


def _instant(text: str) -> datetime:
    try:
        instant = datetime.fromisoformat(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no instant; write it like 2016-12-07T15:30:00Z") from error
    if instant.tzinfo is None:
        raise argparse.ArgumentTypeError(f"{text!r} has no offset; write it like 2016-12-07T15:30:00Z")
    return instant


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    from tieline_cloud.client import DEFAULT_URL

    parser = argparse.ArgumentParser(
        prog="tieline-cloud", description=_DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    address = argparse.ArgumentParser(add_help=False)
    address.add_argument("--url", default=DEFAULT_URL, help="address of the running hub (default: %(default)s)")
    address.add_argument("--json", action="store_true", help="print the result as JSON, without a progress bar")
    direct = argparse.ArgumentParser(add_help=False)
    direct.add_argument(
        "--config", type=Path, metavar="CONFIG", help="no hub runs: open the store of this configuration directly"
    )

    _add_local(commands)
    _add_giving(commands, address, direct)
    _add_config(commands, address)
    _add_asking(commands, address, direct)
    return parser


def _add(
    commands: Commands, name: str, text: str, run: Callable[..., int], *parents: argparse.ArgumentParser
) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".", parents=parents)
    command.set_defaults(run=run)
    return command


def _add_span(command: argparse.ArgumentParser) -> None:
    command.add_argument("--from", dest="start", type=_instant, required=True, metavar="INSTANT")
    command.add_argument("--to", dest="end", type=_instant, required=True, metavar="INSTANT")


def _add_local(commands: Commands) -> None:
    command = _add(commands, "serve", "run the hub until Ctrl-C or SIGTERM", local.run_serve)
    command.add_argument("config", type=Path, metavar="CONFIG")
    command.add_argument("--log-level", default="INFO", choices=("DEBUG", "INFO", "WARNING", "ERROR"))
    command = _add(commands, "keygen", "make the signing key and print the public half for the edges", local.run_keygen)
    command.add_argument("folder", type=Path, metavar="DIR")
    text = "sign the list of devices that an edge may never shed"
    command = _add(commands, "sign-vital-list", text, local.run_sign_vital_list)
    command.add_argument("folder", type=Path, metavar="KEYS", help="folder of the signing key, as keygen made it")
    command.add_argument("edge", metavar="EDGE")
    command.add_argument("devices", nargs="*", metavar="DEVICE", help="every vital device: a newer list replaces the older")
    command.add_argument("--by", required=True, metavar="NAME", help="who answers for it")
    command.add_argument("--out", type=Path, required=True, metavar="FILE")
    command = _add(commands, "check-config", "name every mistake of a configuration", local.run_check_config)
    command.add_argument("config", type=Path, metavar="CONFIG")


def _add_giving(commands: Commands, address: argparse.ArgumentParser, direct: argparse.ArgumentParser) -> None:
    """What a hub is given, and what it makes of it."""
    command = _add(
        commands,
        "import",
        "import history: point, measured_at, value[, quality], or measured_at and one column a point",
        remote.run_import,
        address,
        direct,
    )
    command.add_argument("files", type=Path, nargs="+", metavar="FILE", help="parquet or csv (.csv, .csv.gz, .csv.zst)")
    command.add_argument("--dry-run", action="store_true", help="read and judge every row, store nothing")
    command.add_argument("--max-errors", type=int, metavar="N", help="stop when more than N rows cannot be used")
    command = _add(commands, "network", "import a network (pandapower JSON) as the hub's grid", remote.run_network, address)
    command.add_argument("file", type=Path, metavar="FILE")
    command = _add(commands, "prices", "import prices from csv: start, price_eur_per_mwh", remote.run_prices, address)
    command.add_argument("file", type=Path, metavar="FILE")
    command = _add(commands, "train", "train load models and send them to their edges", remote.run_train, address)
    command.add_argument("--edge", action="append", default=[], help="this edge only; may be repeated")
    command.add_argument("--point", action="append", default=[], help="this point only; may be repeated")
    _add(commands, "plan", "plan the day of all substations and send it to their edges", remote.run_plan, address)


def _add_config(commands: Commands, address: argparse.ArgumentParser) -> None:
    text = "sign a site file and give it to its edge, which takes it without a restart or says why not"
    command = _add(commands, "publish-config", text, remote.run_publish_config, address)
    command.add_argument("edge", metavar="EDGE")
    command.add_argument("file", type=Path, metavar="SITE", help="the whole site file (YAML)")
    _add_wait(command)
    text = "sign a shedding policy and give it to its edge, which refuses one that could shed a vital load"
    command = _add(commands, "publish-policy", text, remote.run_publish_policy, address)
    command.add_argument("edge", metavar="EDGE")
    command.add_argument("file", type=Path, metavar="POLICY", help="its sections (YAML)")
    _add_wait(command)
    text = "release the shedding stages of an edge that are latched now; its policy stays as it is"
    command = _add(commands, "release-shedding", text, remote.run_release_shedding, address)
    command.add_argument("edge", metavar="EDGE")
    _add_wait(command)


def _add_wait(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--wait", type=float, default=60.0, metavar="S", help="wait this long for the edge's word; 0 = not at all (default: 60)"
    )


def _add_asking(commands: Commands, address: argparse.ArgumentParser, direct: argparse.ArgumentParser) -> None:
    """What a hub is asked, and what it is asked to look after."""
    command = _add(commands, "export", "write readings of a span to a parquet file", remote.run_export, address, direct)
    _add_span(command)
    command.add_argument("--out", type=Path, required=True, metavar="FILE")
    command.add_argument("--edge")
    for name, text, run in (
        ("reconcile", "compare what an edge holds with the ledger, by stream and hour", remote.run_reconcile),
        ("request-backfill", "have an edge send again what it holds of some hours; nothing doubles", remote.run_backfill),
    ):
        command = _add(commands, name, text, run, address)
        command.add_argument("edge", metavar="EDGE")
        _add_span(command)
        command.add_argument(
            "--stream", action="append", choices=("alarm", "measure", "bulk"), help="this stream only; may be repeated"
        )
    command = _add(commands, "why", "ask an edge why a device does what it does", remote.run_why, address)
    command.add_argument("edge", metavar="EDGE")
    command.add_argument("device", metavar="DEVICE")
    command.add_argument("--at", type=_instant, metavar="INSTANT", help="default: now")
    command.add_argument("--replay", action="store_true", help="have the arbiter asked again with what was kept")
    _add_mirror(_add(commands, "mirror", "look after the mirrors of the ledger", remote.run_mirror), address)
    command = _add(commands, "jobs", "list jobs, newest first", remote.run_jobs, address)
    command.add_argument("--cancel", metavar="JOB", help="cancel this one instead")
    command = _add(commands, "quality", "list what the rules of data quality found, newest first", remote.run_quality, address)
    command.add_argument("--point", help="shell pattern such as 'harbour/*/v_v'")
    command.add_argument("--rule", help="this rule only, such as spike or rollover")
    command.add_argument("--from", dest="start", type=_instant, metavar="INSTANT", help="default: 24 hours ago")
    command.add_argument("--to", dest="end", type=_instant, metavar="INSTANT")
    command.add_argument("--misdated", action="store_true", help="list readings whose instant is not believed instead")
    command.add_argument("--limit", type=int, default=100, help="at most this many (default: %(default)s)")
    _add(commands, "status", "show how the hub and its edges stand", remote.run_status, address)


def _add_mirror(mirror: argparse.ArgumentParser, address: argparse.ArgumentParser) -> None:
    actions = mirror.add_subparsers(dest="action", required=True, metavar="ACTION")
    text = "replay everything measured since an instant into a mirror"
    command = actions.add_parser("rebuild", help=text, description=text[0].upper() + text[1:] + ".", parents=[address])
    command.add_argument("name", metavar="NAME", help="as in 'mirrors' of the hub's configuration")
    command.add_argument("--from", dest="start", type=_instant, required=True, metavar="INSTANT")
