"""What a look at an endpoint brought to light."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Finding:
    """One endpoint that answered.

    Attributes:
        place: Where, as the ``modbus`` or ``opcua`` block of a device.
        text: What it is, for people.
        entries: Catalogue entries that fit, best first.
        details: Further lines for the comment.
        ratings: Keys of a device block that the device itself tells, e.g. ``p_max_w``.
        certain: The device says itself that the entry fits; False = it only looks so.
    """

    place: Mapping[str, object]
    text: str
    entries: tuple[str, ...] = ()
    details: tuple[str, ...] = field(default=())
    ratings: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    certain: bool = True

    @property
    def protocol(self) -> str:
        """Name of the endpoint's block."""
        return "opcua" if "url" in self.place else "modbus"
