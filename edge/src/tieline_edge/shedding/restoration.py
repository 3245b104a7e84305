"""Bringing shed loads back: one at a time, the most important first, never into the next overload. Pure functions."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import timedelta

from tieline_core.messages.telemetry import Severity
from tieline_core.shedding import ThermalOverloadParameters
from tieline_edge.shedding.rule import RuleEvent
from tieline_edge.shedding.selection import Burden
from tieline_edge.shedding.thermal_state import Returning, ShedLoad, ThermalMemory, View

#: A restored load that is not seen closed within this time no longer holds up the others [s].
RETURN_TIMEOUT_S = 60.0


def restore(
    levels: ThermalOverloadParameters, memory: ThermalMemory, view: View, burden: Burden, rng: random.Random
) -> tuple[ThermalMemory, tuple[RuleEvent, ...]]:
    """Let go of at most one load.

    A load returns when the loading, counted with the load at its power when shed times the cold-load factor, has stayed
    below ``restore_pct`` for ``restore_hold_s``, its minimum time open is over, the pause since the previous one is over,
    and the previous one has been seen closed.
    """
    memory, events = _returned(memory, view)
    candidate = _next(levels, memory, burden)
    if candidate is None:
        return replace(memory, below_since=None), events
    if not view.settled(memory.switched_at, levels.settle_s):
        return memory, events
    predicted = burden.after(candidate.p_w * levels.cold_load_factor)
    if predicted >= levels.restore_pct:
        return replace(memory, below_since=None), events
    since = memory.below_since or view.now
    memory = replace(memory, below_since=since)
    waits = (
        (view.now - since).total_seconds() < levels.restore_hold_s,
        (view.now - candidate.at).total_seconds() < candidate.min_off_s,
        memory.next_restore_at is not None and view.now < memory.next_restore_at,
        memory.returning is not None,
    )
    if any(waits):
        return memory, events
    pause_s = levels.restore_step_s + rng.uniform(0.0, levels.restore_spread_s)
    left = tuple(one for one in memory.shed if one.device != candidate.device)
    event = RuleEvent(
        Severity.COMPLIANT,
        "restore.thermal",
        f"{candidate.device} (class {candidate.priority}) returns: {predicted:.0f} % expected with it; {len(left)} still open",
        candidate.device,
        {"p_w": candidate.p_w, "class": candidate.priority, "predicted_pct": round(predicted, 2), "left": len(left)},
    )
    memory = replace(
        memory,
        shed=left,
        switched_at=view.now,
        next_restore_at=view.now + timedelta(seconds=pause_s) if left else None,
        returning=Returning(candidate.device, view.now),
        exhausted=False,
    )
    return memory, (*events, event)


def _next(levels: ThermalOverloadParameters, memory: ThermalMemory, burden: Burden) -> ShedLoad | None:
    """Of the most important class the load that is open longest; another of that class when that one does not fit yet."""
    if not memory.shed:
        return None
    first = min(one.priority for one in memory.shed)
    ranked = sorted((one for one in memory.shed if one.priority == first), key=lambda one: (one.at, -one.p_w, one.device))
    fitting = (one for one in ranked if burden.after(one.p_w * levels.cold_load_factor) < levels.restore_pct)
    return next(fitting, ranked[0])


def _returned(memory: ThermalMemory, view: View) -> tuple[ThermalMemory, tuple[RuleEvent, ...]]:
    back = memory.returning
    if back is None:
        return memory, ()
    facts = view.loads.get(back.device)
    if facts is not None and facts.closed:
        return replace(memory, returning=None), ()
    if (view.now - back.since).total_seconds() < RETURN_TIMEOUT_S:
        return memory, ()
    event = RuleEvent(
        Severity.ALARM,
        "restore.unconfirmed",
        f"{back.device} was let go {RETURN_TIMEOUT_S:g} s ago and is not seen closed; the others go on",
        back.device,
    )
    return replace(memory, returning=None), (event,)
