"""Quantities, units, resolution, quality and the reading itself.

Sign: load convention. Active and reactive power are positive when drawn *from* the grid by the asset: charging > 0,
discharging < 0, PV output < 0, import from upstream > 0. Energy registers say their direction in the name.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from types import MappingProxyType
from typing import Final

from tieline_core.ids import PointId


class Quality(IntEnum):
    """How far a value can be trusted; numbers are the wire and store form.

    A reading that is not a number to be used (``BAD``) carries no value at all.
    """

    GOOD = 0
    UNCERTAIN = 1
    SUBSTITUTED = 2
    STALE = 3
    BAD = 4

    @property
    def usable(self) -> bool:
        """True when a decision may be based on the value."""
        return self in (Quality.GOOD, Quality.UNCERTAIN, Quality.SUBSTITUTED)


@dataclass(frozen=True, slots=True)
class Quantity:
    """What a number means.

    Attributes:
        key: Canonical key, unit as suffix.
        unit: Unit as printed.
        exponent: Declared resolution as a power of ten: -1 means values are kept to 0.1 unit.
        text: What it is, for people.
    """

    key: str
    unit: str
    exponent: int
    text: str


def _table(*rows: Quantity) -> MappingProxyType[str, Quantity]:
    return MappingProxyType({row.key: row for row in rows})


#: Every quantity a point may carry. A new one is one line here.
QUANTITIES: Final = _table(
    Quantity("p_w", "W", -1, "active power, positive = drawn from the grid"),
    Quantity("q_var", "var", -1, "reactive power, positive = drawn from the grid"),
    Quantity("s_va", "VA", -1, "apparent power"),
    Quantity("i_a", "A", -2, "current, largest phase"),
    Quantity("v_v", "V", -2, "voltage"),
    Quantity("f_hz", "Hz", -3, "frequency"),
    Quantity("e_import_wh", "Wh", 0, "energy drawn from the grid, counter"),
    Quantity("e_export_wh", "Wh", 0, "energy delivered to the grid, counter"),
    Quantity("soc_pct", "%", -2, "state of charge"),
    Quantity("loading_pct", "%", -2, "loading, share of the rating"),
    Quantity("oil_temp_degc", "°C", -2, "top-oil temperature"),
    Quantity("hot_spot_degc", "°C", -2, "winding hot-spot temperature"),
    Quantity("breaker_closed", "", 0, "circuit breaker position, 1 = closed"),
    Quantity("closed", "", 0, "contactor position, 1 = closed"),
    Quantity("load_w", "W", -1, "site load: customers without storage and generation"),
    Quantity("pv_w", "W", -1, "site PV power, negative = generation"),
    Quantity("storage_w", "W", -1, "site storage power, positive = charging"),
    Quantity("temp_degc", "°C", -2, "outdoor temperature"),
    Quantity("ladder_step", "", 0, "fallback ladder step of the edge"),
    Quantity("p_l1_w", "W", -1, "active power of phase L1, positive = drawn from the grid"),
    Quantity("p_l2_w", "W", -1, "active power of phase L2, positive = drawn from the grid"),
    Quantity("p_l3_w", "W", -1, "active power of phase L3, positive = drawn from the grid"),
    Quantity("q_l1_var", "var", -1, "reactive power of phase L1, positive = drawn from the grid"),
    Quantity("q_l2_var", "var", -1, "reactive power of phase L2, positive = drawn from the grid"),
    Quantity("q_l3_var", "var", -1, "reactive power of phase L3, positive = drawn from the grid"),
    Quantity("s_l1_va", "VA", -1, "apparent power of phase L1"),
    Quantity("s_l2_va", "VA", -1, "apparent power of phase L2"),
    Quantity("s_l3_va", "VA", -1, "apparent power of phase L3"),
    Quantity("i_l1_a", "A", -2, "current of phase L1"),
    Quantity("i_l2_a", "A", -2, "current of phase L2"),
    Quantity("i_l3_a", "A", -2, "current of phase L3"),
    Quantity("v_l1_v", "V", -2, "voltage, L1 to neutral"),
    Quantity("v_l2_v", "V", -2, "voltage, L2 to neutral"),
    Quantity("v_l3_v", "V", -2, "voltage, L3 to neutral"),
    Quantity("v_ll_v", "V", -2, "voltage, phase to phase, mean"),
    Quantity("v_l12_v", "V", -2, "voltage, L1 to L2"),
    Quantity("v_l23_v", "V", -2, "voltage, L2 to L3"),
    Quantity("v_l31_v", "V", -2, "voltage, L3 to L1"),
    Quantity("pf", "", -3, "power factor"),
)


def round_to(value: float, exponent: int) -> float:
    """Round to the resolution 10**exponent, half to even, with the arithmetic of the frame codec: one result everywhere.

    Raises:
        ValueError: When the value is NaN or infinite.
    """
    if not math.isfinite(value):
        raise ValueError(f"{value} is not a finite number")
    if exponent < 0:
        return round(value * 10.0**-exponent) / 10.0**-exponent
    return float(round(value / 10.0**exponent)) * 10.0**exponent


@dataclass(frozen=True, slots=True)
class Reading:
    """One value of one point at one instant.

    Attributes:
        point: What was measured.
        value: The number in the point's unit; None exactly when the quality is BAD or nothing was received.
        measured_at: Aware UTC instant of the measurement, at the source where the source says so.
        quality: How far it can be trusted.

    Raises:
        ValueError: When a NaN, an infinity, a naive instant or a bad value with a number is handed in.
    """

    point: PointId
    value: float | None
    measured_at: datetime
    quality: Quality = Quality.GOOD

    def __post_init__(self) -> None:
        if self.measured_at.tzinfo is None:
            raise ValueError(f"{self.point}: measured_at {self.measured_at} has no time zone")
        if self.value is not None and not math.isfinite(self.value):
            raise ValueError(f"{self.point}: {self.value} is not a finite number")
        if self.value is not None and self.quality is Quality.BAD:
            raise ValueError(f"{self.point}: a bad reading carries no number, got {self.value}")
        if self.value is None and self.quality in (Quality.GOOD, Quality.UNCERTAIN, Quality.SUBSTITUTED):
            raise ValueError(f"{self.point}: quality {self.quality.name} needs a number")
