"""``tieline-edge checkout``: point-to-point checkout with a tick sheet, at a stopped edge."""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import sys
from pathlib import Path

from tieline_core.errors import BadInputError
from tieline_edge import __version__
from tieline_edge.commissioning.answers import Answers, AnswersFile, StoppedError, Terminal
from tieline_edge.commissioning.checkout import Walk, judged, remembered
from tieline_edge.commissioning.sheet import Sheet, save, unfinished
from tieline_edge.commissioning.site_in_force import SiteInForce, site_in_force
from tieline_edge.control.memory import ArbiterMemory
from tieline_edge.control.memory_store import StoredState
from tieline_edge.control.state_file import StateFile
from tieline_edge.control.tags import read_tags
from tieline_edge.settings import DeviceSettings
from tieline_edge.state_lock import StateHeldError, hold_state
from tieline_edge.state_paths import StatePaths


def run_checkout(options: argparse.Namespace) -> int:
    """Exit status: 0 everything passed, 1 something failed or was left open, 2 it could not begin, 3 the edge runs."""
    if not 2 <= len(options.by) <= 64:
        raise BadInputError("command line", "--by", options.by, "a name has 2 to 64 characters")
    found = site_in_force(options.config)
    answers: Answers = Terminal() if options.answers is None else AnswersFile(options.answers)
    devices = _chosen(found, options.device)
    try:
        with hold_state(found.settings.state_dir, "tieline-edge checkout"):
            return _walk(options, found, answers, devices)
    except StateHeldError as error:
        print(
            f"error: {error}\nA checkout writes to devices, and only one may: stop the edge first "
            f"(e.g. systemctl stop tieline-edge@{found.settings.edge_id}). Devices fall back by their own timers meanwhile.",
            file=sys.stderr,
        )
        return 3


def _walk(options: argparse.Namespace, found: SiteInForce, answers: Answers, devices: list[DeviceSettings]) -> int:
    from tieline_edge.bootstrap import make_clock

    site, paths, clock = found.settings, StatePaths.below(found.settings.state_dir), make_clock(found.settings)
    digest = _digest(found)
    sheet = None if options.new else unfinished(paths.checkout, digest, options.by)
    if sheet is not None:
        done = sum(row.done for row in sheet.devices)
        print(
            f"Going on with the checkout of {sheet.began_at:%Y-%m-%d %H:%M} UTC: {done} devices are done (--new begins anew)."
        )
    else:
        sheet = Sheet(
            edge_id=site.edge_id,
            site=site.site.name,
            by=options.by,
            began_at=clock.now(),
            software=f"tieline-edge/{__version__}",
            config_sha256=digest,
        )
    tags = {tag.device: tag for tag in read_tags(StateFile(paths.tags))}
    memory = StateFile(paths.control)
    stored = _stored(memory)
    before = stored.arbiter if stored is not None else ArbiterMemory()
    kept = [sheet]

    def keep(now: Sheet) -> None:
        kept[0] = now
        save(now, paths.checkout)

    walk = Walk(site, clock, answers, tags, before, keep, print, options.pause, options.look)
    stopped = False
    try:
        asyncio.run(walk.run(sheet, devices))
    except (StoppedError, KeyboardInterrupt):
        stopped = True
    finally:
        if stored is not None:
            memory.write(stored.model_copy(update={"arbiter": remembered(walk, before)}).model_dump_json())
    path = save(kept[0], paths.checkout)
    if stopped:
        print(f"\nStopped; go on with the same command. So far: {path}")
        return 1
    ticks = [tick.value for tick in kept[0].ticks]
    counts = ", ".join(f"{ticks.count(word)} {word}" for word in ("pass", "fail", "open"))
    if options.json:
        print(kept[0].model_dump_json(indent=2))
    else:
        print(f"\n{counts}. To be signed off: {path} (and .html, .json)")
    return judged(kept[0])


def _chosen(found: SiteInForce, names: list[str]) -> list[DeviceSettings]:
    known = {device.id: device for device in found.settings.devices}
    for name in names:
        if name not in known:
            raise BadInputError("command line", "--device", name, f"no such device; there are: {', '.join(known)}")
    return [device for device in found.settings.devices if not names or device.id in names]


def _digest(found: SiteInForce) -> str:
    """Which configuration was checked: the hub's envelope, or the file at the site."""
    text = json.dumps(found.settings.model_dump(mode="json"), sort_keys=True)
    return found.config_sha256 or hashlib.sha256(text.encode()).hexdigest()


def _stored(file: StateFile) -> StoredState | None:
    text = file.read()
    try:
        return None if text is None else StoredState.model_validate_json(text)
    except ValueError:
        # The agent keeps an unreadable memory aside at its start; unknown counts as just switched.
        return None


def add_checkout(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare ``checkout``."""
    checkout = commands.add_parser(
        "checkout",
        help="point-to-point checkout with a tick sheet",
        description="Walk through the devices of a stopped edge. Each point is shown, to be compared with the device and "
        "ticked. Each actuator is moved a little and back, only after you have written its name, under the limits the running "
        "edge keeps: state of charge, minimum times, dead busbar; vital and tagged devices are never moved. Read-back and "
        "measured effect stand on the sheet, kept in state_dir/checkout as Markdown, HTML and JSON. Ctrl-C or q stops, the "
        "same command goes on.",
        epilog="exit codes: 0 all passed, 1 something failed or is open, 2 it could not begin, 3 the edge runs: stop it first",
    )
    checkout.add_argument("config", type=Path, metavar="SITE", help="YAML file of the site")
    checkout.add_argument("--by", required=True, metavar="NAME", help="who ticks")
    checkout.add_argument("--device", action="append", default=[], metavar="DEVICE", help="this one only; may be repeated")
    checkout.add_argument("--answers", type=Path, metavar="FILE", help="answers for scripts (YAML; see the edge's README)")
    checkout.add_argument("--new", action="store_true", help="begin anew instead of going on with an unfinished sheet")
    checkout.add_argument("--pause", type=float, default=2.0, metavar="S", help="seconds between two reads (default: 2)")
    checkout.add_argument("--look", type=float, default=0.5, metavar="S", help="seconds between looks at the effect (0.5)")
    checkout.add_argument("--json", action="store_true", help="print the sheet as JSON at the end")
    checkout.set_defaults(run=run_checkout)
