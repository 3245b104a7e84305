"""The table of shedding rules, and how a site and a signed policy fill it.

A new rule is one file with a ``build`` function, one line in :data:`RULES` and one test.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Final

from tieline_core.errors import BadInputError
from tieline_core.ids import DeviceId
from tieline_core.messages.policy import Policy
from tieline_core.shedding import VITAL
from tieline_edge.drivers.capabilities import Capability, DeviceSpec, Role
from tieline_edge.shedding import exchange, frequency, hot_spot, line_overload, loss_of_mains, thermal_overload, voltage
from tieline_edge.shedding.checks import hold_mistakes
from tieline_edge.shedding.rule import Rule, RuleSite, sheddable_loads
from tieline_edge.shedding.rule_set import RuleSet
from tieline_edge.shedding.shed_state import Helper, Parameters, Sheddable

#: What a site gives it to watch: one rule for each element, none where nothing is named.
Builder = Callable[[RuleSite], tuple[Rule, ...]]

#: Every rule by name, in the order in which they are heard.
RULES: Final[Mapping[str, Builder]] = {
    thermal_overload.NAME: thermal_overload.build,
    hot_spot.NAME: hot_spot.build,
    line_overload.NAME: line_overload.build,
    voltage.NAME: voltage.build,
    frequency.NAME: frequency.build,
    exchange.NAME: exchange.build,
    loss_of_mains.NAME: loss_of_mains.build,
}

#: A load is not believed to draw more than this multiple of its declared power, or of the site's rating.
_POSSIBLE: Final = 1.5


def load_rules(site: RuleSite, rng: random.Random) -> RuleSet:
    """Every rule that has something to watch at this site, on the one mechanism.

    Raises:
        VitalLoadError: When the set could shed a vital load.
        BadInputError: When a rule cannot work with its input.
    """
    for key, value, reason in hold_mistakes(site.settings, site.poll_s):
        raise BadInputError("shedding rules", key, value, reason)
    loads = {device: _sheddable(site, device) for device in sheddable_loads(site)}
    helpers = {device: helper for device, spec in site.specs.items() if (helper := _helper(spec)) is not None}
    parameters = Parameters(site.settings.switching, site.settings.storage, MappingProxyType(loads), MappingProxyType(helpers))
    return RuleSet(tuple(rule for build in RULES.values() for rule in build(site)), parameters, rng)


def _sheddable(site: RuleSite, device: DeviceId) -> Sheddable:
    spec = site.specs[device]
    most_w = _POSSIBLE * (spec.p_max_w if spec.p_max_w > 0.0 else site.rated_va)
    return Sheddable(spec.priority_class or VITAL, spec.min_off_s, most_w)


def _helper(spec: DeviceSpec) -> Helper | None:
    if spec.role is Role.STORAGE and Capability.HOLD_POWER in spec.capabilities:
        return Helper(max(spec.p_max_w, 0.0), max(-spec.p_min_w, 0.0), spec.soc_min_pct, spec.soc_max_pct)
    if Capability.LIMIT_GENERATION in spec.capabilities:
        return Helper(0.0, max(-spec.p_min_w, 0.0), storage=False)
    return None


#: Sections of a policy that replace the section of the same name in the configuration.
_SECTIONS: Final = (
    "thermal_overload",
    "hot_spot",
    "line_overload",
    "voltage",
    "frequency",
    "exchange",
    "loss_of_mains",
    "switching",
    "storage",
)


def with_policy(site: RuleSite, policy: Policy) -> RuleSite:
    """The site as a signed policy changes it: other levels, other classes, more vital loads, never fewer.

    Raises:
        BadInputError: When the policy would make a vital load sheddable or names unknown devices.
    """
    source = f"policy {policy.policy_id}"
    for key, named in (("classes", policy.classes), ("vital", policy.vital)):
        if unknown := sorted(set(named) - set(site.specs)):
            raise BadInputError(source, key, ", ".join(unknown), "names devices this edge does not have")
    vital = {*site.settings.vital, *policy.vital}
    vital |= {device for device, spec in site.specs.items() if spec.priority_class == VITAL}
    freed = sorted(device for device, priority in policy.classes.items() if device in vital and priority != VITAL)
    if freed:
        raise BadInputError(source, f"classes.{freed[0]}", policy.classes[freed[0]], "a vital load is never made sheddable")
    specs = {
        device: replace(spec, priority_class=VITAL if device in vital else policy.classes.get(device, spec.priority_class))
        if spec.priority_class is not None
        else spec
        for device, spec in site.specs.items()
    }
    sections = {name: section for name in _SECTIONS if (section := getattr(policy, name)) is not None}
    settings = site.settings.model_copy(update={"vital": tuple(sorted(vital)), **sections})
    return replace(site, specs=specs, settings=settings, shares=policy.shares, released_at=policy.released_at)
