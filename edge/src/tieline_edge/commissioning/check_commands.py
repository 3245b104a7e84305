"""``tieline-edge check-device``: look at one device twice, say what it shows, write nothing."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from tieline_core.errors import TielineError
from tieline_edge.commissioning.points_check import Mark, PointCheck, check_points, writable
from tieline_edge.commissioning.site_in_force import site_in_force
from tieline_edge.commissioning.visit import Visit, configured, visit
from tieline_edge.drivers.capabilities import DevicePermanentError, DeviceTransientError
from tieline_edge.drivers.plausibility import AFTER
from tieline_edge.drivers.spec import nominal_of
from tieline_edge.settings import EdgeSettings

_MARKS: Final = {Mark.OK: "✓", Mark.ODD: "?", Mark.BAD: "✗"}


@dataclass(frozen=True, slots=True)
class DeviceCheck:
    """What a device shows and what can be asked of it."""

    device: str
    catalog: str
    role: str
    points: tuple[PointCheck, ...]
    writable: tuple[str, ...]
    note: str = ""

    @property
    def mark(self) -> Mark:
        """The worst of its points."""
        order = (Mark.BAD, Mark.ODD, Mark.OK)
        return next((mark for mark in order if any(point.mark is mark for point in self.points)), Mark.BAD)


async def look_twice(found: Visit, pause_s: float) -> DeviceCheck:
    """Read a visited device twice, and judge.

    Raises:
        DeviceTransientError: It does not answer.
        DevicePermanentError: Its entry does not fit it.
    """
    first = await found.read()
    await asyncio.sleep(pause_s)
    second = await found.read()
    nominal = nominal_of(found.settings, found.entry)
    points = check_points(found.entry, found.spec, nominal, (first, second), found.clock.now())
    note = await _word_of_the_driver(found) if points and all(point.value is None for point in points) else ""
    return DeviceCheck(found.settings.id, found.entry.name, found.spec.role.value, points, writable(found.spec), note)


async def _word_of_the_driver(found: Visit) -> str:
    """Why no number is passed on: a driver that doubts a device says it after some polls, with the number it doubts."""
    for _ in range(AFTER):
        try:
            await found.read()
        except (DevicePermanentError, DeviceTransientError) as error:
            return str(error)
    return ""


def point_line(point: PointCheck) -> str:
    """One point in one line."""
    value = "-" if point.value is None else f"{point.value:,.10g}".replace(",", " ")
    shown = f"{_MARKS[point.mark]} {point.quantity} = {f'{value} {point.unit}'.strip()}"
    return ", ".join(part for part in (shown, point.words, point.reason) if part)


def lines(check: DeviceCheck) -> list[str]:
    """A check for a terminal."""
    head = f"{check.device}: {check.catalog} ({check.role})"
    rows = []
    for point in check.points:
        value = "-" if point.value is None else f"{point.value:,.10g}".replace(",", " ")
        age = "" if point.age_s is None else f"{point.age_s:.1f} s old, {point.quality}"
        rows.append((_MARKS[point.mark], point.quantity, f"{value} {point.unit}".strip(), point.words, age, point.reason))
    widths = [max((len(row[column]) for row in rows), default=0) for column in range(5)]
    table = ["  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False)).rstrip() for row in rows]
    with_reasons: list[str] = []
    for row, line in zip(rows, table, strict=True):
        with_reasons.append(line)
        if row[5]:
            with_reasons.append(f"       {row[5]}")
    asked = [f"  can be asked to {one}" if not one.startswith("nothing") else f"  can be asked {one}" for one in check.writable]
    return [head, *with_reasons, *([f"  {check.note}"] if check.note else []), *asked]


def run_check_device(options: argparse.Namespace) -> int:
    """Exit status: 0 all plausible, 1 something is odd or bad, 2 it could not begin, 3 the device does not answer."""
    from tieline_edge.bootstrap import make_clock

    site = site_in_force(options.config).settings
    device = configured(site, options.device)

    async def look() -> DeviceCheck:
        async with visit(site, device, make_clock(site)) as found:
            return await look_twice(found, options.pause)

    try:
        check = asyncio.run(look())
    except (DeviceTransientError, DevicePermanentError) as error:
        return _silent(options, site, error)
    if options.json:
        document: dict[str, Any] = {**asdict(check), "mark": check.mark}
        print(json.dumps(document, indent=2))
    else:
        print("\n".join(lines(check)))
        print("Nothing was written." if check.mark is Mark.OK else "Nothing was written. Look at what is marked ? or ✗.")
    return 0 if check.mark is Mark.OK else 1


def _silent(options: argparse.Namespace, site: EdgeSettings, error: TielineError) -> int:
    if options.json:
        print(json.dumps({"device": options.device, "mark": None, "error": str(error)}))
    else:
        print(f"error: {options.device}: {error}", file=sys.stderr)
        if (site.state_dir / "state.lock").exists():
            print("If the edge runs: some devices accept one connection only, and it has it.", file=sys.stderr)
    return 3


def add_check_device(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare ``check-device``."""
    check = commands.add_parser(
        "check-device",
        help="look at one device: values, signs, plausibility",
        description="Connect to one device of a site file, read it twice and show each point: value, unit, what its sign "
        "means, age, quality, and whether it can be (voltage within 20 % of nominal, frequency within 5 Hz, power within "
        "the rating, energy counters the way the power says). Says what can be asked of it. Nothing is written.",
        epilog="exit codes: 0 all plausible, 1 something is odd or bad, 2 it could not begin, 3 the device does not answer",
    )
    check.add_argument("config", type=Path, metavar="SITE", help="YAML file of the site")
    check.add_argument("device", metavar="DEVICE", help="device id, e.g. bat1")
    check.add_argument("--pause", type=float, default=2.0, metavar="S", help="seconds between the two reads (default: 2)")
    check.add_argument("--json", action="store_true", help="print the result as JSON")
    check.set_defaults(run=run_check_device)
