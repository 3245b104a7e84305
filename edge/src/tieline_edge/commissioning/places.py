"""Where a device is, in words; two devices at one place are the same box."""

from __future__ import annotations

import ipaddress
import os.path
import socket
from urllib.parse import urlsplit

from tieline_edge.settings import DeviceSettings

#: Port of an OPC-UA server whose URL names none (OPC 10000-6).
_OPCUA_PORT = 4840
_THIS = frozenset({"localhost", "localhost.localdomain", "ip6-localhost", "127.0.0.1", "::1", "0.0.0.0", "::"})  # noqa: S104 (compared, not bound)


def place(device: DeviceSettings) -> str:
    """Where a device is, for people."""
    if device.modbus is not None:
        return f"{device.modbus.place} unit {device.modbus.unit}"
    if device.opcua is not None:
        return f"{device.opcua.url} {device.opcua.root}"
    return "field broker" if device.mqtt is None else f"field broker, serial {device.mqtt.serial}"


def box(device: DeviceSettings) -> str:
    """Where a device is, in one spelling for all ways of writing it: capitals, a final dot, ``10.1`` for ``10.0.0.1``.

    A second DNS name for one address is not seen: names are not looked up, they may say something else tomorrow.
    """
    if device.modbus is not None:
        bus = device.modbus
        line = os.path.normpath(bus.serial) if bus.serial is not None else f"{_host(bus.host or '')}:{bus.port}"
        return f"{line} unit {bus.unit}"
    if device.opcua is not None:
        url = urlsplit(device.opcua.url.strip())
        return f"{_host(url.hostname or '')}:{url.port or _OPCUA_PORT} {device.opcua.root}"
    return place(device)


def _host(name: str) -> str:
    text = name.strip().strip("[]").rstrip(".").lower()
    try:
        # The forms of inet_aton reach a device just as well: 10.1, 0x0a.0.0.1, 167772161, 010.0.0.1.
        text = socket.inet_ntoa(socket.inet_aton(text))
    except OSError:
        try:
            address = ipaddress.ip_address(text)
        except ValueError:
            return "this computer" if text in _THIS else text
        mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
        text = str(mapped or address)
    return "this computer" if text in _THIS or text.startswith("127.") else text
