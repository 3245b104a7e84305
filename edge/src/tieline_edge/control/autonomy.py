"""Hours of safe autonomy: how long this edge can do without the hub, and what ends it first. Pure functions.

Device defaults, local rules and limits never end; what is counted is how long the edge does better than its default, knows the
network it stands in, keeps its reserve of energy, and loses no reading.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from tieline_core.ids import DeviceId
from tieline_core.messages.desired import Autonomy
from tieline_core.messages.network import NetworkTable
from tieline_edge.control.facts import SiteFacts
from tieline_edge.control.local_schedule import LocalSchedule
from tieline_edge.control.plan_book import HeldPlan
from tieline_edge.drivers.capabilities import DeviceSpec, Role

#: Beyond this nothing is foreseen [h].
HORIZON_H: Final = 30 * 24.0
#: A table of the network is trusted for so long after its end: days resemble each other, topologies change.
TABLE_TRUST: Final = timedelta(days=7)
_OUTBOX: Final = "outbox"


@dataclass(frozen=True, slots=True)
class Outlook:
    """What the edge knows of its own future.

    Attributes:
        plans: Plans held.
        local: The local schedule.
        renewed: A local forecast, and so a schedule, is made again and again without the hub.
        network: The newest table.
    """

    plans: Sequence[HeldPlan]
    local: LocalSchedule | None
    renewed: bool
    network: NetworkTable | None


def autonomy(outlook: Outlook, specs: Mapping[DeviceId, DeviceSpec], facts: SiteFacts, now: datetime) -> Autonomy:
    """All parts but the outbox, which only its keeper knows: see :func:`with_outbox`."""
    parts = {
        "schedule": None if outlook.renewed else _hours(_covered_until(outlook, now), now),
        "network": None if outlook.network is None else _hours(_table_until(outlook.network), now),
        "energy": _energy_h(specs, facts),
    }
    return _least(parts)


def with_outbox(known: Autonomy, room_h: float | None) -> Autonomy:
    """The same with the hours until unsent readings would be lost."""
    return _least({**known.parts, _OUTBOX: room_h})


def _covered_until(outlook: Outlook, now: datetime) -> datetime:
    """Until when plans and local schedule follow each other without a gap, the held last step included."""
    spans = [(held.plan.start, held.held_until) for held in outlook.plans if held.plan.start <= held.end]
    if outlook.local is not None:
        spans.append((outlook.local.start, outlook.local.end))
    until = now
    for start, end in sorted(spans):
        if start <= until:
            until = max(until, end)
    return until


def _table_until(table: NetworkTable) -> datetime:
    steps = max((len(element.value) for element in table.elements), default=0)
    return table.start + timedelta(seconds=steps * table.step_s) + TABLE_TRUST


def _energy_h(specs: Mapping[DeviceId, DeviceSpec], facts: SiteFacts) -> float | None:
    """Until the first discharging storage is down to its reserve at its present power."""
    hours = []
    for device, spec in specs.items():
        power, soc = facts.of(device).p_w, facts.of(device).soc_pct
        if spec.role is not Role.STORAGE or spec.energy_wh is None or power is None or soc is None or power >= 0.0:
            continue
        left_wh = spec.energy_wh * (soc - spec.soc_min_pct - spec.soc_reserve_pct) / 100.0
        hours.append(max(0.0, left_wh) / -power)
    return min(hours, default=None)


def _hours(until: datetime, now: datetime) -> float:
    return max(0.0, (until - now).total_seconds() / 3600.0)


def _least(parts: Mapping[str, float | None]) -> Autonomy:
    rounded = {name: None if hours is None or hours > HORIZON_H else round(hours, 2) for name, hours in parts.items()}
    ends = {name: hours for name, hours in rounded.items() if hours is not None}
    first = min(ends, key=lambda name: (ends[name], name), default="")
    return Autonomy(hours=ends.get(first), limited_by=first, parts=rounded)


def autonomy_words(known: Autonomy) -> str:
    """For a person: hours, what ends it, and the other parts."""
    if known.hours is None:
        return f"no end in sight within {HORIZON_H / 24:.0f} days"
    others = [f"{name} {hours:.4g} h" for name, hours in sorted(known.parts.items()) if hours is not None]
    return f"{known.hours:.4g} h, limited by {known.limited_by} ({', '.join(others)})"
