"""A device on an OPC-UA server: all its nodes in one direct read.

Direct reads, because a subscription's latency is its publishing interval; a node that vanished makes its own point bad
and leaves the rest alone. A client that lost its connection is thrown away and built anew.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Self

from tieline_core.clock import Clock
from tieline_core.ids import EdgeId
from tieline_core.quantities import Quality, Reading
from tieline_core.timegrid import EARLIEST, LATEST
from tieline_edge.drivers.capabilities import (
    Action,
    DevicePermanentError,
    DeviceSpec,
    DeviceTransientError,
    ReadBack,
    Release,
)
from tieline_edge.drivers.catalog.entry import CatalogEntry
from tieline_edge.drivers.context import DriverContext
from tieline_edge.drivers.points import PointRow, PointTable, bad_reading, good_reading
from tieline_edge.drivers.spec import spec_of
from tieline_edge.settings import DeviceSettings, OpcUaEndpoint
from tieline_edge.snapshot import AHEAD_S

if TYPE_CHECKING:
    from asyncua import Client, ua

#: OPC 10000-4, 7.39: the two top bits of a StatusCode are its severity: 00 good, 01 uncertain, 10 and 11 bad.
_SEVERITY_SHIFT: Final = 30
_UNCERTAIN: Final = 1


def quality_of(status: int) -> Quality:
    """Quality of a StatusCode."""
    severity = status >> _SEVERITY_SHIFT
    return Quality.GOOD if severity == 0 else Quality.UNCERTAIN if severity == _UNCERTAIN else Quality.BAD


def reading_of(row: PointRow, status: int, value: object, source_time: datetime | None, now: datetime) -> Reading:
    """One answered node as a reading; what is no finite number is bad as of now, never a number.

    A source clock that is ahead of ours must not make an old value look fresh: the reading is stamped now and uncertain.
    """
    at = now if source_time is None else source_time.replace(tzinfo=UTC) if source_time.tzinfo is None else source_time
    quality = quality_of(status)
    if quality is Quality.BAD or not isinstance(value, bool | int | float) or not math.isfinite(value):
        return bad_reading(row, now)
    if not EARLIEST <= at <= LATEST:
        return bad_reading(row, now)
    if (at - now).total_seconds() > AHEAD_S:
        at, quality = now, Quality.UNCERTAIN
    try:
        return good_reading(row, float(value), at, quality)
    except (OverflowError, ValueError):
        return bad_reading(row, now)


class OpcUaDriver:
    """One device whose values are nodes of one server.

    Args:
        spec: What the device is.
        points: Its points; ``node`` says where each is.
        endpoint: Server, root of the node ids, time-out.
        clock: Stamps values that carry no source time.
    """

    def __init__(self, spec: DeviceSpec, points: PointTable, endpoint: OpcUaEndpoint, clock: Clock) -> None:
        self._spec, self._points, self._endpoint, self._clock = spec, points, endpoint, clock
        self._client: Client | None = None
        self._nodes: list[ua.NodeId] = []

    @property
    def spec(self) -> DeviceSpec:
        """What the device is."""
        return self._spec

    async def __aenter__(self) -> Self:
        """Connect with a client of its own."""
        from asyncua import Client, ua

        # Its own account of every failure would stand beside ours.
        logging.getLogger("asyncua").setLevel(logging.CRITICAL)
        try:
            self._nodes = [
                ua.NodeId.from_string((row.point.node or "").format(root=self._endpoint.root)) for row in self._points
            ]
        except (ua.UaStringParsingError, KeyError, IndexError) as error:
            raise DevicePermanentError(f"{self._spec.device_id}: a node id cannot be read: {error}") from error
        client = Client(self._endpoint.url, timeout=self._endpoint.timeout_s)
        try:
            async with asyncio.timeout(3 * self._endpoint.timeout_s):
                await client.connect()
        except (TimeoutError, OSError, ua.UaError) as error:
            client.disconnect_socket()
            raise DeviceTransientError(
                f"{self._endpoint.url}: no session ({error or type(error).__name__}); is the server on and the address right?"
            ) from error
        self._client = client
        return self

    async def __aexit__(self, *exc: object) -> None:
        client, self._client = self._client, None
        if client is None:
            return
        from asyncua import ua

        try:
            async with asyncio.timeout(self._endpoint.timeout_s):
                await client.disconnect()
        except (TimeoutError, OSError, ua.UaError):
            client.disconnect_socket()

    async def read(self) -> Sequence[Reading]:
        """Read all nodes in one call."""
        from asyncua import ua

        if self._client is None:
            raise DeviceTransientError(f"{self._endpoint.url}: not connected")
        try:
            async with asyncio.timeout(self._endpoint.timeout_s):
                answers = await self._client.uaclient.read_attributes(self._nodes, ua.AttributeIds.Value)
        except (TimeoutError, OSError, ua.UaError) as error:
            raise DeviceTransientError(f"{self._endpoint.url}: no answer to a read ({error or 'time-out'})") from error
        now = self._clock.now()
        return [
            reading_of(
                row,
                answer.StatusCode.value if answer.StatusCode is not None else 0,
                answer.Value.Value if answer.Value is not None else None,
                answer.SourceTimestamp,
                now,
            )
            for row, answer in zip(self._points, answers, strict=True)
        ]

    async def apply(self, action: Action) -> ReadBack:
        """Nothing can be asked of a bay that only measures."""
        if isinstance(action, Release):
            return ReadBack(confirmed=True, text="nothing to write")
        raise DevicePermanentError(f"{self._spec.device_id} only measures; nothing was written")


def build(settings: DeviceSettings, entry: CatalogEntry, edge: EdgeId, context: DriverContext) -> OpcUaDriver:
    """A driver that is not connected yet."""
    if settings.opcua is None:
        raise DevicePermanentError(f"{settings.id}: {entry.name} speaks OPC-UA, opcua.url is missing")
    return OpcUaDriver(spec_of(settings), PointTable(edge, settings, entry), settings.opcua, context.clock)
