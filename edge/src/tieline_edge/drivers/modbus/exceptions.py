"""What a Modbus exception means and what follows from it (Modbus Application Protocol V1.1b3, section 7)."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import Final


@dataclass(frozen=True, slots=True)
class Refusal:
    """One exception code.

    Attributes:
        words: What it says, for people.
        passes: True when trying again can help; False for a mistake in the configuration.
        silence: True when it stands for a unit that did not answer a gateway in time: the bus has paid a time-out.
    """

    words: str
    passes: bool
    silence: bool = False


EXCEPTIONS: Final = MappingProxyType(
    {
        1: Refusal("illegal function: the device does not know this kind of request", passes=False),
        2: Refusal("illegal data address: the device has no such register; the catalogue entry does not fit it", passes=False),
        3: Refusal("illegal data value: the device refuses this value or length", passes=False),
        4: Refusal("server device failure: the device could not carry it out", passes=True),
        5: Refusal("acknowledge: the device accepted and needs more time", passes=True),
        6: Refusal("server device busy: try again later", passes=True),
        8: Refusal("memory parity error in the device", passes=True),
        10: Refusal("gateway path unavailable: the gateway is overloaded or has no such port", passes=True),
        11: Refusal("gateway target failed to respond: the unit behind the gateway is silent", passes=True, silence=True),
    }
)
UNNAMED: Final = Refusal("an exception the standard does not name", passes=True)
