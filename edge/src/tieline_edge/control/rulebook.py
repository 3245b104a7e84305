"""The rules of a site, with the policy and the configuration in force: who may be shed, who watches what."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass

from tieline_core.ids import DeviceId
from tieline_core.messages.policy import Policy
from tieline_edge.control.claims import Claim
from tieline_edge.drivers.capabilities import DeviceSpec
from tieline_edge.shedding.rule import Rule, RuleEvent, RuleSite, RuleView, Watchful
from tieline_edge.shedding.rules import load_rules, with_policy
from tieline_edge.snapshot import Watch


@dataclass(frozen=True, slots=True)
class Heard:
    """What all rules want and have to say in one cycle."""

    claims: tuple[Claim, ...]
    events: tuple[RuleEvent, ...]


class RuleBook:
    """Rules with their memories, made anew whenever policy or site change.

    Args:
        site: The site as configured, before any policy.
        rng: For the random spread of restorations.

    Raises:
        tieline_edge.shedding.rule.VitalLoadError: When the configured rules could shed a vital load.
    """

    def __init__(self, site: RuleSite, rng: random.Random) -> None:
        self._rng = rng
        self._configured = site
        self._site = site
        self._rules: dict[str, Rule] = load_rules(site, rng)
        self.policy: Policy | None = None

    @property
    def specs(self) -> Mapping[DeviceId, DeviceSpec]:
        """Devices with their classes as a policy has set them."""
        return self._site.specs

    @property
    def transformer(self) -> DeviceId | None:
        """Whose power is the site's."""
        return self._site.settings.transformer

    @property
    def shed(self) -> tuple[DeviceId, ...]:
        """Loads kept open by the rules."""
        return tuple(sorted({device for rule in self._rules.values() for device in rule.shed}))

    @property
    def watches(self) -> tuple[Watch, ...]:
        """Levels whose crossing is worth a cycle at once."""
        return tuple(watch for rule in self._rules.values() if isinstance(rule, Watchful) for watch in rule.watches)

    def hear(self, view: RuleView) -> Heard:
        """Let every rule look once."""
        results = [rule.step(view) for rule in self._rules.values()]
        return Heard(
            tuple(claim for result in results for claim in result.claims),
            tuple(event for result in results for event in result.events),
        )

    def take_policy(self, policy: Policy) -> None:
        """Take a policy; what is shed now stays shed under the new rules unless it has become vital.

        Raises:
            tieline_core.errors.PermanentError: When the policy could shed a vital load; the old rules stay.
        """
        self._renew(self._configured, policy)

    def take_site(self, site: RuleSite) -> None:
        """Take another configuration; the policy in force is worked into it.

        Raises:
            tieline_core.errors.PermanentError: When the rules could shed a vital load; the old rules stay.
        """
        self._renew(site, self.policy)

    def _renew(self, configured: RuleSite, policy: Policy | None) -> None:
        site = configured if policy is None else with_policy(configured, policy)
        rules = load_rules(site, self._rng)
        for name, rule in rules.items():
            if name in self._rules:
                rule.load(self._rules[name].dump())
        self._configured, self._site, self._rules, self.policy = configured, site, rules, policy

    def dump(self) -> dict[str, str]:
        """Memory of every rule as text."""
        return {name: rule.dump() for name, rule in self._rules.items()}

    def load(self, texts: Mapping[str, str]) -> None:
        """Take up the memories of the previous run.

        Raises:
            ValueError: When a text is no such memory.
        """
        for name, rule in self._rules.items():
            if name in texts:
                rule.load(texts[name])
