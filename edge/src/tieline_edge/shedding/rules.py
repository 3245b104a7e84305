"""The table of shedding rules. A new rule is one file, one line here and one test."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

from tieline_core.errors import BadInputError
from tieline_core.messages.policy import Policy
from tieline_core.shedding import VITAL
from tieline_edge.shedding.rule import Rule, RuleSite
from tieline_edge.shedding.thermal_overload import ThermalOverload

#: Builds a rule for a site, or None when the site gives it nothing to watch.
Builder = Callable[[RuleSite, random.Random], Rule | None]


def _thermal_overload(site: RuleSite, rng: random.Random) -> Rule | None:
    transformer = site.settings.transformer
    return None if transformer is None else ThermalOverload(site, transformer, rng)


#: Name (also the key of its stored memory) and how it is built.
RULES: Final[Mapping[str, Builder]] = {
    "thermal-overload": _thermal_overload,
}


def load_rules(site: RuleSite, rng: random.Random) -> dict[str, Rule]:
    """Every rule that has something to watch at this site.

    Raises:
        VitalLoadError: When the set could shed a vital load.
    """
    built = {name: build(site, rng) for name, build in RULES.items()}
    return {name: rule for name, rule in built.items() if rule is not None}


def with_policy(site: RuleSite, policy: Policy) -> RuleSite:
    """The site as a signed policy changes it: other levels, other classes, more vital loads, never fewer.

    Raises:
        BadInputError: When the policy would make a vital load sheddable or names unknown devices.
    """
    source = f"policy {policy.policy_id}"
    unknown = sorted({*policy.classes, *policy.vital} - set(site.specs))
    if unknown:
        raise BadInputError(source, "classes", ", ".join(unknown), "names devices this edge does not have")
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
    settings = site.settings.model_copy(
        update={
            "vital": tuple(sorted(vital)),
            "thermal_overload": policy.thermal_overload or site.settings.thermal_overload,
        }
    )
    return replace(site, specs=specs, settings=settings)
