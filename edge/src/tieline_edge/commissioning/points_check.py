"""How the points of a device look to somebody who stands beside it: in words, and whether they can be. Pure functions.

Two reads a moment apart show what one cannot: whether energy registers go the way the power says.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from tieline_core.quantities import QUANTITIES, Quality, Reading
from tieline_edge.drivers.capabilities import Capability, DeviceSpec, Role
from tieline_edge.drivers.catalog.entry import CatalogEntry
from tieline_edge.drivers.plausibility import Nominal, Verdict, judge

#: A power may be this much beyond a rating: measuring errors and short overloads.
_OVER: Final = 1.05
#: A plant draws this share of its rating at night at most.
_OWN_USE: Final = 0.02
#: Below this share of the rating (and 10 W) a power has no direction worth judging.
_IDLE: Final = 0.01
#: Older values were not measured now [s].
_OLD_S: Final = 60.0


class Mark(StrEnum):
    """How a point looks."""

    OK = "ok"
    ODD = "odd"
    """Possible, but somebody should look."""
    BAD = "bad"
    """It cannot be, or there is no number."""


@dataclass(frozen=True, slots=True)
class PointCheck:
    """One point of a device.

    Attributes:
        quantity: Its key.
        value: The number in its unit; None = there is none.
        unit: Printed unit.
        words: What it means here, e.g. ``drawn from the grid``.
        age_s: Age of the value [s]; None = never measured.
        quality: As the driver says.
        mark: How it looks.
        reason: Why it looks so; empty when all is well.
    """

    quantity: str
    value: float | None
    unit: str
    words: str
    age_s: float | None
    quality: str
    mark: Mark
    reason: str


def check_points(
    entry: CatalogEntry,
    spec: DeviceSpec,
    nominal: Nominal,
    reads: tuple[Mapping[str, Reading], Mapping[str, Reading]],
    now: datetime,
) -> tuple[PointCheck, ...]:
    """Look at every point of the catalogue entry, in its order.

    Args:
        entry: What the device should offer.
        spec: What it is here.
        nominal: What is known of it beforehand.
        reads: Two reads, earlier first.
        now: When the second was taken.
    """
    quantities = dict.fromkeys([*(point.quantity for point in entry.points), *reads[1]])
    return tuple(_check(quantity, entry, spec, nominal, reads, now) for quantity in quantities)


def _check(
    quantity: str,
    entry: CatalogEntry,
    spec: DeviceSpec,
    nominal: Nominal,
    reads: tuple[Mapping[str, Reading], Mapping[str, Reading]],
    now: datetime,
) -> PointCheck:
    reading = reads[1].get(quantity)
    known = QUANTITIES.get(quantity)
    unit = "" if known is None else known.unit
    if reading is None:
        return PointCheck(quantity, None, unit, "", None, "-", Mark.ODD, "the device has not implemented it")
    age_s = round((now - reading.measured_at).total_seconds(), 3)
    if reading.value is None:
        reason = "no usable number: wrong register, impossible value or no answer"
        return PointCheck(quantity, None, unit, "", age_s, reading.quality.name.lower(), Mark.BAD, reason)
    value = reading.value
    mark, reason = Mark.OK, ""
    point = next((one for one in entry.points if one.quantity == quantity), None)
    verdict = Verdict.EXPECTED if point is None else judge(point, value, nominal)
    if verdict is not Verdict.EXPECTED:
        mark = Mark.BAD if verdict is Verdict.IMPOSSIBLE else Mark.ODD
        reason = f"far from what a grid shows: {_expected(quantity, nominal)}"
    else:
        reason = next(_doubts(quantity, value, spec, reads), "")
        if not reason and age_s > _OLD_S:
            reason = f"measured {age_s:.0f} s ago: is the source's clock right?"
        if not reason and reading.quality is not Quality.GOOD:
            reason = f"the source itself calls it {reading.quality.name.lower()}"
        mark = Mark.ODD if reason else Mark.OK
    words = in_words(quantity, value, spec)
    return PointCheck(quantity, value, unit, words, age_s, reading.quality.name.lower(), mark, reason)


def in_words(quantity: str, value: float, spec: DeviceSpec) -> str:
    """What a number means at this device."""
    if quantity in ("closed", "breaker_closed"):
        return "closed" if value >= 0.5 else "open"
    if quantity == "p_w":
        if value == 0:
            return "no power flows"
        ways = {
            Role.STORAGE: ("charging: drawn from the grid", "discharging: delivered to the grid"),
            Role.PV: ("drawn from the grid", "generating: delivered to the grid"),
            Role.TRANSFORMER: ("import: drawn from upstream", "export: delivered upstream"),
        }
        return ways.get(spec.role, ("drawn from the grid", "delivered to the grid"))[value < 0]
    if quantity == "q_var" and value != 0:
        return "inductive: drawn from the grid" if value > 0 else "capacitive: delivered to the grid"
    known = QUANTITIES.get(quantity)
    return "" if known is None else known.text


def _expected(quantity: str, nominal: Nominal) -> str:
    if quantity == "v_v":
        return f"{nominal.v_v:g} V ± 20 %"
    if quantity == "f_hz":
        return "50 or 60 Hz ± 5 Hz" if nominal.f_hz is None else f"{nominal.f_hz:g} Hz ± 5 Hz"
    if quantity == "p_w":
        return f"ratings of {nominal.p_w:g} W; a wrong scale or word order looks like this"
    return "0 to 100 %"


def _doubts(
    quantity: str, value: float, spec: DeviceSpec, reads: tuple[Mapping[str, Reading], Mapping[str, Reading]]
) -> Iterator[str]:
    """What may make somebody look twice, worst first."""
    if quantity == "p_w":
        rating = max(abs(spec.p_min_w), abs(spec.p_max_w))
        if rating and spec.role is Role.PV and value > _OWN_USE * rating:
            yield "a plant that draws power: is it wired the other way round (orientation: -1)?"
        elif rating and not _OVER * min(spec.p_min_w, 0.0) <= value <= _OVER * spec.p_max_w and spec.role is not Role.PV:
            yield f"outside its limits [{spec.p_min_w:g}, {spec.p_max_w:g}] W"
        elif rating and spec.role is Role.PV and value < _OVER * spec.p_min_w:
            yield f"beyond its rating of {-spec.p_min_w:g} W"
    if quantity in ("e_import_wh", "e_export_wh"):
        yield from _energy_doubts(quantity, spec, reads)
    if quantity == "loading_pct" and not 0 <= value <= 150:
        yield "a loading is 0 to 150 %"
    if quantity in ("oil_temp_degc", "hot_spot_degc", "temp_degc") and not -50 <= value <= 180:
        yield "no transformer is at this temperature"


def _energy_doubts(
    quantity: str, spec: DeviceSpec, reads: tuple[Mapping[str, Reading], Mapping[str, Reading]]
) -> Iterator[str]:
    before, after = (read.get(quantity) for read in reads)
    if before is None or after is None or before.value is None or after.value is None:
        return
    moved = after.value - before.value
    if moved < 0:
        yield f"a counter that ran backwards by {-moved:g} Wh between two reads"
        return
    powers = [reading.value for read in reads if (reading := read.get("p_w")) is not None and reading.value is not None]
    least = max(10.0, _IDLE * max(abs(spec.p_min_w), abs(spec.p_max_w)))
    draws = len(powers) == 2 and all(power > least for power in powers)
    gives = len(powers) == 2 and all(power < -least for power in powers)
    if moved > 0 and ((quantity == "e_export_wh" and draws) or (quantity == "e_import_wh" and gives)):
        way = "drawn" if draws else "delivered"
        yield f"it counts while power is {way}: is the device wired the other way round (orientation: -1)?"


def writable(spec: DeviceSpec) -> tuple[str, ...]:
    """What can be asked of a device, with its range, in words."""
    words = []
    back = "falls back by its own timer" if spec.reverts else "keeps the last order when nobody speaks any more"
    if Capability.HOLD_POWER in spec.capabilities:
        words.append(
            f"hold a power from {-spec.p_min_w:g} W delivered to {spec.p_max_w:g} W drawn, "
            f"state of charge {spec.soc_min_pct:g} to {spec.soc_max_pct:g} %; {back}"
        )
    if Capability.LIMIT_GENERATION in spec.capabilities:
        words.append(f"deliver at most 0 to {-spec.p_min_w:g} W; {back}")
    if Capability.SWITCH in spec.capabilities:
        kind = "closes again by its own timer" if spec.off_timer else "latched: stays as it is when nobody speaks any more"
        shed = "vital, never opened" if spec.priority_class == 0 else f"class {spec.priority_class}"
        words.append(f"open and close ({shed}; {kind}; at least {spec.min_off_s:g} s open, {spec.min_on_s:g} s closed)")
    return tuple(words) or ("nothing: it only measures",)
