"""Which driver speaks which protocol. A new protocol is one folder (copy ``_blueprint``) and one line here."""

from __future__ import annotations

import importlib
from types import MappingProxyType
from typing import Final, Protocol, cast

from tieline_core.ids import EdgeId
from tieline_edge.drivers.capabilities import Driver
from tieline_edge.drivers.catalog.entry import CatalogEntry
from tieline_edge.drivers.catalog.load import entry as catalog_entry
from tieline_edge.drivers.context import DriverContext
from tieline_edge.drivers.spec import spec_of
from tieline_edge.settings import DeviceSettings

__all__ = ["DRIVERS", "DriverModule", "driver_module", "open_driver", "spec_of"]

#: Protocol -> module; imported when the first device of the protocol is opened.
DRIVERS: Final = MappingProxyType(
    {
        "modbus": "tieline_edge.drivers.modbus.driver",
        "opcua": "tieline_edge.drivers.opcua.driver",
        "mqtt": "tieline_edge.drivers.mqtt.driver",
    }
)


class DriverModule(Protocol):
    """What a driver module offers."""

    def build(self, settings: DeviceSettings, entry: CatalogEntry, edge: EdgeId, context: DriverContext) -> Driver:
        """A driver that is not connected yet."""
        ...


def driver_module(protocol: str) -> DriverModule:
    """The module of a protocol, imported on demand."""
    return cast("DriverModule", importlib.import_module(DRIVERS[protocol]))


def open_driver(settings: DeviceSettings, edge: EdgeId, context: DriverContext) -> Driver:
    """The driver of a configured device, not connected yet: entering it connects.

    Raises:
        BadInputError: When the catalogue entry does not exist.
        DevicePermanentError: When the endpoint is not of the entry's protocol.
    """
    entry = catalog_entry(settings.catalog)
    return driver_module(entry.protocol).build(settings, entry, edge, context)
