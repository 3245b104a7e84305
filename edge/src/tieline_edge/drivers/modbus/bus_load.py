"""How much of its time a serial line would talk: a site file that asks for more than there is refuses to load. Pure.

Source: Modbus over Serial Line V1.02, 2.5.1: characters of 10 to 12 bits, frames of 8 bytes for a read and 5 bytes plus the
data for its answer, 3.5 characters of silence after each.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from tieline_edge.drivers.catalog.entry import CatalogEntry
from tieline_edge.drivers.modbus.endpoint import SerialEndpoint, endpoint_of
from tieline_edge.drivers.modbus.registers import coalesce
from tieline_edge.settings import DeviceSettings

#: What a device takes to answer [s]: meters need 5 to 50 ms.
_TURNAROUND_S: Final = 0.01
_REQUEST_BYTES: Final = 8
_ANSWER_BYTES: Final = 5
#: More than this leaves no room for orders, time-outs and read-backs.
MOST: Final = 0.8


def poll_time_s(entry: CatalogEntry, line: SerialEndpoint) -> float:
    """Time one poll of a device occupies the line [s]."""
    bits = 1 + 8 + (line.parity != "N") + line.stop_bits
    total_s = 0.0
    for block in coalesce((point.register_ for point in entry.points if point.register_), entry.max_fill):
        data = -(-block.count // 8) if block.table.is_bits else 2 * block.count
        total_s += (_REQUEST_BYTES + _ANSWER_BYTES + data) * bits / line.baud + 2 * line.gap_s + _TURNAROUND_S
    return total_s


def line_loads(devices: Iterable[tuple[DeviceSettings, CatalogEntry]]) -> dict[str, float]:
    """Serial line -> share of the time it would talk; above :data:`MOST` it cannot keep up."""
    loads: dict[str, float] = {}
    for device, entry in devices:
        if device.modbus is None:
            continue
        line = endpoint_of(device.modbus)
        if isinstance(line, SerialEndpoint):
            loads[line.place] = loads.get(line.place, 0.0) + poll_time_s(entry, line) / device.poll_s
    return loads
