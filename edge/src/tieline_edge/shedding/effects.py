"""The check after shedding: did the kilowatts drop? Pure judgements of what the field shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from tieline_core.messages.telemetry import Severity
from tieline_edge.control.facts import DeviceFacts
from tieline_edge.shedding.rule import Finding, RuleEvent, RuleView
from tieline_edge.shedding.shed_state import ElementMemory, Parameters, Pending, ShedLoad, ShedMemory


def check(parameters: Parameters, memory: ShedMemory, view: RuleView) -> tuple[ShedMemory, tuple[RuleEvent, ...]]:
    """Judge every shed load; one that did not obey is not counted on for a while, so the next load takes its place."""
    events: list[RuleEvent] = []
    failed = {
        device: at
        for device, at in memory.failed.items()
        if (view.now - at).total_seconds() < parameters.switching.failed_s and device in parameters.loads
    }
    shed: list[ShedLoad] = []
    for load in memory.shed:
        obeyed = _obeyed(parameters, load, view)
        if obeyed is False and load.obeyed is not False:
            failed[load.device] = view.now
            events.append(_failure(parameters, load, view.facts.of(load.device)))
        if obeyed is True and load.obeyed is False:
            failed.pop(load.device, None)
            text = f"{load.device} is open after all: its power is gone"
            events.append(RuleEvent(Severity.COMPLIANT, "shed.obeyed_late", text, load.device))
        shed.append(load if obeyed is load.obeyed else replace(load, obeyed=obeyed))
    return replace(memory, shed=tuple(shed), failed=failed), tuple(events)


def give_up(
    parameters: Parameters, memory: ShedMemory, findings: Sequence[Finding], view: RuleView
) -> tuple[ShedMemory, tuple[RuleEvent, ...]]:
    """Ask no longer for a load that did not go off, or did not stay off, and is seen on, once its element does without.

    Others took its place; opened late, when its contactor can be reached again, it would be off for nothing.
    """
    needy = {finding.key for finding in findings if finding.blind or finding.excess_w > 0.0}
    over = {
        one.device
        for one in memory.shed
        if one.obeyed is False and one.cause not in needy and _seen_on(parameters, one, view.facts.of(one.device))
    }
    if not over:
        return memory, ()
    told = tuple(
        RuleEvent(
            Severity.COMPLIANT,
            "shed.given_up",
            f"{device} is on although it was shed, and is not needed any more: it stays on",
            device,
        )
        for device in sorted(over)
    )
    return replace(memory, shed=tuple(one for one in memory.shed if one.device not in over)), told


def _seen_on(parameters: Parameters, load: ShedLoad, facts: DeviceFacts) -> bool:
    if facts.closed is not None:
        return facts.closed
    return facts.p_w is not None and abs(facts.p_w) > (1.0 - parameters.switching.effect_share) * load.p_w


def _obeyed(parameters: Parameters, load: ShedLoad, view: RuleView) -> bool | None:
    facts, window = view.facts.of(load.device), timedelta(seconds=parameters.switching.effect_s)
    power_at, contact_at = _measured_at(facts, "p_w", view.now), _measured_at(facts, "closed", view.now)
    if facts.p_w is not None and power_at > load.at:
        if abs(facts.p_w) <= (1.0 - parameters.switching.effect_share) * load.p_w:
            return True
        # Its own timer, or a hand, may bring it back later: then it fails as well.
        return False if power_at >= load.at + window else load.obeyed
    if facts.p_w is None and facts.closed is not None and contact_at > load.at:
        return not facts.closed if contact_at >= load.at + window or not facts.closed else load.obeyed
    silent_s = (view.now - load.at).total_seconds() - parameters.switching.effect_s
    # A load that had obeyed and is merely not read now is believed to be where it was.
    return False if load.obeyed is None and silent_s > view.ages.of(load.device) else load.obeyed


def _failure(parameters: Parameters, load: ShedLoad, facts: DeviceFacts) -> RuleEvent:
    seen = "nothing is measured of it" if facts.p_w is None else f"it still draws {facts.p_w / 1000:.1f} kW"
    text = (
        f"{load.device} (class {load.priority}) did not go off within {parameters.switching.effect_s:g} s: {seen} "
        f"of {load.p_w / 1000:.1f} kW; the next load takes its place"
    )
    return RuleEvent(Severity.ALARM, "shed.failed", text, load.device, {"p_w": load.p_w, "seen_w": facts.p_w})


def _measured_at(facts: DeviceFacts, quantity: str, now: datetime) -> datetime:
    return now - timedelta(seconds=facts.ages_s.get(quantity, 0.0))


def unseen_w(element: ElementMemory, finding: Finding, effect_s: float, now: datetime) -> float:
    """Relief that was ordered and that the element's measurement does not have to show yet [W].

    While its window runs, the flow is expected to fall to ``expected_w``: what it lies above that is taken for relief on
    its way, never more than was ordered. A measurement that lags by less than the window so causes no second shedding.
    """
    pending = element.pending
    if pending is None or finding.flow_w is None or settled(pending.at, finding, effect_s, now):
        return 0.0
    if finding.share < 1.0:
        # Others act on the same measurement: what shows of it need not be ours.
        return pending.relief_w
    return min(max(_magnitude(finding) - pending.expected_w, 0.0), pending.relief_w)


def settled(since: datetime | None, finding: Finding, effect_s: float, now: datetime) -> bool:
    """True when the element was measured long enough after a switching to show its effect."""
    return since is None or (finding.measured_at or now) >= since + timedelta(seconds=effect_s)


def ordered(memory: ShedMemory, finding: Finding, relief_w: float, effect_s: float, now: datetime) -> ShedMemory:
    """Remember that so much relief is on its way to an element."""
    if finding.flow_w is None or relief_w <= 0.0:
        return memory
    element = memory.of(finding.key)
    before = unseen_w(element, finding, effect_s, now)
    pending = Pending(_magnitude(finding) - before - relief_w, before + relief_w, now)
    return memory.with_element(finding.key, replace(element, pending=pending))


def _magnitude(finding: Finding) -> float:
    """The flow in the direction that is too much."""
    flow = finding.flow_w or 0.0
    return -flow if finding.surplus_w > 0.0 or flow < 0.0 else flow
