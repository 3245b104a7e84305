"""``tieline-edge why``, and the same question over the loopback page: reading the trace for people and programs."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

from tieline_core.clock import SystemClock
from tieline_core.errors import BadInputError
from tieline_core.ids import DeviceId
from tieline_core.instant_text import FORMS, read_instant
from tieline_core.timegrid import from_us
from tieline_edge.control.explain import explain, timeline
from tieline_edge.control.ring import RingReader
from tieline_edge.control.words import explanation_words, timeline_words
from tieline_edge.settings import EdgeSettings
from tieline_edge.site_option import add_site_option
from tieline_edge.state_paths import StatePaths

#: Two clocks of one site may differ by so much.
_SLACK: Final = timedelta(minutes=1)


def answer(trace: Path, asked: Mapping[str, str], now: datetime, zone: ZoneInfo) -> dict[str, Any]:
    """The document of one question, with its words in ``text``.

    Args:
        trace: File of the trace.
        asked: ``device`` and either ``at`` (default: now) with ``replay`` (any value: ask the arbiter again), or ``since``
            with ``until`` (default: now).
        now: Present instant.
        zone: Zone of the site.

    Raises:
        BadInputError: When the question is not sound, or the trace has no answer; it says what there is.
    """
    try:
        device = DeviceId(asked.get("device", ""))
    except ValueError as error:
        raise BadInputError("why", "device", asked.get("device"), str(error)) from error
    if "since" in asked:
        since = read_instant(asked["since"], now, zone, "since")
        until = read_instant(asked.get("until", "now"), now, zone, "until")
        told = timeline(trace, device, since, until)
        return {**told, "text": timeline_words(told, zone)}
    at = read_instant(asked.get("at", "now"), now, zone, "at")
    if at > now + _SLACK:
        raise BadInputError("why", "at", asked.get("at"), f"lies ahead: it is {now.astimezone(zone):%Y-%m-%d %H:%M:%S} there")
    told = explain(trace, device, at, replay="replay" in asked)
    return {**told, "text": explanation_words(told, zone)}


def add_why_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``why``."""
    parser.add_argument("device", metavar="DEVICE", help="device id, e.g. bat1")
    parser.add_argument("--at", metavar="T", help=f"instant; without a zone local time of the site: {FORMS}. Default: now")
    parser.add_argument("--since", metavar="T", help="a line for each change from this instant on")
    parser.add_argument("--until", metavar="T", help="to this one; default: now")
    parser.add_argument("--replay", action="store_true", help="ask the arbiter again with what was kept, and compare")
    parser.add_argument("--json", action="store_true", help="print the whole document")
    add_site_option(parser)


def run_why(options: argparse.Namespace) -> int:
    """0 = told, 1 = the replay differs.

    Raises:
        BadInputError: When the question is not sound, or nothing is kept.
    """
    from tieline_edge.config_file import load_settings

    settings = load_settings(options.config)
    trace = StatePaths.below(settings.state_dir).trace
    asked = {
        name: str(getattr(options, name)) for name in ("device", "at", "since", "until") if getattr(options, name) is not None
    }
    if options.until is not None and options.since is None:
        raise BadInputError("--until", "", options.until, "belongs to --since")
    if options.replay:
        asked["replay"] = "1"
    told = answer(trace, asked, _now(settings, trace), ZoneInfo(settings.site.time_zone))
    sys.stdout.write((json.dumps(told, indent=2) if options.json else told["text"]) + "\n")
    return 1 if (told.get("replay") or {}).get("same") is False else 0


def _now(settings: EdgeSettings, trace: Path) -> datetime:
    """The present of the site; after the end of a simulated clock the last instant kept."""
    from tieline_edge.bootstrap import make_clock

    try:
        return make_clock(settings).now()
    except BadInputError:
        with RingReader(trace) as ring:
            spans = [ring.span(device) for device in ring.devices()]
        return max((from_us(span[1]) for span in spans if span is not None), default=SystemClock().now())
