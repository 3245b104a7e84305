"""Command line ``tieline-sim``."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import signal
import sys
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from tieline_sim.errors import SimulatorError

_EPILOG = """\
a first run:
  tieline-sim history deploy/demo/scenario.yaml --out var/history     what the utility knows before the story
  tieline-sim run deploy/demo/scenario.yaml --state var/sim \\
      --brokers harbour=127.0.0.1:1883,mill=127.0.0.1:1884,market=127.0.0.1:1885 --link hub-mqtt=127.0.0.1:1893
  tieline-sim ctl var/sim start                                       quiet stretch, link cut, crisis, return
  tieline-sim ctl var/sim status
  tieline-sim verify var/sim --stored readings.parquet --points deploy/demo/points.yaml
"""


def _address(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdigit() or not 0 < int(port) < 65536:
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST:PORT")
    return host or "127.0.0.1", int(port)


def _named_address(text: str) -> tuple[str, tuple[str, int]]:
    name, equals, rest = text.partition("=")
    if not equals or not name:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=HOST:PORT")
    return name, _address(rest)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tieline-sim",
        description="A simulated distribution field: network, substations, devices, links, and a witness of it all.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    run = commands.add_parser("run", help="run the field until stopped; a run found in --state is continued")
    run.add_argument("scenario", type=Path)
    run.add_argument("--state", type=Path, required=True, metavar="DIR", help="clock, ports, logs and state of the run")
    run.add_argument(
        "--brokers", default="", metavar="[ID=]HOST:PORT,...",
        help="field brokers of the substations, by id or in the scenario's order; without one its meters stay silent",
    )  # fmt: skip
    run.add_argument(
        "--link", type=_named_address, action="append", default=[], metavar="NAME=HOST:PORT",
        help="what stands behind a link of the scenario; may be given later by ctl",
    )  # fmt: skip
    run.add_argument("--cache", type=Path, metavar="DIR", help="folder for converted SimBench data (default: user cache)")
    run.set_defaults(work=_run)

    history = commands.add_parser("history", help="write what the utility has before the story: network, measurements, prices")
    history.add_argument("scenario", type=Path)
    history.add_argument("--out", type=Path, required=True, metavar="DIR")
    history.add_argument("--days", type=int, default=340, help="days of measurements before the epoch (default 340)")
    history.add_argument("--cache", type=Path, metavar="DIR", help="folder for converted SimBench data (default: user cache)")
    history.set_defaults(work=_history)

    ctl = commands.add_parser("ctl", help="ask or command a running field")
    ctl.add_argument("state", type=Path, metavar="DIR")
    verbs = ctl.add_subparsers(dest="verb", required=True, metavar="VERB")
    verbs.add_parser("status", help="time, loading, faults, peaks, costs, what is shed")
    verbs.add_parser("start", help="begin the story")
    speed = verbs.add_parser("speed", help="change the clock's speed; cancels the story's own changes")
    speed.add_argument("speed", type=float)
    fault = verbs.add_parser("fault", help="switch a fault of the scenario")
    fault.add_argument("name")
    fault.add_argument("switch", nargs="?", choices=("on", "off"), default="on")
    link = verbs.add_parser("link", help="say what stands behind a link")
    link.add_argument("name")
    link.add_argument("target", type=_address, metavar="HOST:PORT")
    hush = verbs.add_parser("hush", help="no device answers and no meter reports any more, while clock and links go on")
    hush.add_argument("switch", nargs="?", choices=("on", "off"), default="on")
    verbs.add_parser("stop", help="end the run cleanly")
    ctl.set_defaults(work=_ctl)

    verify = commands.add_parser("verify", help="compare what the hub stored with what the field said")
    verify.add_argument("state", type=Path, metavar="DIR")
    verify.add_argument("--stored", type=Path, required=True, metavar="FILE.parquet")
    verify.add_argument("--points", type=Path, required=True, metavar="points.yaml")
    verify.add_argument("--gaps", type=Path, metavar="FILE.json", help="declared gaps: [[start, end], ...] or by substation")
    verify.add_argument("--json", type=Path, metavar="OUT", help="write the result there too")
    verify.set_defaults(work=_verify)

    report = commands.add_parser("report", help="what the demo's report takes from the simulator, as JSON")
    report.add_argument("state", type=Path, metavar="DIR")
    report.set_defaults(work=_report)

    foresight = commands.add_parser(
        "foresight",
        help="minutes of violation in a run, and in a replay of its time whose batteries knew every load beforehand",
    )
    foresight.add_argument("scenario", type=Path)
    foresight.add_argument("state", type=Path, metavar="DIR", help="state folder of the run")
    foresight.add_argument("--from", dest="begin", type=_instant, required=True, metavar="INSTANT")
    foresight.add_argument("--to", dest="end", type=_instant, required=True, metavar="INSTANT")
    foresight.add_argument("--cache", type=Path, metavar="DIR", help="folder for converted SimBench data (default: user cache)")
    foresight.set_defaults(work=_foresight)

    broker = commands.add_parser("broker", help="embedded MQTT 3.1.1 broker on loopback, anonymous: for the demo only")
    broker.add_argument("--port", type=int, required=True)
    broker.add_argument("--log", action="store_true", help="say what it does")
    broker.set_defaults(work=_broker)
    return parser


def _print(value: Any) -> None:
    print(json.dumps(value), flush=True)


def _brokers(text: str, ids: Sequence[str]) -> dict[str, tuple[str, int]]:
    parts = [part for part in text.split(",") if part]
    try:
        if parts and all("=" in part for part in parts):
            named = dict(_named_address(part) for part in parts)
        else:
            places = [_address(part) for part in parts]
            named = dict.fromkeys(ids, places[0]) if len(places) == 1 else dict(zip(ids, places, strict=False))
    except argparse.ArgumentTypeError as error:
        raise SimulatorError(f"--brokers: {error}") from error
    unknown = named.keys() - set(ids)
    if unknown:
        raise SimulatorError(f"--brokers: {', '.join(sorted(unknown))} is no substation; known are {', '.join(ids)}")
    return named


def _run(arguments: argparse.Namespace) -> int:
    from tieline_sim.scenario import load_scenario

    scenario = load_scenario(arguments.scenario)
    brokers = _brokers(arguments.brokers, [spec.id for spec in scenario.substations])
    for name, _ in arguments.link:
        if name not in scenario.links:
            raise SimulatorError(f"--link: {name!r} is none of {', '.join(scenario.links) or 'no links'}")

    async def main() -> None:
        from tieline_sim.runner import Simulator

        simulator = Simulator(scenario, arguments.state, brokers, dict(arguments.link), arguments.cache)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, simulator.stop)
        await simulator.run(lambda described: _print({"ready": True, **described}))

    asyncio.run(main())
    return 0


def _history(arguments: argparse.Namespace) -> int:
    from tieline_sim.history import write_history
    from tieline_sim.scenario import load_scenario

    _print(write_history(load_scenario(arguments.scenario), arguments.out, arguments.days, arguments.cache))
    return 0


def _ctl(arguments: argparse.Namespace) -> int:
    from tieline_sim.control import call

    request: dict[str, Any] = {"command": arguments.verb}
    if arguments.verb == "speed":
        request["speed"] = arguments.speed
    elif arguments.verb == "fault":
        request |= {"name": arguments.name, "active": arguments.switch == "on"}
    elif arguments.verb == "hush":
        request["active"] = arguments.switch == "on"
    elif arguments.verb == "link":
        request |= {"name": arguments.name, "host": arguments.target[0], "port": arguments.target[1]}
    _print(call(arguments.state, request))
    return 0


def _verify(arguments: argparse.Namespace) -> int:
    from tieline_sim.verify import verify_run

    result = verify_run(arguments.state, arguments.stored, arguments.points, arguments.gaps)
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1), encoding="utf-8")
    _print(result)
    return 0 if result["clean"] else 1


def _report(arguments: argparse.Namespace) -> int:
    from tieline_sim.report import report

    _print(report(arguments.state))
    return 0


def _instant(text: str) -> float:
    try:
        at = datetime.fromisoformat(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no instant such as 2016-12-05T00:00:00Z") from error
    if at.tzinfo is None:
        raise argparse.ArgumentTypeError(f"{text!r} has no time zone")
    return at.timestamp()


def _foresight(arguments: argparse.Namespace) -> int:
    from tieline_sim.compare import with_foresight
    from tieline_sim.scenario import load_scenario

    scenario = load_scenario(arguments.scenario)
    _print(with_foresight(scenario, arguments.state, arguments.begin, arguments.end, arguments.cache))
    return 0


def _broker(arguments: argparse.Namespace) -> int:
    from tieline_sim.broker import serve

    serve(arguments.port, verbose=arguments.log)
    return 0


def main(words: Sequence[str] | None = None) -> int:
    """Entry point; a mistake of the user ends with one sentence and code 2."""
    arguments = _parser().parse_args(words)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    work: Callable[[argparse.Namespace], int] = arguments.work
    try:
        return work(arguments)
    except SimulatorError as error:
        print(f"tieline-sim: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    raise SystemExit(main())
