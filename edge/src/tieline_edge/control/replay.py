"""Asking the arbiter again: everything it was asked about one device in one cycle, as one frozen value."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from pydantic import TypeAdapter

from tieline_core.ids import DeviceId
from tieline_edge.control.arbiter import Decision, decide
from tieline_edge.control.claims import Claim
from tieline_edge.control.facts import SiteFacts
from tieline_edge.control.memory import ArbiterMemory
from tieline_edge.drivers.capabilities import Action, DeviceSpec, HoldPower, LimitGeneration, Release, SwitchContact

_ACTIONS: Final[Mapping[str, type[HoldPower | LimitGeneration | SwitchContact | Release]]] = {
    "hold": HoldPower,
    "limit": LimitGeneration,
    "switch": SwitchContact,
    "release": Release,
}
_NAMES: Final = {kind: name for name, kind in _ACTIONS.items()}


@dataclass(frozen=True, slots=True)
class Asked:
    """What :func:`tieline_edge.control.arbiter.decide` was called with."""

    specs: Mapping[DeviceId, DeviceSpec]
    claims: tuple[Claim, ...]
    memory: ArbiterMemory
    facts: SiteFacts
    at: datetime
    revert_s: float

    def about(self, device: DeviceId) -> Question:
        """The part that concerns one device; the arbiter looks at nothing else for it."""
        memory = replace(
            self.memory,
            power=_only(self.memory.power, device),
            contacts=_only(self.memory.contacts, device),
            limits=_of(self.memory.limits, device),
        )
        facts = replace(self.facts, devices={device: self.facts.of(device)})
        return Question(self.specs[device], _of(self.claims, device), memory, facts, self.at, self.revert_s)


@dataclass(frozen=True, slots=True)
class Question:
    """What the arbiter was asked about one device.

    Attributes:
        spec: The device as it was configured then.
        claims: What everybody wanted of it.
        memory: What the arbiter remembered of it before.
        facts: What the field showed of it.
        at: When.
        revert_s: Reversion time of power commands [s].
    """

    spec: DeviceSpec
    claims: tuple[Claim, ...]
    memory: ArbiterMemory
    facts: SiteFacts
    at: datetime
    revert_s: float

    def answer(self) -> Decision:
        """The arbiter's decision, reached anew."""
        device = self.spec.device_id
        judged = decide({device: self.spec}, self.claims, self.memory, self.facts, self.at, self.revert_s)
        return judged.by_device.get(device, Decision(device, None))


_QUESTION: Final = TypeAdapter(Question)
_SPEC: Final = TypeAdapter(DeviceSpec)


def spec_to_json(spec: DeviceSpec) -> str:
    """A specification as text; equal ones give equal texts."""
    value = _SPEC.dump_python(spec, mode="json", exclude={"capabilities"}, exclude_defaults=True)
    return json.dumps({**value, "capabilities": sorted(one.value for one in spec.capabilities)}, sort_keys=True)


def question_to_json(question: Question) -> dict[str, Any]:
    """Everything but the specification, which is kept once."""
    # Frozen mappings are what pydantic does not know and warns of; they are read again as plain ones.
    return dict(
        _QUESTION.dump_python(question, mode="json", exclude={"spec"}, exclude_defaults=True, fallback=dict, warnings=False)
    )


def question_from_json(value: Mapping[str, Any], spec: str) -> Question:
    """The inverse of :func:`question_to_json`.

    Raises:
        pydantic.ValidationError: When it is not what was written.
    """
    return _QUESTION.validate_json(json.dumps({**value, "spec": json.loads(spec)}))


def action_to_json(action: Action | None) -> dict[str, Any] | None:
    """An action as plain values; None = leave alone."""
    if action is None:
        return None
    fields = {name: getattr(action, name) for name in action.__dataclass_fields__}
    return {"do": _NAMES[type(action)], **fields}


def action_from_json(value: Mapping[str, Any] | None) -> Action | None:
    """The inverse of :func:`action_to_json`.

    Raises:
        KeyError: When the action is unknown.
        TypeError: When its fields are.
    """
    if value is None:
        return None
    fields = {name: one for name, one in value.items() if name != "do"}
    return _ACTIONS[value["do"]](**fields)


def _only(values: Mapping[DeviceId, Any], device: DeviceId) -> dict[DeviceId, Any]:
    return {device: values[device]} if device in values else {}


def _of(claims: Iterable[Claim], device: DeviceId) -> tuple[Claim, ...]:
    return tuple(claim for claim in claims if claim.device == device)
