"""What every shedding rule takes and gives.

A rule looks at one element (a transformer, a line, the voltage, the frequency, the exchange, the busbar) and says what it
finds. It opens nothing itself: shedding, storage relief, the check afterwards and restoring are one mechanism
(:mod:`tieline_edge.shedding.mechanism`) for all of them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Any, Protocol

from tieline_core.errors import PermanentError
from tieline_core.ids import DeviceId, EdgeId
from tieline_core.messages.telemetry import Severity
from tieline_core.shedding import VITAL
from tieline_edge.control.claims import Band, Claim
from tieline_edge.control.facts import AgeLimits, SiteFacts
from tieline_edge.drivers.capabilities import Capability, DeviceSpec
from tieline_edge.settings import SheddingSettings
from tieline_edge.snapshot import Snapshot, Watch


@dataclass(frozen=True, slots=True)
class RuleSite:
    """The site as rules are told of it at their start.

    Attributes:
        edge: Whose points they read.
        rated_va: Rating of the feeding transformer [VA].
        specs: The devices.
        settings: Shedding section of the configuration, with a signed policy worked in.
        poll_s: How often each device is read [s].
        shares: This edge's share of the relief of a shared element, as the hub sent it.
        released_at: Stages latched before this instant are released by an operator.
    """

    edge: EdgeId
    rated_va: float
    specs: Mapping[DeviceId, DeviceSpec]
    settings: SheddingSettings
    poll_s: Mapping[DeviceId, float] = field(default_factory=lambda: MappingProxyType({}))
    shares: Mapping[DeviceId, float] = field(default_factory=lambda: MappingProxyType({}))
    released_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class RuleView:
    """The field as a rule sees it in one cycle.

    Attributes:
        now: Present instant.
        snapshot: Last values.
        facts: What of them may be used.
        ages: How old values may be.
    """

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
    """What the rules want and have to say in one cycle."""

    claims: tuple[Claim, ...] = ()
    events: tuple[RuleEvent, ...] = ()


@dataclass(frozen=True, slots=True)
class Standing:
    """What the mechanism has done so far, for rules that count in shares of it.

    Attributes:
        shed_w: Power of each load it keeps open and that obeyed, when it was shed [W].
        enrolled_w: Power of every load that may be shed, with those that are shed at that power [W].
        obeyed_at: When each load was shed whose power is known to be gone.
        switched_at: Last shedding or restoring.
    """

    shed_w: Mapping[DeviceId, float] = field(default_factory=lambda: MappingProxyType({}))
    enrolled_w: float = 0.0
    obeyed_at: Mapping[DeviceId, datetime] = field(default_factory=lambda: MappingProxyType({}))
    switched_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """What a rule finds at its element in one cycle.

    Attributes:
        rule: Name of the rule, the source of claims made for it.
        code: Its word in event codes, such as ``thermal``.
        element: Whom it is about, e.g. ``tr1``.
        text: What is seen, in words: "tr1 at 112 %".
        excess_w: Power drawn too much now, to be taken away [W]; storages help at once.
        due: The hold is over: loads may be shed for the excess.
        surplus_w: Power delivered too much now; storages charge, then plants are limited [W].
        flow_w: Measured power the excess was taken from; relief that it does not show yet is then credited. None: the
            rule counts by itself what is shed already.
        measured_at: When that flow was measured.
        share: This edge's share of the relief, where several edges measure the element; the others' relief shows in it, too.
        room_w: Power that may be added while the element stays below its restore level [W]; infinite = no objection.
        surplus_room_w: Power that may be delivered on top while it stays below that level [W].
        restore_hold_s: How long a load must have fitted before it returns.
        factors: Relief at the element per watt shed, by load; None = one for each, absent = not fed by it.
        storage_share: Power of each storage that is wanted whatever the excess, as a share of its rating: -1 = full
            discharge, 1 = full charge.
        plant_share: Largest output of plants as a share of their rating; 1 = no limit.
        bars_closing: Nothing that is open may close.
        blind: Nothing is known of the element; nothing is shed for it and nothing returns.
        band: In which band its claims speak.
    """

    rule: str
    code: str
    element: str
    text: str
    excess_w: float = 0.0
    due: bool = False
    surplus_w: float = 0.0
    flow_w: float | None = None
    measured_at: datetime | None = None
    share: float = 1.0
    room_w: float = math.inf
    surplus_room_w: float = math.inf
    restore_hold_s: float = 0.0
    factors: Mapping[DeviceId, float] | None = None
    storage_share: float | None = None
    plant_share: float = 1.0
    bars_closing: bool = False
    blind: bool = False
    band: Band = Band.SAFETY

    def factor(self, device: DeviceId) -> float:
        """Relief at the element per watt shed at a load."""
        return 1.0 if self.factors is None else self.factors.get(device, 0.0)

    @property
    def key(self) -> str:
        """Rule and element."""
        return f"{self.rule}/{self.element}"


@dataclass(frozen=True, slots=True)
class Look:
    """What one look gives: the finding, the rule's memory after it, and what there is to tell."""

    finding: Finding
    memory: Any
    events: tuple[RuleEvent, ...] = ()


class Rule(Protocol):
    """One rule at one element: parameters, and a pure step from memory and view to a finding.

    A memory is a frozen dataclass of plain values; it is kept across restarts by whoever calls.
    """

    @property
    def key(self) -> str:
        """Name of the rule and of its element: the key of its memory."""
        ...

    @property
    def fresh(self) -> Any:
        """The memory of a rule that has seen nothing yet; its class says how it is stored."""
        ...

    @property
    def watches(self) -> tuple[Watch, ...]:
        """Levels whose crossing it wants to look at without waiting for the next regular cycle."""
        ...

    def look(self, memory: Any, view: RuleView, standing: Standing) -> Look:
        """Look once."""
        ...


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
