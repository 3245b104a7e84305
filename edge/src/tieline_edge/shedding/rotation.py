"""Whose turn it is: hours each load has been off, fading over weeks, so that the same customers do not bear it all."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Final

from tieline_core.ids import DeviceId
from tieline_edge.shedding.shed_state import Turn

#: After so long half of a burden is forgotten [s]: four weeks.
HALF_LIFE_S: Final = 28 * 86_400.0
#: Every shedding counts like this at least, however short [h]; burdens are compared in steps of it.
STEP_H: Final = 0.25


def faded(turn: Turn | None, now: datetime) -> float:
    """Hours that are left of a burden."""
    if turn is None:
        return 0.0
    return float(turn.hours * 0.5 ** (max(0.0, (now - turn.at).total_seconds()) / HALF_LIFE_S))


def rank(turn: Turn | None, now: datetime) -> int:
    """The burden in equal steps; a lower rank goes first."""
    return round(faded(turn, now) / STEP_H)


def burdened(turns: Mapping[DeviceId, Turn], device: DeviceId, hours: float, now: datetime) -> dict[DeviceId, Turn]:
    """The rotation after a load has been off for so long (or has just been shed); what has faded is dropped."""
    kept = {one: turn for one, turn in turns.items() if faded(turn, now) >= STEP_H / 2}
    return {**kept, device: Turn(round(faded(turns.get(device), now) + hours, 4), now)}
