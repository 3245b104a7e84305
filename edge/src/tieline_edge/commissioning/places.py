"""Where a device is, in words; two devices at one place are the same box."""

from __future__ import annotations

from tieline_edge.settings import DeviceSettings


def place(device: DeviceSettings) -> str:
    """Where a device is, for people."""
    if device.modbus is not None:
        return f"{device.modbus.place} unit {device.modbus.unit}"
    if device.opcua is not None:
        return f"{device.opcua.url} {device.opcua.root}"
    return "field broker" if device.mqtt is None else f"field broker, serial {device.mqtt.serial}"
