"""The energy of storages: ends of the state-of-charge window, and what is kept for safety. Pure functions.

An end that was reached is left only with a margin: a battery that rests at its lower end drifts by a few hundredths of a per
cent, and without the margin it would discharge for a moment at each of them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from tieline_edge.control.claims import Band, Claim, Interval
from tieline_edge.control.facts import DeviceFacts
from tieline_edge.control.memory import PowerMemory
from tieline_edge.drivers.capabilities import DeviceSpec, Role

#: Margin of state of charge before a direction opens again [%], at most a tenth of the window.
BACK_PCT: Final = 1.0


def looked(spec: DeviceSpec, known: DeviceFacts, memory: PowerMemory) -> PowerMemory:
    """The memory after a look at the state of charge; unchanged while it is not known."""
    soc = known.soc_pct
    if spec.role is not Role.STORAGE or soc is None:
        return memory
    back = min(BACK_PCT, (spec.soc_max_pct - spec.soc_min_pct) / 10.0)
    end = 0
    if soc <= spec.soc_min_pct + (back if memory.at_end < 0 else 0.0):
        end = -1
    elif soc >= spec.soc_max_pct - (back if memory.at_end > 0 else 0.0):
        end = 1
    floor = spec.soc_min_pct + spec.soc_reserve_pct
    low = spec.soc_reserve_pct > 0 and soc <= floor + (back if memory.at_reserve else 0.0)
    return replace(memory, at_end=end, at_reserve=low)


def window(spec: DeviceSpec, known: DeviceFacts, memory: PowerMemory) -> Claim | None:
    """What the state of charge forbids everybody; None while both directions are open."""
    if spec.role is not Role.STORAGE:
        return None
    soc = known.soc_pct
    if soc is None:
        limit, reason = Interval(0.0, 0.0), "state of charge is not known now"
    elif memory.at_end < 0:
        limit, reason = Interval(lo=0.0), f"state of charge {soc:g} % is at its lower end {spec.soc_min_pct:g} %"
    elif memory.at_end > 0:
        limit, reason = Interval(hi=0.0), f"state of charge {soc:g} % is at its upper end {spec.soc_max_pct:g} %"
    else:
        return None
    return Claim(spec.device_id, Band.INTERLOCK, "soc-window", reason, limit=limit)


def reserve(spec: DeviceSpec, memory: PowerMemory, winner: Claim | None) -> str | None:
    """Why a discharge is not for this winner: plans and local schedules leave the reserve alone; None when it is no matter.

    Safety and operators may use it.
    """
    if not memory.at_reserve or (winner is not None and winner.band < Band.PLAN):
        return None
    floor = spec.soc_min_pct + spec.soc_reserve_pct
    return f"the energy below {floor:g} % is kept for safety: no discharge by plan"
