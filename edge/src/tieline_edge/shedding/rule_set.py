"""All rules of a site with their memories: look, let the mechanism act, keep and take up what was remembered."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from tieline_core.ids import DeviceId
from tieline_edge.shedding.mechanism import standing, step
from tieline_edge.shedding.rule import Rule, RuleResult, RuleView
from tieline_edge.shedding.shed_state import Parameters, ShedMemory


class _Stored(BaseModel):
    """What is kept: the mechanism's memory and each rule's own."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: int = 1
    mechanism: ShedMemory = ShedMemory()
    rules: dict[str, Any] = Field(default_factory=dict)


_STORED: Final = TypeAdapter(_Stored)


class RuleSet:
    """The rules of a site.

    Args:
        rules: In the order in which they are heard.
        parameters: What the mechanism is told.
        rng: Randomness for timers and pauses.
    """

    def __init__(self, rules: tuple[Rule, ...], parameters: Parameters, rng: random.Random) -> None:
        self.rules = rules
        self.parameters = parameters
        self.memory = ShedMemory()
        self._memories: dict[str, Any] = {rule.key: rule.fresh for rule in rules}
        self._kinds: Mapping[str, TypeAdapter[Any]] = {rule.key: TypeAdapter(type(rule.fresh)) for rule in rules}
        self._rng = rng

    @property
    def shed(self) -> tuple[DeviceId, ...]:
        """Loads kept open now."""
        return tuple(sorted(one.device for one in self.memory.shed))

    def step(self, view: RuleView) -> RuleResult:
        """Look once at every element and act on what is found."""
        so_far = standing(self.parameters, self.memory, view)
        looks = {rule.key: rule.look(self._memories[rule.key], view, so_far) for rule in self.rules}
        self._memories = {key: look.memory for key, look in looks.items()}
        outcome = step(self.parameters, self.memory, [look.finding for look in looks.values()], view, self._rng)
        self.memory = outcome.memory
        told = tuple(event for look in looks.values() for event in look.events)
        return RuleResult(outcome.claims, (*told, *outcome.events))

    def dump(self) -> str:
        """Everything remembered, as text for the next start."""
        rules = {key: self._kinds[key].dump_python(memory, mode="json") for key, memory in self._memories.items()}
        return _STORED.dump_json(_Stored(mechanism=self.memory, rules=rules)).decode()

    def load(self, text: str) -> None:
        """Take up the memory of an earlier run; loads that have become vital or unknown since are let go.

        Raises:
            ValueError: When the text is no such memory; nothing of it is taken up then.
        """
        stored = _STORED.validate_json(text)
        memories = {key: self._kinds[key].validate_python(row) for key, row in stored.rules.items() if key in self._kinds}
        shed = tuple(one for one in stored.mechanism.shed if one.device in self.parameters.loads)
        elements = {key: one for key, one in stored.mechanism.elements.items() if key in self._memories}
        self.memory = replace(stored.mechanism, shed=shed, elements=elements)
        self._memories |= memories
