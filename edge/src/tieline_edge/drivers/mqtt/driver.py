"""A device that publishes: its readings arrive through the gateway, a poll only looks whether it is still heard.

Two kinds: meters, whose readings are receipted, and devices that just report and may take orders.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Self

from tieline_core.clock import Clock
from tieline_core.ids import EdgeId
from tieline_core.quantities import Reading
from tieline_edge.drivers.capabilities import (
    Action,
    DeviceOfflineError,
    DevicePermanentError,
    DeviceSpec,
    DeviceTransientError,
    ReadBack,
    Release,
)
from tieline_edge.drivers.catalog.entry import CatalogEntry
from tieline_edge.drivers.context import DriverContext
from tieline_edge.drivers.mqtt.gateway import MeterGateway
from tieline_edge.drivers.mqtt.orders import PlannedMessage, message_of, plan_messages
from tieline_edge.drivers.mqtt.parties import Meter
from tieline_edge.drivers.mqtt.reports import ReportingDevice
from tieline_edge.drivers.points import PointTable
from tieline_edge.drivers.spec import nominal_of, spec_of
from tieline_edge.settings import DeviceSettings


class MqttDriver:
    """One publishing device.

    Args:
        spec: What the device is.
        gateway: Client of the field broker; it records what arrives.
        meter: This device as the gateway knows it.
    """

    def __init__(self, spec: DeviceSpec, gateway: MeterGateway, meter: Meter) -> None:
        self._spec, self._gateway, self._meter = spec, gateway, meter

    @property
    def spec(self) -> DeviceSpec:
        """What the device is."""
        return self._spec

    @property
    def party(self) -> Meter:
        """The device as the gateway knows it."""
        return self._meter

    async def __aenter__(self) -> Self:
        """Nothing to open: the gateway listens all the time."""
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


class ReportingDriver:
    """One device that reports without receipts, and takes orders where its catalogue entry has some.

    Args:
        spec: What the device is.
        entry: Its catalogue entry.
        gateway: Client of the field broker.
        device: This device as the gateway knows it.
        clock: Says when to ask again.
    """

    def __init__(
        self, spec: DeviceSpec, entry: CatalogEntry, gateway: MeterGateway, device: ReportingDevice, clock: Clock
    ) -> None:
        self._spec, self._entry, self._gateway, self._device, self._clock = spec, entry, gateway, device, clock
        self._ask_at: datetime | None = None

    @property
    def spec(self) -> DeviceSpec:
        """What the device is."""
        return self._spec

    @property
    def party(self) -> ReportingDevice:
        """The device as the gateway knows it."""
        return self._device

    async def __aenter__(self) -> Self:
        """Nothing to open: the gateway listens all the time."""
        self._ask_at = None
        return self

    async def __aexit__(self, *exc: object) -> None:
        return None

    async def read(self) -> Sequence[Reading]:
        """What has arrived since the last poll. Raises when the device is offline or silent for too long."""
        self._ask()
        self._gateway.check_reporting(self._device)
        return self._device.collect()

    def _ask(self) -> None:
        """Make the device report, where it can be asked, once a period of its reports."""
        now = self._clock.now()
        if not self._device.form.ask or not self._gateway.connected or (self._ask_at is not None and now < self._ask_at):
            return
        self._ask_at = now + timedelta(seconds=self._device.report_s)
        for question in self._device.form.ask:
            self._gateway.publish(*message_of(question, self._device.serial, {}))

    async def apply(self, action: Action) -> ReadBack:
        """Publish, and wait until the device itself says that it has done it."""
        planned = plan_messages(action, self._spec, self._entry, self._device.serial)
        if not planned:
            return ReadBack(confirmed=True, text="nothing to write")
        try:
            self._gateway.check_reporting(self._device, heard=True)
        except DeviceTransientError as error:
            raise DeviceOfflineError(f"{error}; nothing was written") from error
        confirmed, texts = True, []
        for message in planned:
            done, text = await self._send(message)
            confirmed = confirmed and done
            texts.append(text)
        return ReadBack(confirmed, "; ".join(texts))

    async def _send(self, message: PlannedMessage) -> tuple[bool, str]:
        if message.confirm is None:
            self._publish(message)
            return True, message.label
        with self._device.expecting(message.confirm, message.wanted) as expectation:
            self._publish(message)
            try:
                async with asyncio.timeout(message.confirm.within_s):
                    await expectation.came.wait()
            except TimeoutError:
                within = f"within {message.confirm.within_s:g} s"
                return False, f"{message.label}: {expectation.topic} says {expectation.said} {within}"
            return True, message.label

    def _publish(self, message: PlannedMessage) -> None:
        if not self._gateway.publish(message.topic, message.payload):
            raise DeviceOfflineError(f"{self._device.serial}: the field broker is not reached; {message.topic} was not sent")


def build(settings: DeviceSettings, entry: CatalogEntry, edge: EdgeId, context: DriverContext) -> MqttDriver | ReportingDriver:
    """A driver; its device is heard once it has joined the gateway."""
    if settings.mqtt is None:
        raise DevicePermanentError(f"{settings.id}: {entry.name} speaks MQTT, mqtt.serial is missing")
    if context.meters is None:
        raise DevicePermanentError(f"{settings.id}: publishes over MQTT, and no field_broker is configured")
    points, serial = PointTable(edge, settings, entry), settings.mqtt.serial
    if entry.reports is not None:
        report_s = settings.mqtt.report_s or entry.reports.report_s
        nominal = nominal_of(settings, entry)
        confirmations = (order.confirm.topic for order in entry.orders.all() if order.confirm is not None)
        device = ReportingDevice(settings.id, serial, entry.reports, points, report_s, nominal, confirmations)
        return ReportingDriver(spec_of(settings), entry, context.meters, device, context.clock)
    if entry.message is None:
        raise DevicePermanentError(f"{settings.id}: {entry.name} says nothing of its messages")
    return MqttDriver(spec_of(settings), context.meters, Meter(settings.id, serial, entry.message, points))
