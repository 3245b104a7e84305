"""A device that publishes: its readings arrive through the gateway, a poll only looks whether it is still heard."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

from tieline_core.ids import EdgeId
from tieline_core.quantities import Reading
from tieline_edge.drivers.capabilities import Action, DevicePermanentError, DeviceSpec, ReadBack, Release
from tieline_edge.drivers.catalog.entry import CatalogEntry
from tieline_edge.drivers.context import DriverContext
from tieline_edge.drivers.mqtt.gateway import Meter, MeterGateway
from tieline_edge.drivers.points import PointTable
from tieline_edge.drivers.spec import spec_of
from tieline_edge.settings import DeviceSettings


class MqttDriver:
    """One publishing device.

    Args:
        spec: What the device is.
        gateway: Client of the field broker; it records what arrives.
        meter: This device's entry in the gateway.
    """

    def __init__(self, spec: DeviceSpec, gateway: MeterGateway, meter: Meter) -> None:
        self._spec, self._gateway, self._meter = spec, gateway, meter

    @property
    def spec(self) -> DeviceSpec:
        """What the device is."""
        return self._spec

    async def __aenter__(self) -> Self:
        """Nothing to open: the gateway listens for all its meters from the start."""
        return self

    async def __aexit__(self, *exc: object) -> None:
        return None

    async def read(self) -> Sequence[Reading]:
        """No readings: they were recorded as they arrived. Raises when the device is silent for too long."""
        self._gateway.check_heard(self._meter)
        return ()

    async def apply(self, action: Action) -> ReadBack:
        """Nothing can be asked of a meter."""
        if isinstance(action, Release):
            return ReadBack(confirmed=True, text="nothing to write")
        raise DevicePermanentError(f"{self._spec.device_id} only measures; nothing was written")


def build(settings: DeviceSettings, entry: CatalogEntry, edge: EdgeId, context: DriverContext) -> MqttDriver:
    """A driver; its meter is heard from the moment the gateway runs."""
    if settings.mqtt is None or entry.message is None:
        raise DevicePermanentError(f"{settings.id}: {entry.name} speaks MQTT, mqtt.serial is missing")
    if context.meters is None:
        raise DevicePermanentError(f"{settings.id}: publishes over MQTT, and no field_broker is configured")
    meter = context.meters.register(settings.id, settings.mqtt.serial, entry.message, PointTable(edge, settings, entry))
    return MqttDriver(spec_of(settings), context.meters, meter)
