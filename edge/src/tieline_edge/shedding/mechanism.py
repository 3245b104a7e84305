"""The one mechanism behind all rules: storages first, then loads by class and turn, then a check, then the way back.

Rules say what they find (:class:`tieline_edge.shedding.rule.Finding`); this decides who is opened for it. :func:`step` is
pure. What it promises, as tests over generated sites and histories: no load of a class goes while higher class numbers
suffice; at most one block too much; vital, tagged and failed loads never; a bounded number of switchings an hour.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from tieline_core.ids import DeviceId
from tieline_core.messages.telemetry import Severity
from tieline_edge.control.claims import Claim
from tieline_edge.shedding import effects
from tieline_edge.shedding.relief import relieve
from tieline_edge.shedding.restoration import restore
from tieline_edge.shedding.rotation import STEP_H, burdened, rank
from tieline_edge.shedding.rule import Finding, RuleEvent, RuleView, Standing
from tieline_edge.shedding.selection import Candidate, choose
from tieline_edge.shedding.shed_claims import claims
from tieline_edge.shedding.shed_state import ElementMemory, Parameters, ShedLoad, ShedMemory

#: Off-timer written into a load that recloses by itself [s]: an edge that died must not reclose a feeder bluntly. With
#: its random addition it stays within the two hours that contactor relays with a timer take at most.
OFF_TIMER_S: Final = 5_400.0
#: Random addition to it, so that orphaned loads do not all come back in one second [s].
OFF_TIMER_SPREAD_S: Final = 1_800.0
#: A calm hour forgets that a restoring went wrong [s].
_FORGIVEN_S: Final = 3_600.0
_MOST_RELAPSES: Final = 3


@dataclass(frozen=True, slots=True)
class Outcome:
    """Claims, the new memory and what there is to tell."""

    claims: tuple[Claim, ...]
    memory: ShedMemory
    events: tuple[RuleEvent, ...]


def step(
    parameters: Parameters, memory: ShedMemory, findings: Sequence[Finding], view: RuleView, rng: random.Random
) -> Outcome:
    """One cycle.

    Args:
        parameters: What the mechanism was told.
        memory: What the previous step returned.
        findings: What every rule finds now.
        view: The field.
        rng: Randomness for timers and pauses.
    """
    memory, told = effects.check(parameters, memory, view)
    events = list(told)
    before = len(memory.shed)
    fresh: list[ShedLoad] = []
    for finding in findings:
        memory, told = _sight(memory, finding)
        events.extend(told)
        if finding.blind:
            continue
        memory, need_w = relieve(parameters, memory, finding, view, sum(one.p_w * finding.factor(one.device) for one in fresh))
        if finding.due and need_w > 0.0:
            memory, told, new = _shed(parameters, memory, finding, need_w, view, rng)
            memory = _credited(parameters, memory, findings, new, view)
            fresh.extend(new)
            events.extend(told)
        elif finding.surplus_w > 0.0 and finding.due and not _absorbing(memory.of(finding.key)):
            memory, told = _exhausted(memory, finding)
            events.extend(told)
        elif finding.excess_w <= 0.0 and finding.surplus_w <= 0.0 and memory.of(finding.key).exhausted:
            memory = memory.with_element(finding.key, replace(memory.of(finding.key), exhausted=False))
    memory, told = effects.give_up(parameters, memory, findings, view)
    events.extend(told)
    if len(memory.shed) == before and all(finding.excess_w <= 0.0 for finding in findings):
        memory, told = restore(parameters, memory, findings, view, rng)
        events.extend(told)
    else:
        memory = replace(memory, fits_since=None)
    spoken = claims(parameters, memory, findings, view)
    memory = replace(memory, spoken=spoken.limits)
    return Outcome(spoken.claims, memory, tuple(events))


def standing(parameters: Parameters, memory: ShedMemory, view: RuleView) -> Standing:
    """What rules may know of the mechanism."""
    shed = {one.device: one.p_w for one in memory.shed if one.obeyed is not False}
    held = {one.device for one in memory.shed}
    enrolled = sum(shed.values())
    for device in parameters.loads:
        power = believed_w(parameters, device, view)
        enrolled += power if device not in held and device not in memory.failed and power is not None else 0.0
    obeyed = {one.device: one.at for one in memory.shed if one.obeyed}
    return Standing(shed, enrolled, obeyed, memory.switched_at)


def believed_w(parameters: Parameters, device: DeviceId, view: RuleView) -> float | None:
    """Power of a load that may be shed, above 0; None when it is absent, absurd, open or under a tag [W]."""
    facts = view.facts.of(device)
    if device in view.facts.tagged or facts.closed is False or facts.p_w is None:
        return None
    plausible = math.isfinite(facts.p_w) and 0.0 < facts.p_w <= parameters.loads[device].most_w
    return facts.p_w if plausible else None


def _sight(memory: ShedMemory, finding: Finding) -> tuple[ShedMemory, tuple[RuleEvent, ...]]:
    element = memory.of(finding.key)
    if element.blind == finding.blind:
        return memory, ()
    memory = memory.with_element(finding.key, replace(element, blind=finding.blind))
    if finding.blind:
        event = RuleEvent(Severity.ALARM, f"shed.{finding.code}.blind", f"{finding.text}: nothing is shed on it")
    else:
        event = RuleEvent(Severity.COMPLIANT, f"shed.{finding.code}.sighted", f"known again: {finding.text}")
    return memory, (event,)


def _shed(
    parameters: Parameters, memory: ShedMemory, finding: Finding, need_w: float, view: RuleView, rng: random.Random
) -> tuple[ShedMemory, tuple[RuleEvent, ...], tuple[ShedLoad, ...]]:
    held = {one.device for one in memory.shed}
    candidates: dict[DeviceId, Candidate] = {}
    powers: dict[DeviceId, float] = {}
    for device, load in parameters.loads.items():
        power = believed_w(parameters, device, view)
        if power is None or device in held or device in memory.failed or finding.factor(device) <= 0.0:
            continue
        powers[device] = power
        turn = rank(memory.turns.get(device), view.now)
        candidates[device] = Candidate(load.priority, power * finding.factor(device), turn)
    chosen = choose(candidates, need_w)
    if not chosen:
        memory, told = _exhausted(memory, finding)
        return memory, told, ()
    new = tuple(
        ShedLoad(
            device,
            candidates[device].priority,
            powers[device],
            view.now,
            OFF_TIMER_S + rng.uniform(0.0, OFF_TIMER_SPREAD_S),
            finding.key,
            finding.rule,
            finding.code,
            int(finding.band),
        )
        for device in chosen
    )
    memory = _remember(parameters, memory, new, view)
    return memory, (_shed_event(finding, new, need_w, view),), new


def _shed_event(finding: Finding, new: tuple[ShedLoad, ...], need_w: float, view: RuleView) -> RuleEvent:
    total_w = sum(one.p_w for one in new)
    named = ", ".join(f"{one.device} (class {one.priority})" for one in new[:12])
    return RuleEvent(
        Severity.ALARM,
        f"shed.{finding.code}",
        f"{finding.text}: {total_w / 1000:.1f} kW shed for {need_w / 1000:.1f} kW wanted: {named}",
        data={
            "element": finding.element,
            "need_w": round(need_w, 1),
            "shed_w": {one.device: one.p_w for one in new},
            "at": view.now.isoformat(),
        },
    )


def _remember(parameters: Parameters, memory: ShedMemory, new: tuple[ShedLoad, ...], view: RuleView) -> ShedMemory:
    turns = memory.turns
    for one in new:
        turns = burdened(turns, one.device, STEP_H, view.now)
    since_s = math.inf if memory.restored_at is None else (view.now - memory.restored_at).total_seconds()
    relapses = 0 if since_s > max(_FORGIVEN_S, parameters.switching.relapse_s) else memory.relapses
    if since_s < parameters.switching.relapse_s and memory.switched_at == memory.restored_at:
        relapses = min(relapses + 1, _MOST_RELAPSES)
    memory = replace(
        memory,
        shed=(*memory.shed, *new),
        turns=turns,
        switched_at=view.now,
        fits_since=None,
        next_restore_at=None,
        relapses=relapses,
    )
    return replace(memory, peak_w=max(memory.peak_w, memory.shed_w))


def _credited(
    parameters: Parameters, memory: ShedMemory, findings: Iterable[Finding], new: tuple[ShedLoad, ...], view: RuleView
) -> ShedMemory:
    """Every element that will see the relief is told of it, not only the one it was ordered for."""
    for finding in findings:
        if finding.excess_w > 0.0 or finding.surplus_w <= 0.0:
            relief_w = sum(one.p_w * finding.factor(one.device) for one in new)
            memory = effects.ordered(memory, finding, relief_w, parameters.switching.effect_s, view.now)
    return memory


def _absorbing(element: ElementMemory) -> bool:
    """True when storages or plants do something against a surplus."""
    return element.charge_w > 0.0 or element.plants_w is not None


def _exhausted(memory: ShedMemory, finding: Finding) -> tuple[ShedMemory, tuple[RuleEvent, ...]]:
    element = memory.of(finding.key)
    if element.exhausted:
        return memory, ()
    why = "no measured load is left that may be shed"
    if finding.surplus_w > 0.0:
        why = "it exports, shedding would make it worse, and no storage or plant can take it back"
    text = f"{finding.text}: {why}"
    event = RuleEvent(Severity.ALARM, f"shed.{finding.code}.exhausted", text)
    return memory.with_element(finding.key, replace(element, exhausted=True)), (event,)
