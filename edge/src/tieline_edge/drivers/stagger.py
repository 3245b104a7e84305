"""When in its period each device is polled: devices of one bus take turns instead of queueing behind each other. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from tieline_core.ids import DeviceId
from tieline_edge.settings import DeviceSettings

#: Fractional part of the golden ratio: multiples of it spread over [0, 1) whatever their number.
_GOLDEN: Final = 0.6180339887498949


def bus_of(device: DeviceSettings) -> str:
    """What devices must share to get in each other's way."""
    if device.modbus is not None:
        return f"modbus {device.modbus.place}"
    if device.opcua is not None:
        return f"opcua {device.opcua.url}"
    return "mqtt"


def poll_offsets(devices: Iterable[DeviceSettings]) -> dict[DeviceId, float]:
    """Share of the poll period, 0 <= share < 1, that each device waits before its first poll.

    Devices of one bus are spread evenly; the buses are shifted against each other, so that many buses of one device each do
    not start together either.
    """
    buses: dict[str, list[DeviceId]] = {}
    for device in devices:
        buses.setdefault(bus_of(device), []).append(device.id)
    offsets = {}
    for number, members in enumerate(buses.values()):
        shift = number * _GOLDEN / len(members)
        for place, device_id in enumerate(members):
            offsets[device_id] = (place / len(members) + shift) % 1.0
    return offsets
