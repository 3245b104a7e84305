"""What every shedding rule takes and gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Protocol, runtime_checkable

from tieline_core.errors import PermanentError
from tieline_core.ids import DeviceId, EdgeId
from tieline_core.messages.telemetry import Severity
from tieline_core.shedding import VITAL
from tieline_edge.control.claims import Claim
from tieline_edge.control.facts import AgeLimits, SiteFacts
from tieline_edge.drivers.capabilities import Capability, DeviceSpec
from tieline_edge.settings import SheddingSettings
from tieline_edge.snapshot import Snapshot, Watch


@dataclass(frozen=True, slots=True)
class RuleSite:
    """The site as a rule is told of it at its start.

    Attributes:
        edge: Whose points it reads.
        rated_va: Rating of the feeding transformer [VA].
        specs: The devices.
        settings: Shedding section of the configuration, with a signed policy worked in.
    """

    edge: EdgeId
    rated_va: float
    specs: Mapping[DeviceId, DeviceSpec]
    settings: SheddingSettings


@dataclass(frozen=True, slots=True)
class RuleView:
    """The field as a rule sees it in one cycle."""

    now: datetime
    snapshot: Snapshot
    facts: SiteFacts
    ages: AgeLimits


@dataclass(frozen=True, slots=True)
class RuleEvent:
    """Something to tell the operator."""

    severity: Severity
    code: str
    text: str
    device: DeviceId | None = None
    data: Mapping[str, object] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True)
class RuleResult:
    """What a rule wants and has to say in one cycle."""

    claims: tuple[Claim, ...] = ()
    events: tuple[RuleEvent, ...] = ()


def sheddable_loads(site: RuleSite) -> tuple[DeviceId, ...]:
    """Loads a rule may open: switchable, with a class above 0, not on the vital list.

    Raises:
        VitalLoadError: When a load of the vital list carries a class above 0: such a set of rules could shed it.
    """
    switchable = {device: spec for device, spec in site.specs.items() if Capability.SWITCH in spec.capabilities}
    for device in site.settings.vital:
        spec = switchable.get(device)
        if spec is not None and spec.priority_class not in (None, VITAL):
            raise VitalLoadError(device, spec.priority_class)
    return tuple(sorted(device for device, spec in switchable.items() if spec.priority_class not in (None, VITAL)))


class VitalLoadError(PermanentError):
    """A set of rules that could shed a vital load must not be taken up."""

    def __init__(self, device: DeviceId, priority: int | None) -> None:
        self.device = device
        super().__init__(f"{device} is on the vital list and has class {priority}: a vital load needs class {VITAL}")


class Rule(Protocol):
    """A rule with its memory; the step itself is a pure function behind it."""

    @property
    def shed(self) -> tuple[DeviceId, ...]:
        """Loads it keeps open now."""
        ...

    def step(self, view: RuleView) -> RuleResult:
        """Look once."""
        ...

    def dump(self) -> str:
        """Memory as text, for the next start."""
        ...

    def load(self, text: str) -> None:
        """Take up the memory of the previous run.

        Raises:
            ValueError: When the text is not such a memory; the rule then starts fresh.
        """
        ...


@runtime_checkable
class Watchful(Protocol):
    """A rule that names the levels whose crossing it wants to look at without waiting for the next regular cycle."""

    @property
    def watches(self) -> tuple[Watch, ...]:
        """Points and levels."""
        ...
