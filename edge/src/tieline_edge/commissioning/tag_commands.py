"""``tieline-edge tag``, ``untag`` and ``tags``: on a running edge over loopback, on a stopped one in its file."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from tieline_core.errors import BadInputError
from tieline_core.ids import DeviceId
from tieline_edge.commissioning.local_edge import NotAnsweringError, ask, held_by, order
from tieline_edge.control.state_file import StateFile
from tieline_edge.control.tags import Hold, Tag, new_tag, read_tags, write_tags
from tieline_edge.settings import EdgeSettings
from tieline_edge.site_option import add_site_option
from tieline_edge.state_lock import StateHeldError, hold_state
from tieline_edge.state_paths import StatePaths


def run_tag(options: argparse.Namespace) -> int:
    """Hang a tag."""
    settings = _settings(options.config)
    tag = new_tag(options.device, options.by, options.reason, options.hold, _now(settings))
    try:
        with hold_state(settings.state_dir, "tieline-edge tag"):
            _known(settings, tag.device)
            _change(settings, lambda tags: {**tags, tag.device: tag})
    except StateHeldError as held:
        with held_by(held):
            answer = order(settings, "/tag", tag.model_dump(mode="json", include={"device", "by", "reason", "hold"}))
        if not answer["quiet"]:
            print(f"error: the tag hangs, but a write to {tag.device} that had begun has not ended", file=sys.stderr)
            return 1
        if answer["warning"]:
            print(f"warning: {answer['warning']}", file=sys.stderr)
        tag = Tag.model_validate(answer["tag"])
        print(f"{tag.device}: {tag}\nThe running edge writes nothing to it any more; no write is under way.")
    else:
        print(f"{tag.device}: {tag}\nThe edge is not running; the tag is in force from its next start.")
    print("Tieline takes its hands off; it isolates nothing. Timers inside the device go on: lock it and test for dead.")
    return 0


def run_untag(options: argparse.Namespace) -> int:
    """Remove a tag."""
    settings = _settings(options.config)
    device = DeviceId(options.device)
    try:
        with hold_state(settings.state_dir, "tieline-edge untag"):
            _change(settings, lambda tags: _without(tags, device))
    except StateHeldError as held:
        with held_by(held):
            order(settings, "/untag", {"device": device, "by": options.by})
    print(f"{device}: the tag is removed. It is operated again by rules, commands and plans.")
    return 0


def run_tags(options: argparse.Namespace) -> int:
    """List the tags."""
    settings = _settings(options.config)
    try:
        with hold_state(settings.state_dir, "tieline-edge tags"):
            document: dict[str, Any] = {"tags": [tag.model_dump(mode="json") for tag in read_tags(_file(settings))]}
    except StateHeldError as held:
        with held_by(held):
            document = ask(settings, "/tags")
        if document["damage"]:
            print(f"error: {document['damage']}", file=sys.stderr)
            return 1
    if options.json:
        print(json.dumps(document["tags"], indent=2))
        return 0
    tags = [Tag.model_validate(row) for row in document["tags"]]
    print("\n".join(f"{tag.device}: {tag}" for tag in tags) or f"no device of {settings.edge_id} is tagged")
    return 0


def _answered(run: Callable[[argparse.Namespace], int]) -> Callable[[argparse.Namespace], int]:
    """The command with exit status 3 where an edge should answer and does not."""

    def answered(options: argparse.Namespace) -> int:
        try:
            return run(options)
        except NotAnsweringError as error:
            print(f"error: {error}", file=sys.stderr)
            return 3

    return answered


def _settings(path: Path) -> EdgeSettings:
    from tieline_edge.commissioning.site_in_force import site_in_force

    return site_in_force(path).settings


def _now(settings: EdgeSettings) -> datetime:
    from tieline_edge.bootstrap import make_clock

    return make_clock(settings).now()


def _file(settings: EdgeSettings) -> StateFile:
    return StateFile(StatePaths.below(settings.state_dir).tags)


def _known(settings: EdgeSettings, device: DeviceId) -> None:
    known = sorted(one.id for one in settings.devices)
    if device not in known:
        raise BadInputError("tag", "device", device, f"no such device; there are: {', '.join(known)}")


def _without(tags: dict[DeviceId, Tag], device: DeviceId) -> dict[DeviceId, Tag]:
    if device not in tags:
        raise BadInputError("untag", "device", device, f"has no tag; tagged: {', '.join(sorted(tags)) or 'nothing'}")
    return {name: tag for name, tag in tags.items() if name != device}


def _change(settings: EdgeSettings, change: Callable[[dict[DeviceId, Tag]], dict[DeviceId, Tag]]) -> None:
    file = _file(settings)
    tags = change({tag.device: tag for tag in read_tags(file)})
    write_tags(file, tags.values())
    if os.geteuid() == 0:
        # Written by root for an agent that runs as somebody else: it must be able to read it.
        owner = settings.state_dir.stat()
        os.chown(file.path, owner.st_uid, owner.st_gid)


def add_tag_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare ``tag``, ``untag`` and ``tags``."""
    tag = commands.add_parser(
        "tag",
        help='hang a tag "do not operate" on a device',
        description='Hang a maintenance tag ("do not operate"). From then on nothing is written to the device: no plan, no '
        "command, no shedding, no refresh, also not after a restart, until the tag is removed. Works with the edge running "
        "(as the user it runs as) and stopped. The tag isolates nothing: lock the device and test for dead as your rules say.",
    )
    _add_common(tag, "who hangs it")
    tag.add_argument("--reason", required=True, metavar="TEXT", help="why, e.g. 'contactor is being replaced'")
    holds = tag.add_mutually_exclusive_group()
    for name, hold, text in (
        ("--as-is", Hold.AS_IS, "leave it as it stands (default)"),
        ("--hold-open", Hold.OPEN, "it was locked open: raise an alarm when it is seen closed"),
        ("--hold-closed", Hold.CLOSED, "it was locked closed: raise an alarm when it is seen open"),
    ):
        holds.add_argument(name, dest="hold", action="store_const", const=hold, help=text)
    tag.set_defaults(run=_answered(run_tag), hold=Hold.AS_IS)
    untag = commands.add_parser(
        "untag", help="remove the tag of a device", description="Remove the tag: the device is operated again at once."
    )
    _add_common(untag, "who removes it")
    untag.set_defaults(run=_answered(run_untag))
    listed = commands.add_parser("tags", help="list the tags", description="List the tags of this edge, running or stopped.")
    add_site_option(listed)
    listed.add_argument("--json", action="store_true", help="print them as JSON")
    listed.set_defaults(run=_answered(run_tags))


def _add_common(parser: argparse.ArgumentParser, by: str) -> None:
    parser.add_argument("device", metavar="DEVICE", help="device id, e.g. load01")
    add_site_option(parser)
    parser.add_argument("--by", required=True, metavar="NAME", help=by)
