"""Values that cannot be: what a flipped word order, a wrong scale or a wrong catalogue entry looks like. Pure.

A grid's voltage and frequency are known within narrow bounds before anything is read, so they betray a register map that
no longer fits (after a firmware update, say). Three kinds of value are told apart:

- *expected*: nothing to say;
- *unusual*: a real grid can be there (brown-out, dead bus), so the number stays, marked uncertain;
- *impossible*: no number is passed on. After :data:`AFTER` polls in a row with an impossible value the whole device is
  doubted, because a map that is wrong for one point is wrong for the others: it is taken offline, and with it every order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import IntEnum
from types import MappingProxyType
from typing import Final

from tieline_core.quantities import Quality, Reading
from tieline_edge.drivers.catalog.entry import Point
from tieline_edge.drivers.points import PointRow, bad_reading

#: Polls in a row with an impossible value until the device is doubted.
AFTER: Final = 3
#: Expected voltage [pu of nominal], and the widest a grid can be at.
_EXPECTED_V_PU: Final = (0.8, 1.2)
_POSSIBLE_V_PU: Final = (0.2, 1.5)
#: Below this a bus counts as dead [pu]: induced voltage is left.
_DEAD_V_PU: Final = 0.2
#: A float with its words exchanged is smaller still; what a meter sees of a dead bus is not [V].
_RESOLVED_V: Final = 1e-6
#: 50 Hz - 5 Hz to 60 Hz + 5 Hz; a site that says its nominal gets ± 5 Hz around it.
_ANY_F_HZ: Final = (45.0, 65.0)
_F_BAND_HZ: Final = 5.0
#: A power so many times the device's own limit is a wrong scale or word order, not an overload.
_POWER_FACTOR: Final = 10.0


class Verdict(IntEnum):
    """How a value looks."""

    EXPECTED = 0
    UNUSUAL = 1
    IMPOSSIBLE = 2


@dataclass(frozen=True, slots=True)
class Nominal:
    """What is known of a device beforehand.

    Attributes:
        v_v: Nominal voltage of its ``v_v`` [V].
        f_hz: Nominal frequency [Hz]; None = 50 or 60.
        p_w: Largest power it is configured for, either direction [W]; 0 = not known.
    """

    v_v: float = 230.0
    f_hz: float | None = None
    p_w: float = 0.0


def _voltage(value: float, nominal: Nominal) -> Verdict:
    pu = value / nominal.v_v
    if _EXPECTED_V_PU[0] <= pu <= _EXPECTED_V_PU[1]:
        return Verdict.EXPECTED
    if abs(pu) < _DEAD_V_PU:
        # A float with its words exchanged is a tiny number, not a zero: no meter resolves a millionth of a volt.
        resolved = value == 0.0 or abs(value) >= _RESOLVED_V
        return Verdict.UNUSUAL if resolved and value >= 0.0 else Verdict.IMPOSSIBLE
    return Verdict.UNUSUAL if _POSSIBLE_V_PU[0] <= pu <= _POSSIBLE_V_PU[1] else Verdict.IMPOSSIBLE


def _frequency(value: float, nominal: Nominal) -> Verdict:
    low, high = _ANY_F_HZ if nominal.f_hz is None else (nominal.f_hz - _F_BAND_HZ, nominal.f_hz + _F_BAND_HZ)
    if low <= value <= high:
        return Verdict.EXPECTED
    return Verdict.UNUSUAL if value == 0.0 else Verdict.IMPOSSIBLE


def _power(value: float, nominal: Nominal) -> Verdict:
    possible = not nominal.p_w or abs(value) <= _POWER_FACTOR * nominal.p_w
    return Verdict.EXPECTED if possible else Verdict.IMPOSSIBLE


def _share(value: float, nominal: Nominal) -> Verdict:  # noqa: ARG001 - one form for all rows of the table
    if 0.0 <= value <= 100.0:
        return Verdict.EXPECTED
    return Verdict.UNUSUAL if -1.0 <= value <= 101.0 else Verdict.IMPOSSIBLE


#: Quantity -> rule. A new rule is one line; a point's own ``plausible`` range goes before it.
RULES: Final[Mapping[str, Callable[[float, Nominal], Verdict]]] = MappingProxyType(
    {"v_v": _voltage, "f_hz": _frequency, "p_w": _power, "soc_pct": _share}
)


def watched(point: Point) -> bool:
    """False when nothing is known that its values could contradict."""
    return point.plausible is not None or point.quantity in RULES


def judge(point: Point, value: float, nominal: Nominal) -> Verdict:
    """How a value of a point looks.

    Args:
        point: Its catalogue row.
        value: In the point's unit; the sign of power does not matter.
        nominal: What is known of the device.
    """
    if point.plausible is not None:
        return Verdict.EXPECTED if point.plausible.low <= value <= point.plausible.high else Verdict.IMPOSSIBLE
    rule = RULES.get(point.quantity)
    return Verdict.EXPECTED if rule is None else rule(value, nominal)


def judged(row: PointRow, reading: Reading, nominal: Nominal) -> Reading:
    """A reading of a source that names its values one by one: impossible gives no number, unusual is uncertain.

    There is no map that all of them share, so one impossible value does not bring the device's others into doubt.
    """
    if reading.value is None or not reading.quality.usable:
        return reading
    verdict = judge(row.point, reading.value, nominal)
    if verdict is Verdict.IMPOSSIBLE:
        return bad_reading(row, reading.measured_at)
    if verdict is Verdict.UNUSUAL and reading.quality is Quality.GOOD:
        return replace(reading, quality=Quality.UNCERTAIN)
    return reading


@dataclass(slots=True)
class Doubt:
    """Counts polls with impossible values; a poll without one starts from nothing again."""

    in_a_row: int = 0

    def poll(self, impossible: bool) -> bool:
        """Note one poll.

        Returns:
            True when the device is to be doubted.
        """
        self.in_a_row = self.in_a_row + 1 if impossible else 0
        return self.in_a_row >= AFTER
