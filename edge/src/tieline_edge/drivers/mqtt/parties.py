"""Who is heard over the field broker: meters, which wait for a receipt, and devices that just report."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Protocol, runtime_checkable

from tieline_core.ids import DeviceId
from tieline_edge.drivers.catalog.messages import MessageForm
from tieline_edge.drivers.mqtt.reports import ReportingDevice
from tieline_edge.drivers.points import PointTable

#: Messages remembered for each meter: far more than a device holds back unreceipted at one moment.
REMEMBERED: Final = 256


@dataclass(slots=True, eq=False)
class Meter:
    """One publishing device and what is remembered of it."""

    device_id: DeviceId
    serial: str
    form: MessageForm
    points: PointTable
    #: Listened to from this moment on; None = not yet.
    since: datetime | None = None
    heard_at: datetime | None = None
    ids: deque[str] = field(default_factory=lambda: deque(maxlen=REMEMBERED))
    instants: deque[datetime] = field(default_factory=lambda: deque(maxlen=REMEMBERED))
    in_error: bool = False

    @property
    def topic(self) -> str:
        """Where its readings arrive."""
        return self.form.topic.format(serial=self.serial)

    @property
    def topics(self) -> frozenset[str]:
        """Everything to subscribe to."""
        return frozenset((self.topic,))


Party = Meter | ReportingDevice


@runtime_checkable
class Publishing(Protocol):
    """A driver whose device speaks by itself: it is listened to all the time, whatever its poller does."""

    @property
    def party(self) -> Party:
        """The device as the gateway knows it."""
        ...
