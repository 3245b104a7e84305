"""What the arbiter may know of the field: usable, young values of one snapshot, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType
from typing import Final

from tieline_core.ids import DeviceId, EdgeId, PointId
from tieline_edge.drivers.capabilities import DeviceSpec, Role
from tieline_edge.snapshot import Snapshot

#: Below this the busbar counts as dead, whatever its nominal voltage: induced and residual voltages stay under it.
DEAD_BUS_V = 50.0
_OF_DEVICE: Final = ("p_w", "soc_pct", "closed")
_OF_BUS: Final = ("breaker_closed", "v_v")


@dataclass(frozen=True, slots=True)
class AgeLimits:
    """How old a device's values may be before they count as absent.

    Attributes:
        default_s: Limit for devices without an entry [s].
        by_device: Longer limits of slowly polled devices [s].
    """

    default_s: float
    by_device: Mapping[DeviceId, float] = field(default_factory=lambda: MappingProxyType({}))

    def of(self, device: DeviceId) -> float:
        """The limit of one device [s]."""
        return self.by_device.get(device, self.default_s)


@dataclass(frozen=True, slots=True)
class DeviceFacts:
    """Usable values of one device; None = absent, too old or bad.

    Attributes:
        p_w: Signed active power [W].
        soc_pct: State of charge [%].
        closed: Contact position.
        ages_s: Age of each of them that was ever measured [s].
    """

    p_w: float | None = None
    soc_pct: float | None = None
    closed: bool | None = None
    ages_s: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True)
class SiteFacts:
    """Usable values of the site.

    Attributes:
        devices: Facts by device.
        bus_live: False when the busbar is dead, None when it is measured but not known now.
        tagged: Devices under a tag "do not operate": nothing is written to them, so no rule can count on them.
    """

    devices: Mapping[DeviceId, DeviceFacts]
    bus_live: bool | None = True
    tagged: frozenset[DeviceId] = frozenset()

    def of(self, device: DeviceId) -> DeviceFacts:
        """Facts of a device; everything absent when there are none."""
        return self.devices.get(device, _NOTHING)


_NOTHING = DeviceFacts()


def gather(
    snapshot: Snapshot,
    edge: EdgeId,
    specs: Mapping[DeviceId, DeviceSpec],
    limits: AgeLimits,
    tagged: frozenset[DeviceId] = frozenset(),
) -> SiteFacts:
    """Take from a snapshot what is usable and young enough."""
    devices = {device: _device(snapshot, edge, device, limits.of(device)) for device in specs}
    transformers = [device for device, spec in specs.items() if spec.role is Role.TRANSFORMER]
    live = [_bus_live(snapshot, edge, device, limits.of(device)) for device in transformers]
    # A site where nothing measures the busbar cannot be asked; its own protection decides there.
    bus = True if not live or any(live) else (None if None in live else False)
    return SiteFacts(MappingProxyType(devices), bus, tagged)


@lru_cache(maxsize=1024)
def _points(edge: EdgeId, device: DeviceId, quantities: tuple[str, ...]) -> tuple[tuple[str, PointId], ...]:
    """What is asked of each device in every cycle; made once, because checking the form of an id costs more than asking."""
    return tuple((quantity, PointId.of(edge, device, quantity)) for quantity in quantities)


def _device(snapshot: Snapshot, edge: EdgeId, device: DeviceId, max_age_s: float) -> DeviceFacts:
    values: dict[str, float | None] = {}
    ages: dict[str, float] = {}
    for quantity, point in _points(edge, device, _OF_DEVICE):
        values[quantity] = snapshot.value(point, max_age_s)
        if point in snapshot.readings:
            ages[quantity] = round(snapshot.age_s(point), 3)
    closed = values["closed"]
    return DeviceFacts(values["p_w"], values["soc_pct"], None if closed is None else closed >= 0.5, MappingProxyType(ages))


def _bus_live(snapshot: Snapshot, edge: EdgeId, device: DeviceId, max_age_s: float) -> bool | None:
    breaker, volts = (snapshot.value(point, max_age_s) for _, point in _points(edge, device, _OF_BUS))
    if breaker is not None and breaker < 0.5:
        return False
    if volts is not None:
        return volts >= DEAD_BUS_V
    return None if breaker is None else True
