"""Storages and plants help before any customer is shed: discharge into an excess, charge from a surplus, then limit plants.

Help is raised by what is missing and held; it is taken back when the element has been calm for a while and has the room
for it, so measurement delays and small gains cause no hunting. Pure functions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from tieline_core.ids import DeviceId
from tieline_edge.shedding.effects import ordered, settled, unseen_w
from tieline_edge.shedding.rule import Finding, RuleView
from tieline_edge.shedding.shed_state import ElementMemory, Helper, Parameters, ShedMemory

#: A relief is aimed this far below the border, because the border itself is not below it [W].
BEYOND_W: Final = 1.0
#: What sums of floats leave over is no need: no customer goes for it, and it is far less than the watt beyond the border [W].
_ROUNDING_W: Final = 1e-3
#: Help of which less than this share is measured is not given.
_GIVEN_SHARE: Final = 0.5
#: While relief is on its way, so much more of the flow is what a meter of class 0.5 may be off (IEC 62053-22).
_NOISE_SHARE: Final = 0.005


def relieve(
    parameters: Parameters, memory: ShedMemory, finding: Finding, view: RuleView, fresh_w: float
) -> tuple[ShedMemory, float]:
    """Let storages and plants do their part.

    Args:
        parameters: What the mechanism was told.
        memory: What it remembers.
        finding: What a rule has found.
        view: The field.
        fresh_w: Relief that loads shed for other findings in this very cycle bring to it [W].

    Returns:
        The memory and what is left for customers [W]; 0 when nothing is.
    """
    if finding.flow_w is None:
        need_w = finding.excess_w * finding.share - fresh_w
        return _strained(memory, finding), _left(need_w)
    effect_s = parameters.switching.effect_s
    missing_w = unseen_w(memory.of(finding.key), finding, effect_s, view.now)
    if finding.surplus_w > 0.0:
        return _absorb(parameters, memory, finding, view, finding.surplus_w * finding.share + BEYOND_W - missing_w), 0.0
    memory = _strained(memory, finding)
    if finding.excess_w <= 0.0:
        return _calm(parameters, memory, finding, view), 0.0
    need_w = finding.excess_w * finding.share + BEYOND_W - missing_w
    if _left(need_w) <= 0.0 or (missing_w > 0.0 and need_w <= _NOISE_SHARE * abs(finding.flow_w)):
        # Nobody is switched off for the meter's noise: if it is more than that, it is still there when the relief has shown.
        return memory, 0.0
    element, able = memory.of(finding.key), _able(parameters, finding, view, delivering=True)
    most_w = sum(one.deliver_w for one in able.values()) if parameters.storage.relieve else 0.0
    now_w = -_measured_w(able, view)
    base_w = max(now_w, element.discharge_w) if element.discharge_w > 0.0 else now_w
    # Held help counts as given only while it can be given: an empty battery leaves the rest to others.
    goal_w = max(0.0, min(most_w, base_w + need_w))
    raised_w = max(0.0, goal_w - base_w)
    element = replace(element, discharge_w=min(most_w, max(element.discharge_w, goal_w)), calm_since=None)
    memory = ordered(memory.with_element(finding.key, element), finding, raised_w, effect_s, view.now)
    return memory, _left(need_w - raised_w)


def _left(need_w: float) -> float:
    return need_w if need_w > _ROUNDING_W else 0.0


def _strained(memory: ShedMemory, finding: Finding) -> ShedMemory:
    element = memory.of(finding.key)
    over = finding.excess_w > 0.0
    # Charging comes back when the element is below its restore level and every customer is on again.
    calm = finding.room_w > 0.0 and not memory.shed
    return memory.with_element(finding.key, replace(element, strained=over or (element.strained and not calm)))


def _absorb(parameters: Parameters, memory: ShedMemory, finding: Finding, view: RuleView, need_w: float) -> ShedMemory:
    if need_w <= 0.0:
        return memory
    element, able = memory.of(finding.key), _able(parameters, finding, view, delivering=False)
    most_w = sum(one.charge_w for one in able.values()) if parameters.storage.relieve else 0.0
    now_w = _measured_w(able, view)
    base_w = max(now_w, element.charge_w) if element.charge_w > 0.0 else now_w
    goal_w = max(0.0, min(most_w, base_w + need_w))
    raised_w = max(0.0, goal_w - base_w)
    left_w = max(0.0, need_w - raised_w)
    output_w = sum(_output_w(device, plant, view) for device, plant in _plants(parameters, finding).items())
    limit_w = output_w if element.plants_w is None else min(element.plants_w, output_w)
    cut_w = min(left_w, max(0.0, limit_w))
    element = replace(
        element,
        charge_w=min(most_w, max(element.charge_w, goal_w)),
        plants_w=limit_w - cut_w if cut_w > 0.0 else element.plants_w,
        calm_since=None,
    )
    memory = memory.with_element(finding.key, element)
    return ordered(memory, finding, raised_w + cut_w, parameters.switching.effect_s, view.now)


def _calm(parameters: Parameters, memory: ShedMemory, finding: Finding, view: RuleView) -> ShedMemory:
    """Take help back step by step: first the limit of plants, then charging, then discharging once no customer is off."""
    element = memory.of(finding.key)
    effect_s = parameters.switching.effect_s
    if element.pending is not None and settled(element.pending.at, finding, effect_s, view.now):
        element = replace(element, pending=None)
    element = _given(parameters, element, finding, view)
    helping = element.plants_w is not None or element.charge_w > 0.0 or element.discharge_w > 0.0
    back_w = finding.room_w if element.discharge_w > 0.0 else finding.surplus_room_w
    held_up = element.discharge_w > 0.0 and bool(memory.shed)
    if not helping or back_w <= 0.0 or held_up or element.pending is not None:
        return memory.with_element(finding.key, replace(element, calm_since=None))
    since = element.calm_since or view.now
    if (view.now - since).total_seconds() < parameters.storage.hold_s:
        return memory.with_element(finding.key, replace(element, calm_since=since))
    back_w *= finding.share
    if element.plants_w is not None:
        rated_w = sum(one.deliver_w for one in _plants(parameters, finding).values())
        raised_w = element.plants_w + back_w
        element = replace(element, plants_w=None if raised_w >= rated_w else raised_w)
    elif element.charge_w > 0.0:
        element = replace(element, charge_w=max(0.0, element.charge_w - back_w))
    else:
        element = replace(element, discharge_w=max(0.0, element.discharge_w - back_w))
    return memory.with_element(finding.key, replace(element, calm_since=view.now))


def _given(parameters: Parameters, element: ElementMemory, finding: Finding, view: RuleView) -> ElementMemory:
    """What storages are seen not to give, while the element does without it, is asked for no longer.

    They were away or started anew; to begin again with all of it would be a jump from rest that nobody needs.
    """
    fed = (device for device, helper in parameters.helpers.items() if helper.storage and finding.factor(device) > 0.0)
    seen = [view.facts.of(device).p_w for device in fed]
    powers = [power for power in seen if power is not None]
    if element.pending is not None or len(powers) < len(seen):
        return element
    delivered_w, charged_w = sum(max(0.0, -power) for power in powers), sum(max(0.0, power) for power in powers)
    return replace(
        element,
        discharge_w=element.discharge_w if delivered_w >= _GIVEN_SHARE * element.discharge_w else delivered_w,
        charge_w=element.charge_w if charged_w >= _GIVEN_SHARE * element.charge_w else charged_w,
    )


def able_storages(parameters: Parameters, view: RuleView, *, delivering: bool) -> dict[DeviceId, Helper]:
    """Storages that can deliver (or charge) now: answered, not under a tag, with energy (or room) left."""
    able: dict[DeviceId, Helper] = {}
    for device, helper in parameters.helpers.items():
        facts = view.facts.of(device)
        if not helper.storage or device in view.facts.tagged or facts.soc_pct is None or facts.p_w is None:
            continue
        if facts.soc_pct > helper.soc_min_pct if delivering else facts.soc_pct < helper.soc_max_pct:
            able[device] = helper
    return able


def _able(parameters: Parameters, finding: Finding, view: RuleView, *, delivering: bool) -> dict[DeviceId, Helper]:
    able = able_storages(parameters, view, delivering=delivering)
    return {device: helper for device, helper in able.items() if finding.factor(device) > 0.0}


def _plants(parameters: Parameters, finding: Finding) -> dict[DeviceId, Helper]:
    return {
        device: helper for device, helper in parameters.helpers.items() if not helper.storage and finding.factor(device) > 0.0
    }


def _output_w(device: DeviceId, plant: Helper, view: RuleView) -> float:
    """What a plant delivers; one that is not measured counts with its rating [W]."""
    power = view.facts.of(device).p_w
    return plant.deliver_w if power is None else max(0.0, -power)


def _measured_w(helpers: Mapping[DeviceId, Helper], view: RuleView) -> float:
    return sum(view.facts.of(device).p_w or 0.0 for device in helpers)
