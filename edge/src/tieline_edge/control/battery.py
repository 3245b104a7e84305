"""A battery as schedules see it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from tieline_core.ids import DeviceId
from tieline_edge.control.facts import SiteFacts
from tieline_edge.drivers.capabilities import Capability, DeviceSpec

#: One-way efficiency assumed for a battery whose own is not known: 0.92 for the round trip.
EFFICIENCY: Final = 0.96


@dataclass(frozen=True, slots=True)
class Battery:
    """What the schedule needs to know of a battery.

    Attributes:
        device: Which.
        charge_w: Largest charging power [W].
        discharge_w: Largest discharging power, as a positive number [W].
        room_wh: Energy between the upper end of its state-of-charge window and what is kept for safety [Wh].
        stored_wh: Energy above what is kept for safety now [Wh].
    """

    device: DeviceId
    charge_w: float
    discharge_w: float
    room_wh: float
    stored_wh: float

    @classmethod
    def of(cls, spec: DeviceSpec, soc_pct: float) -> Battery | None:
        """From a specification and the present state of charge; None when it is no battery that can be told what to do."""
        low_pct = spec.soc_min_pct + spec.soc_reserve_pct
        if Capability.HOLD_POWER not in spec.capabilities or spec.energy_wh is None or spec.soc_max_pct <= low_pct:
            return None
        room = spec.energy_wh * (spec.soc_max_pct - low_pct) / 100.0
        stored = spec.energy_wh * (soc_pct - low_pct) / 100.0
        return cls(spec.device_id, max(spec.p_max_w, 0.0), max(-spec.p_min_w, 0.0), room, min(max(stored, 0.0), room))


def batteries_of(specs: Mapping[DeviceId, DeviceSpec], facts: SiteFacts) -> tuple[Battery, ...]:
    """Batteries whose state of charge is known now."""
    states = ((spec, facts.of(device).soc_pct) for device, spec in specs.items())
    batteries = (Battery.of(spec, soc) for spec, soc in states if soc is not None)
    return tuple(battery for battery in batteries if battery is not None)
