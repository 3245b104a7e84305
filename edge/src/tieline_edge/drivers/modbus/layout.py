"""Where the SunSpec models an entry needs start in one device. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tieline_core.ids import DeviceId
from tieline_edge.drivers.capabilities import DevicePermanentError
from tieline_edge.drivers.catalog.entry import CatalogEntry
from tieline_edge.drivers.modbus.registers import Block
from tieline_edge.drivers.modbus.sunspec import Model


@dataclass(frozen=True, slots=True)
class Layout:
    """Address of the ID register of each model; plain registers (group 0) stand where their sheet says."""

    bases: Mapping[int, int] = field(default_factory=dict)

    def address(self, group: int, address: int) -> int:
        """Address on the wire."""
        return self.bases[group] + address if group else address

    def start(self, block: Block) -> int:
        """Address on the wire of a block."""
        return self.address(block.group, block.start)


def needed_models(entry: CatalogEntry) -> dict[int, int]:
    """SunSpec models of an entry -> registers needed of each, its header included."""
    needed: dict[int, int] = {}
    for register in entry.registers:
        if register.model is not None:
            end = max(register.address + register.type.words, (register.scale_factor or 0) + 1)
            needed[register.model] = max(needed.get(register.model, 0), end)
    return needed


def locate(device: DeviceId, entry: CatalogEntry, models: Sequence[Model], instance: int = 1) -> Layout:
    """The layout of a device whose chain has been walked.

    Args:
        device: For messages.
        entry: Its catalogue entry.
        models: The chain.
        instance: Which of several models of one number; a model that is there once serves every instance.

    Raises:
        DevicePermanentError: When a model is missing, not there so often, or shorter than the entry needs.
    """
    bases = {}
    for number, end in needed_models(entry).items():
        found = [model for model in models if model.number == number]
        if not found:
            have = ", ".join(str(model.number) for model in models)
            raise DevicePermanentError(f"{device}: {entry.name} needs SunSpec model {number}; the device has {have}")
        if 1 < len(found) < instance:
            raise DevicePermanentError(f"{device}: SunSpec model {number} is there {len(found)} times, not {instance}")
        chosen = found[instance - 1] if len(found) >= instance else found[0]
        if end > chosen.length + 2:
            raise DevicePermanentError(
                f"{device}: SunSpec model {number} is {chosen.length} registers long, {entry.name} needs {end - 2}"
            )
        bases[number] = chosen.address
    return Layout(bases)
