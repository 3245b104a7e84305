"""``tieline-cloud``: run the hub, and tell a running hub what to do."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tieline_core.errors import BadInputError, TielineError

if TYPE_CHECKING:
    from rich.console import Console

    from tieline_cloud.client import HubClient

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
    remote = argparse.ArgumentParser(add_help=False)
    remote.add_argument("--url", default=DEFAULT_URL, help="address of the running hub (default: %(default)s)")
    remote.add_argument("--json", action="store_true", help="print the result as JSON, without a progress bar")
    direct = argparse.ArgumentParser(add_help=False)
    direct.add_argument(
        "--config", type=Path, metavar="CONFIG", help="no hub runs: open the store of this configuration directly"
    )

    def add(name: str, text: str, run: Callable[..., int], *parents: argparse.ArgumentParser) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".", parents=parents)
        command.set_defaults(run=run)
        return command

    command = add("serve", "run the hub until Ctrl-C or SIGTERM", _serve)
    command.add_argument("config", type=Path, metavar="CONFIG")
    command.add_argument("--log-level", default="INFO", choices=("DEBUG", "INFO", "WARNING", "ERROR"))
    command = add("keygen", "make the signing key and print the public half for the edges", _keygen)
    command.add_argument("folder", type=Path, metavar="DIR")
    command = add("check-config", "name every mistake of a configuration", _check_config)
    command.add_argument("config", type=Path, metavar="CONFIG")
    command = add(
        "import",
        "import history: point, measured_at, value[, quality], or measured_at and one column a point",
        _import,
        remote,
        direct,
    )
    command.add_argument("files", type=Path, nargs="+", metavar="FILE", help="parquet or csv (.csv, .csv.gz, .csv.zst)")
    command.add_argument("--dry-run", action="store_true", help="read and judge every row, store nothing")
    command.add_argument("--max-errors", type=int, metavar="N", help="stop when more than N rows cannot be used")
    command = add("network", "import a network (pandapower JSON) as the hub's grid", _network, remote)
    command.add_argument("file", type=Path, metavar="FILE")
    command = add("prices", "import prices from csv: start, price_eur_per_mwh", _prices, remote)
    command.add_argument("file", type=Path, metavar="FILE")
    command = add("train", "train load models and send them to their edges", _train, remote)
    command.add_argument("--edge", action="append", default=[], help="this edge only; may be repeated")
    command.add_argument("--point", action="append", default=[], help="this point only; may be repeated")
    add("plan", "plan the day of all substations and send it to their edges", _plan, remote)
    command = add("export", "write readings of a span to a parquet file", _export, remote, direct)
    command.add_argument("--from", dest="start", type=_instant, required=True, metavar="INSTANT")
    command.add_argument("--to", dest="end", type=_instant, required=True, metavar="INSTANT")
    command.add_argument("--out", type=Path, required=True, metavar="FILE")
    command.add_argument("--edge")
    for name, text, run in (
        ("reconcile", "compare what an edge holds with the ledger, by stream and hour", _reconcile),
        ("request-backfill", "have an edge send again what it holds of some hours; nothing doubles", _backfill),
    ):
        command = add(name, text, run, remote)
        command.add_argument("edge", metavar="EDGE")
        command.add_argument("--from", dest="start", type=_instant, required=True, metavar="INSTANT")
        command.add_argument("--to", dest="end", type=_instant, required=True, metavar="INSTANT")
        command.add_argument(
            "--stream", action="append", choices=("alarm", "measure", "bulk"), help="this stream only; may be repeated"
        )
    _add_mirror(add("mirror", "look after the mirrors of the ledger", _mirror), remote)
    command = add("jobs", "list jobs, newest first", _jobs, remote)
    command.add_argument("--cancel", metavar="JOB", help="cancel this one instead")
    command = add("quality", "list what the rules of data quality found, newest first", _quality, remote)
    command.add_argument("--point", help="shell pattern such as 'harbour/*/v_v'")
    command.add_argument("--rule", help="this rule only, such as spike or rollover")
    command.add_argument("--from", dest="start", type=_instant, metavar="INSTANT", help="default: 24 hours ago")
    command.add_argument("--to", dest="end", type=_instant, metavar="INSTANT")
    command.add_argument("--misdated", action="store_true", help="list readings whose instant is not believed instead")
    command.add_argument("--limit", type=int, default=100, help="at most this many (default: %(default)s)")
    add("status", "show how the hub and its edges stand", _status, remote)
    return parser


def _add_mirror(mirror: argparse.ArgumentParser, remote: argparse.ArgumentParser) -> None:
    actions = mirror.add_subparsers(dest="action", required=True, metavar="ACTION")
    text = "replay everything measured since an instant into a mirror"
    command = actions.add_parser("rebuild", help=text, description=text[0].upper() + text[1:] + ".", parents=[remote])
    command.add_argument("name", metavar="NAME", help="as in 'mirrors' of the hub's configuration")
    command.add_argument("--from", dest="start", type=_instant, required=True, metavar="INSTANT")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status: 0 done, 1 refused or failed, 2 wrong usage."""
    options = build_parser().parse_args(arguments)
    try:
        status: int = options.run(options)
    except BaseExceptionGroup as group:
        known, other = group.split(TielineError)
        if other is not None or known is None:
            raise
        _complain(known)
        return 1
    except TielineError as error:
        print(f"tieline-cloud: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # whoever read the output has seen enough; Python must not try to write the rest at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return status


def _complain(group: BaseExceptionGroup[Any]) -> None:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            _complain(error)
        else:
            print(f"tieline-cloud: {error}", file=sys.stderr)


def _serve(options: argparse.Namespace) -> int:
    from tieline_cloud.config_file import load_settings
    from tieline_cloud.jobs.pool import limit_threads

    limit_threads()
    settings = load_settings(options.config)
    logging.basicConfig(level=options.log_level, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    from tieline_cloud.bootstrap import RunningHub, serve

    def ready(hub: RunningHub) -> None:
        print(json.dumps({"ready": True, "url": hub.url}), flush=True)

    async def run() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        await serve(settings, stop, ready)

    asyncio.run(run())
    return 0


def _keygen(options: argparse.Namespace) -> int:
    from tieline_cloud.dispatch.keys import write_new_key

    path, public = write_new_key(options.folder)
    print(f"private key: {path} (keep it; it never leaves the hub)")
    print(f"public key:  {public} (goes into hub.public_keys of every edge)")
    return 0


def _check_config(options: argparse.Namespace) -> int:
    from tieline_cloud.config_file import load_settings
    from tieline_cloud.dispatch.keys import read_key
    from tieline_cloud.token_file import read_secret

    settings = load_settings(options.config)
    read_key(settings.signing_key)
    for key, path in (("grid.file", settings.grid.file), ("prices", settings.prices)):
        if path is not None and not path.is_file():
            raise BadInputError(str(options.config), key, str(path), "there is no such file")
    for name, source in settings.sources.items():
        read_secret(source.token_file, f"sources.{name}.token_file")
    for mirror in settings.mirrors:
        if mirror.token_file is not None:
            read_secret(mirror.token_file, f"mirrors.{mirror.name}.token_file", 1)
    batteries = sum(len(assets.batteries) for assets in settings.edges.values())
    print(f"{options.config}: in order; {len(settings.edges)} edges with {batteries} batteries")
    return 0


def _client(options: argparse.Namespace) -> tuple[HubClient, Console]:
    from rich.console import Console

    from tieline_cloud.client import HubClient

    console = Console(stderr=True, quiet=options.json)
    return HubClient(options.url, console), console


def _job(options: argparse.Namespace, kind: str, params: dict[str, Any]) -> int:
    client, _ = _client(options)
    with client:
        job = client.run(kind, params)
    return _print_result(options, job["result"])


def _print_result(options: argparse.Namespace, result: Any) -> int:
    from tieline_cloud.result_text import result_lines

    if options.json:
        print(json.dumps(result))
    else:
        print("\n".join(result_lines(result)))
    sys.stdout.flush()
    return 0


def _import(options: argparse.Namespace) -> int:
    files = [str(file.absolute()) for file in options.files]
    params = {"files": files, "dry_run": options.dry_run, "max_errors": options.max_errors}
    if options.config is None:
        return _job(options, "import", params)
    from tieline_cloud.config_file import load_settings
    from tieline_cloud.jobs.import_job import ImportParams
    from tieline_cloud.offline import import_offline

    client, console = _client(options)
    with client:
        result = import_offline(load_settings(options.config), ImportParams.model_validate(params), console)
    return _print_result(options, result)


def _network(options: argparse.Namespace) -> int:
    return _job(options, "network", {"file": str(options.file.absolute())})


def _prices(options: argparse.Namespace) -> int:
    return _job(options, "prices", {"file": str(options.file.absolute())})


def _train(options: argparse.Namespace) -> int:
    return _job(options, "train", {"edges": options.edge, "points": options.point})


def _plan(options: argparse.Namespace) -> int:
    return _job(options, "plan", {})


def _export(options: argparse.Namespace) -> int:
    out = options.out.absolute()
    if options.config is None:
        span = {"from": options.start.isoformat(), "to": options.end.isoformat()}
        return _job(options, "export", {**span, "out": str(out), "edge": options.edge})
    from tieline_cloud.config_file import load_settings
    from tieline_cloud.offline import export_offline

    settings = load_settings(options.config)
    return _print_result(options, export_offline(settings, out, options.start, options.end, options.edge))


def _span(options: argparse.Namespace) -> dict[str, Any]:
    span = {"edge": options.edge, "from": options.start.isoformat(), "to": options.end.isoformat()}
    return {**span, "streams": options.stream} if options.stream else span


def _reconcile(options: argparse.Namespace) -> int:
    """Like diff: 0 = the same, 1 = they differ."""
    from tieline_cloud.result_text import reconcile_lines

    client, _ = _client(options)
    with client:
        result = client.run("reconcile", _span(options))["result"]
    print(json.dumps(result) if options.json else "\n".join(reconcile_lines(result)))
    return 0 if result["equal"] else 1


def _backfill(options: argparse.Namespace) -> int:
    return _job(options, "backfill", _span(options))


def _mirror(options: argparse.Namespace) -> int:
    return _job(options, "mirror-rebuild", {"name": options.name, "from": options.start.isoformat()})


def _jobs(options: argparse.Namespace) -> int:
    client, _ = _client(options)
    with client:
        jobs = [client.cancel(options.cancel)] if options.cancel else client.get("jobs", {"limit": "30"})
    if options.json:
        print(json.dumps(jobs))
    for job in [] if options.json else jobs:
        print(f"{job['job_id']}  {job['kind']:8} {job['state']:9} {job['progress']:4.0%}  {job['error'] or job['message']}")
    return 0


def _quality(options: argparse.Namespace) -> int:
    from tieline_cloud.result_text import quality_lines

    wanted = {"point": options.point, "limit": str(options.limit)}
    if not options.misdated:
        instants = {"from": options.start, "to": options.end}
        wanted |= {"rule": options.rule, **{key: at.isoformat() for key, at in instants.items() if at is not None}}
    client, _ = _client(options)
    with client:
        path = "quality/misdated" if options.misdated else "quality/findings"
        rows = client.get(path, {key: value for key, value in wanted.items() if value is not None})
    print(json.dumps(rows) if options.json else "\n".join(quality_lines(rows)))
    return 0


def _status(options: argparse.Namespace) -> int:
    from tieline_cloud.result_text import status_lines

    client, _ = _client(options)
    with client:
        health, edges = client.get("health"), client.get("edges")
    print(json.dumps({"health": health, "edges": edges}) if options.json else "\n".join(status_lines(health, edges)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
