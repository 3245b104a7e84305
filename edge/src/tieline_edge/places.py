"""Which devices of a site file stand in each other's place. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tieline_core.errors import BadInputError
from tieline_edge.drivers.capabilities import Capability
from tieline_edge.drivers.catalog.load import entry as catalog_entry
from tieline_edge.settings import DeviceSettings, ModbusEndpoint

#: (index in ``devices``, key of the endpoint, its place, what is wrong with it).
PlaceMistake = tuple[int, str, str, str]


def place_mistakes(devices: Sequence[DeviceSettings | None]) -> Iterator[PlaceMistake]:
    """Every device whose place is taken, and every bus that is described in two ways.

    A Modbus unit may be several devices, as a hybrid inverter is with its meter and its battery: with different catalogue
    entries, of which at most one takes orders.
    """
    taken: dict[tuple[str, str], list[DeviceSettings]] = {}
    buses: dict[str, DeviceSettings] = {}
    for number, device in enumerate(devices):
        if device is None:
            continue
        kind, text = _place(device)
        others = taken.setdefault((kind, text), [])
        if reason := _clash(device, others):
            yield number, kind, text, reason
        others.append(device)
        if device.modbus is not None:
            first = buses.setdefault(device.modbus.place, device)
            if first.modbus is not None and _line(first.modbus) != _line(device.modbus):
                yield number, kind, device.modbus.place, f"the bus of {first.id} is described in another way there"


def _place(device: DeviceSettings) -> tuple[str, str]:
    if device.modbus is not None:
        return "modbus", f"{device.modbus.place} unit {device.modbus.unit} instance {device.modbus.instance}"
    if device.opcua is not None:
        return "opcua", f"{device.opcua.url} {device.opcua.root}"
    return "mqtt", device.mqtt.serial if device.mqtt else ""


def _clash(device: DeviceSettings, others: Sequence[DeviceSettings]) -> str | None:
    for other in others:
        if device.modbus is None or device.catalog == other.catalog:
            return f"is already the place of {other.id}"
        if takes_orders(device) and takes_orders(other):
            return f"is already the place of {other.id}, and only one of the two may take orders"
    return None


def takes_orders(device: DeviceSettings) -> bool:
    """Something may be written to it."""
    try:
        capabilities = catalog_entry(device.catalog).capabilities
    except BadInputError:
        return False  # told elsewhere, with the nearest name
    return any(capability is not Capability.MEASURE for capability in capabilities)


def _line(endpoint: ModbusEndpoint) -> tuple[object, ...]:
    return (endpoint.framing, endpoint.baud, endpoint.parity, endpoint.stop_bits)
