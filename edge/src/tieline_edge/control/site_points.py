"""Derived points of the site: load, PV and storage power, made from one snapshot. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from tieline_core.ids import DeviceId, EdgeId, PointId
from tieline_core.messages.desired import LadderStep
from tieline_core.quantities import QUANTITIES, Reading, round_to
from tieline_edge.control.facts import SiteFacts
from tieline_edge.drivers.capabilities import DeviceSpec, Role

#: The device part of derived points.
SITE: Final = "site"


@dataclass(frozen=True, slots=True)
class SitePower:
    """Signed powers of the site [W]; None when one of the inputs is not usable now."""

    load_w: float | None
    pv_w: float | None
    storage_w: float | None


def site_power(specs: Mapping[DeviceId, DeviceSpec], facts: SiteFacts, transformer: DeviceId | None) -> SitePower:
    """Load of the customers = transformer - storage - PV, all positive when drawn from the grid."""
    pv = _sum(specs, facts, Role.PV)
    storage = _sum(specs, facts, Role.STORAGE)
    incoming = None if transformer is None else facts.of(transformer).p_w
    if incoming is None or pv is None or storage is None:
        return SitePower(None, pv, storage)
    return SitePower(incoming - pv - storage, pv, storage)


def site_readings(edge: EdgeId, power: SitePower, ladder: LadderStep, now: datetime) -> list[Reading]:
    """Readings of what is known, and the ladder step."""
    values = {"load_w": power.load_w, "pv_w": power.pv_w, "storage_w": power.storage_w, "ladder_step": float(ladder)}
    return [
        Reading(PointId.of(edge, SITE, name), round_to(value, QUANTITIES[name].exponent), now)
        for name, value in values.items()
        if value is not None
    ]


def _sum(specs: Mapping[DeviceId, DeviceSpec], facts: SiteFacts, role: Role) -> float | None:
    total = 0.0
    for device, spec in specs.items():
        if spec.role is role:
            power = facts.of(device).p_w
            if power is None:
                return None
            total += power
    return total
