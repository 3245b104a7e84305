"""What the shedding mechanism is told and remembers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from types import MappingProxyType

from tieline_core.ids import DeviceId
from tieline_core.shedding import StorageParameters, SwitchingParameters


@dataclass(frozen=True, slots=True)
class Sheddable:
    """A load that may be opened.

    Attributes:
        priority: Its class, above 0.
        min_off_s: Its shortest time open [s].
        most_w: A measured power above this is not believed [W].
    """

    priority: int
    min_off_s: float = 0.0
    most_w: float = float("inf")


@dataclass(frozen=True, slots=True)
class Helper:
    """A storage or a plant that can relieve.

    Attributes:
        charge_w: Largest power it can draw, 0 for a plant [W].
        deliver_w: Largest power it can deliver, as a positive number [W].
        soc_min_pct: Lower end of its state-of-charge window [%].
        soc_max_pct: Upper end [%].
        storage: False for a plant.
    """

    charge_w: float
    deliver_w: float
    soc_min_pct: float = 0.0
    soc_max_pct: float = 100.0
    storage: bool = True


@dataclass(frozen=True, slots=True)
class Parameters:
    """What the mechanism is told: times, whom it may open, and who may help first."""

    switching: SwitchingParameters = field(default_factory=SwitchingParameters)
    storage: StorageParameters = field(default_factory=StorageParameters)
    loads: Mapping[DeviceId, Sheddable] = field(default_factory=lambda: MappingProxyType({}))
    helpers: Mapping[DeviceId, Helper] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True)
class ShedLoad:
    """A load kept open.

    Attributes:
        device: Which.
        priority: Its class.
        p_w: Its power when it was shed [W].
        at: When it was shed.
        off_timer_s: Timer written with the opening [s].
        cause: Key of the finding it was shed for.
        rule: Rule whose name its claims carry.
        code: Word of that rule in event codes.
        band: Band of its claims.
        obeyed: True = its power went; False = it did not within the window; None = not known yet.
    """

    device: DeviceId
    priority: int
    p_w: float
    at: datetime
    off_timer_s: float
    cause: str
    rule: str
    code: str
    band: int
    obeyed: bool | None = None


@dataclass(frozen=True, slots=True)
class Returning:
    """A load that was let go and has not been seen closed yet."""

    device: DeviceId
    since: datetime


@dataclass(frozen=True, slots=True)
class Pending:
    """Relief an element's measurement does not have to show yet.

    Attributes:
        expected_w: Flow once all of it shows [W].
        relief_w: How much it is [W].
        at: When the last part of it was ordered.
    """

    expected_w: float
    relief_w: float
    at: datetime


@dataclass(frozen=True, slots=True)
class ElementMemory:
    """What is remembered of one finding's element.

    Attributes:
        pending: Relief on its way.
        discharge_w: What storages deliver for it [W].
        charge_w: What storages draw for it [W].
        plants_w: What all plants together may deliver for it [W]; None = no limit.
        calm_since: Since when some of this help could be taken back.
        strained: It was in excess and has not been calm since: storages may not charge.
        exhausted: Nothing is left to shed, and it was said.
        blind: Nothing is known of it, and it was said.
    """

    pending: Pending | None = None
    discharge_w: float = 0.0
    charge_w: float = 0.0
    plants_w: float | None = None
    calm_since: datetime | None = None
    strained: bool = False
    exhausted: bool = False
    blind: bool = False


@dataclass(frozen=True, slots=True)
class Turn:
    """How much a load has been off: hours, fading with the half-life of the rotation, as of an instant."""

    hours: float
    at: datetime


@dataclass(frozen=True, slots=True)
class ShedMemory:
    """Everything the mechanism remembers.

    Attributes:
        shed: Loads kept open.
        failed: Loads that did not obey, and when that was found: not counted on for a while.
        turns: The rotation: how much each load has been off.
        elements: By key of the finding.
        switched_at: Last shedding or restoring.
        restored_at: Last restoring.
        relapses: Sheddings soon after a restoring; each doubles the restore hold.
        fits_since: Since when the next load would fit.
        next_restore_at: Earliest next restoring.
        peak_w: Largest power that was shed since nothing was [W].
        returning: Loads restored last.
        spoken: Device, rule and band of each limit of the last cycle; the cycle that lifts it says so.
    """

    shed: tuple[ShedLoad, ...] = ()
    failed: Mapping[DeviceId, datetime] = field(default_factory=dict)
    turns: Mapping[DeviceId, Turn] = field(default_factory=dict)
    elements: Mapping[str, ElementMemory] = field(default_factory=dict)
    switched_at: datetime | None = None
    restored_at: datetime | None = None
    relapses: int = 0
    fits_since: datetime | None = None
    next_restore_at: datetime | None = None
    peak_w: float = 0.0
    returning: tuple[Returning, ...] = ()
    spoken: tuple[tuple[DeviceId, str, int], ...] = ()

    def of(self, key: str) -> ElementMemory:
        """Memory of an element; empty when there is none."""
        return self.elements.get(key, _NOTHING)

    def with_element(self, key: str, element: ElementMemory) -> ShedMemory:
        """The same with another memory of one element; an empty one is not kept."""
        others = {name: one for name, one in self.elements.items() if name != key}
        return replace(self, elements=others if element == _NOTHING else {**others, key: element})

    @property
    def shed_w(self) -> float:
        """Power of everything kept open that obeyed or may still [W]."""
        return sum(one.p_w for one in self.shed if one.obeyed is not False)


_NOTHING = ElementMemory()
