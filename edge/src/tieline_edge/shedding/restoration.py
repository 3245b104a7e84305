"""Bringing shed loads back: in small steps, the most important first, never into the next violation. Pure functions."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Final

from tieline_core.messages.telemetry import Severity
from tieline_edge.shedding.effects import settled
from tieline_edge.shedding.rotation import burdened
from tieline_edge.shedding.rule import Finding, RuleEvent, RuleView
from tieline_edge.shedding.shed_state import Parameters, Returning, ShedLoad, ShedMemory

#: A restored load that is not seen closed within this time no longer holds up the others [s].
RETURN_TIMEOUT_S: Final = 60.0


def restore(
    parameters: Parameters, memory: ShedMemory, findings: Sequence[Finding], view: RuleView, rng: random.Random
) -> tuple[ShedMemory, tuple[RuleEvent, ...]]:
    """Let go of at most one step of loads.

    A load returns when every element it is fed by has had room for it, at its cold power, for the hold of the rules that
    shed; its minimum time open is over; the pause since the previous step is over; and the loads of the previous step have
    been seen closed.
    """
    memory, events = _returned(memory, view)
    group = _next(parameters, memory, findings, view)
    if not group:
        return replace(memory, fits_since=None, peak_w=memory.peak_w if memory.shed else 0.0), events
    if not all(settled(memory.switched_at, finding, parameters.switching.effect_s, view.now) for finding in findings):
        return memory, events
    since = memory.fits_since or view.now
    memory = replace(memory, fits_since=since)
    waits = (
        (view.now - since).total_seconds() < _hold_s(memory, findings),
        memory.next_restore_at is not None and view.now < memory.next_restore_at,
        bool(memory.returning),
    )
    ripe = tuple(one for one in group if (view.now - one.at).total_seconds() >= _min_off_s(parameters, one))
    if any(waits) or not ripe:
        return memory, events
    return _let_go(parameters, memory, ripe, view, rng, events)


def cold_w(parameters: Parameters, load: ShedLoad, view: RuleView) -> float:
    """Power a load returns with: cold-load pick-up builds up while it is off [W]. One that did not go off brings nothing."""
    if load.obeyed is False:
        return 0.0
    off_s = max(0.0, (view.now - load.at).total_seconds())
    extra = (parameters.switching.cold_load_factor - 1.0) * -math.expm1(-off_s / parameters.switching.cold_load_s)
    return load.p_w * (1.0 + extra)


def _next(parameters: Parameters, memory: ShedMemory, findings: Sequence[Finding], view: RuleView) -> tuple[ShedLoad, ...]:
    """Of the most important class what has been open longest, as much as fits and as one step may be; else another of it.

    A load behind an element of which nothing is known waits, and does not make the rest of the site wait with it.
    """
    blind = [finding for finding in findings if finding.blind]
    able = [
        one
        for one in memory.shed
        if one.device not in view.facts.tagged and not any(finding.factor(one.device) > 0.0 for finding in blind)
    ]
    if not able:
        return ()
    first = min(one.priority for one in able)
    ranked = sorted((one for one in able if one.priority == first), key=lambda one: (one.at, -one.p_w, one.device))
    step_w = parameters.switching.restore_step_share * memory.peak_w
    group: list[ShedLoad] = []
    for one in ranked:
        within = not group or sum(other.p_w for other in group) + one.p_w <= step_w
        if within and _fits(parameters, (*group, one), findings, view):
            group.append(one)
    return tuple(group)


def _fits(parameters: Parameters, group: tuple[ShedLoad, ...], findings: Sequence[Finding], view: RuleView) -> bool:
    for finding in findings:
        room_w = 0.0 if finding.bars_closing else finding.room_w * finding.share
        factors = [finding.factor(one.device) for one in group]
        if not any(factors):
            continue
        wanted_w = sum(cold_w(parameters, one, view) * factor for one, factor in zip(group, factors, strict=True))
        if wanted_w >= room_w:
            return False
    return True


def _hold_s(memory: ShedMemory, findings: Sequence[Finding]) -> float:
    """The longest hold of the rules that shed; doubled for each restoring that went wrong lately [s]."""
    causes = {one.cause for one in memory.shed}
    holds = [finding.restore_hold_s for finding in findings if finding.key in causes]
    return max(holds, default=0.0) * 2.0**memory.relapses


def _min_off_s(parameters: Parameters, load: ShedLoad) -> float:
    own = parameters.loads.get(load.device)
    return max(parameters.switching.min_off_s, 0.0 if own is None else own.min_off_s)


def _let_go(
    parameters: Parameters,
    memory: ShedMemory,
    ripe: tuple[ShedLoad, ...],
    view: RuleView,
    rng: random.Random,
    events: tuple[RuleEvent, ...],
) -> tuple[ShedMemory, tuple[RuleEvent, ...]]:
    times = parameters.switching
    going = {one.device for one in ripe}
    left = tuple(one for one in memory.shed if one.device not in going)
    pause_s = times.restore_step_s + rng.uniform(0.0, times.restore_spread_s)
    turns = memory.turns
    for one in ripe:
        turns = burdened(turns, one.device, (view.now - one.at).total_seconds() / 3600.0, view.now)
    told = tuple(
        RuleEvent(
            Severity.COMPLIANT,
            f"restore.{one.code}",
            f"{one.device} (class {one.priority}) returns after {(view.now - one.at).total_seconds() / 60:.0f} min; "
            f"{cold_w(parameters, one, view) / 1000:.1f} kW expected, {len(left)} still open",
            one.device,
            {"p_w": one.p_w, "class": one.priority, "left": len(left)},
        )
        for one in ripe
    )
    memory = replace(
        memory,
        shed=left,
        turns=turns,
        switched_at=view.now,
        restored_at=view.now,
        next_restore_at=view.now + timedelta(seconds=pause_s) if left else None,
        returning=tuple(Returning(one.device, view.now) for one in ripe),
        peak_w=memory.peak_w if left else 0.0,
    )
    return memory, (*events, *told)


def _returned(memory: ShedMemory, view: RuleView) -> tuple[ShedMemory, tuple[RuleEvent, ...]]:
    waiting: list[Returning] = []
    events: list[RuleEvent] = []
    for back in memory.returning:
        if view.facts.of(back.device).closed:
            continue
        if (view.now - back.since).total_seconds() < RETURN_TIMEOUT_S:
            waiting.append(back)
            continue
        text = f"{back.device} was let go {RETURN_TIMEOUT_S:g} s ago and is not seen closed; the others go on"
        events.append(RuleEvent(Severity.ALARM, "restore.unconfirmed", text, back.device))
    return replace(memory, returning=tuple(waiting)), tuple(events)
