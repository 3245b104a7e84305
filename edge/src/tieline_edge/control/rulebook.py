"""The rules of a site, with the policy and the configuration in force: who may be shed, who watches what."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Final

from tieline_core.ids import DeviceId
from tieline_core.messages.policy import Policy
from tieline_edge.drivers.capabilities import DeviceSpec
from tieline_edge.shedding.rule import RuleResult, RuleSite, RuleView
from tieline_edge.shedding.rules import load_rules, with_policy
from tieline_edge.snapshot import Watch

#: Key of the rules' memory among what is stored.
_NAME: Final = "shedding"


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
        self._rules = load_rules(site, rng)
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
        return self._rules.shed

    @property
    def watches(self) -> tuple[Watch, ...]:
        """Levels whose crossing is worth a cycle at once."""
        return tuple(watch for rule in self._rules.rules for watch in rule.watches)

    def hear(self, view: RuleView) -> RuleResult:
        """Let every rule look once."""
        return self._rules.step(view)

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
        rules.load(self._rules.dump())
        self._configured, self._site, self._rules, self.policy = configured, site, rules, policy

    def dump(self) -> dict[str, str]:
        """What the rules remember, as text."""
        return {_NAME: self._rules.dump()}

    def load(self, texts: Mapping[str, str]) -> None:
        """Take up what the previous run remembered.

        Raises:
            ValueError: When a text is no such memory.
        """
        if _NAME in texts:
            self._rules.load(texts[_NAME])
