"""A subscription for what people look at, without a loop of its own: whoever polls collects what has come (decision 12).

One PublishRequest is outstanding; its task belongs to the watch and ends with it. Between two polls the server keeps the
changes, so none is lost at any poll period that its queue covers.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from tieline_edge.drivers.capabilities import DeviceTransientError
from tieline_edge.drivers.opcua.session import OpcUaSession

if TYPE_CHECKING:
    from asyncua import ua

#: Changes of one node the server keeps between two polls; the oldest go first.
_QUEUE: Final = 100
#: The server says at least so often that nothing has changed [s], and is given up after so many times as long.
_KEEPALIVE_S: Final = 5.0
_SILENT: Final = 3.0


@dataclass(frozen=True, slots=True)
class WatchedNode:
    """One node of a subscription.

    Attributes:
        node: Which.
        sampling_s: How often the server looks at it [s].
        deadband: Smaller changes are not told, in the node's own unit; 0 = every change.
    """

    node: ua.NodeId
    sampling_s: float
    deadband: float = 0.0


class Watch:
    """One subscription of one session.

    Args:
        session: Activated; the watch is of no use after it.
    """

    def __init__(self, session: OpcUaSession) -> None:
        self._session = session
        self._number = 0
        self._publishing: asyncio.Task[Any] | None = None
        self._acknowledge: list[ua.SubscriptionAcknowledgement] = []
        self._heard_s = 0.0
        self._silent_s = 0.0

    async def begin(self, nodes: Sequence[WatchedNode]) -> list[bool]:
        """Subscribe; False for each node the server does not watch (gone, no such filter), which has to be read instead.

        Raises:
            DeviceTransientError: No answer.
        """
        from asyncua import ua

        client = self._session.client.uaclient
        interval_ms = 1e3 * min(node.sampling_s for node in nodes)
        wanted = ua.CreateSubscriptionParameters()
        wanted.RequestedPublishingInterval = interval_ms
        wanted.RequestedMaxKeepAliveCount = max(1, round(1e3 * _KEEPALIVE_S / interval_ms))
        wanted.RequestedLifetimeCount = 100 * wanted.RequestedMaxKeepAliveCount
        wanted.PublishingEnabled = True

        async def create() -> Any:
            # asyncua's own publish loop would retry for ever; without a callback it is not started.
            request = ua.CreateSubscriptionRequest()
            request.Parameters = wanted
            data = await client.session._send_request(request)  # noqa: SLF001 - the only way around its loop
            response = ua.ua_binary.struct_from_binary(ua.CreateSubscriptionResponse, data)
            response.ResponseHeader.ServiceResult.check()
            return response.Parameters

        granted = await self._session.ask(create, "a subscription")
        self._number = granted.SubscriptionId
        self._silent_s = _SILENT * granted.RevisedPublishingInterval * granted.RevisedMaxKeepAliveCount / 1e3
        self._heard_s = time.monotonic()
        items = ua.CreateMonitoredItemsParameters()
        items.SubscriptionId = self._number
        items.TimestampsToReturn = ua.TimestampsToReturn.Source
        items.ItemsToCreate = [_request(number, node) for number, node in enumerate(nodes)]
        results = await self._session.ask(lambda: client.create_monitored_items(items), "monitored items")
        self._publish()
        return [result.StatusCode.is_good() for result in results]

    def collect(self) -> list[tuple[int, ua.DataValue]]:
        """What has changed since the last time, oldest first: position of the node, value with status and source time.

        Raises:
            DeviceTransientError: The subscription has ended, or the server has been silent for too long.
        """
        from asyncua import ua

        if self._publishing is None or not self._publishing.done():
            if time.monotonic() - self._heard_s > self._silent_s:
                raise DeviceTransientError(f"subscription {self._number} is silent for {self._silent_s:.0f} s")
            return []
        self._heard_s = time.monotonic()
        try:
            response = self._publishing.result()
            response.ResponseHeader.ServiceResult.check()
        except (OSError, ua.UaError) as error:
            raise DeviceTransientError(f"subscription {self._number} has ended: {error}") from error
        message = response.Parameters.NotificationMessage
        changes = [part for part in message.NotificationData or () if isinstance(part, ua.DataChangeNotification)]
        if message.NotificationData:
            self._acknowledge = [ua.SubscriptionAcknowledgement(response.Parameters.SubscriptionId, message.SequenceNumber)]
        self._publish()
        return [(item.ClientHandle, item.Value) for change in changes for item in change.MonitoredItems]

    def _publish(self) -> None:
        acknowledge, self._acknowledge = self._acknowledge, []
        request = self._session.client.uaclient.session.publish(acknowledge)
        self._publishing = asyncio.create_task(request, name=f"opcua-publish-{self._number}")

    async def end(self) -> None:
        """Stop waiting for notifications; the server forgets the subscription with the session."""
        task, self._publishing = self._publishing, None
        if task is not None:
            task.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await task


def _request(number: int, node: WatchedNode) -> ua.MonitoredItemCreateRequest:
    from asyncua import ua

    request = ua.MonitoredItemCreateRequest()
    request.ItemToMonitor.NodeId = node.node
    request.ItemToMonitor.AttributeId = ua.AttributeIds.Value
    request.MonitoringMode = ua.MonitoringMode.Reporting
    parameters = request.RequestedParameters
    parameters.ClientHandle = number
    parameters.SamplingInterval = 1e3 * node.sampling_s
    parameters.QueueSize = _QUEUE
    parameters.DiscardOldest = True
    if node.deadband > 0:
        change = ua.DataChangeFilter()
        change.Trigger = ua.DataChangeTrigger.StatusValue
        change.DeadbandType = 1  # absolute (OPC 10000-4, 7.22.2)
        change.DeadbandValue = node.deadband
        parameters.Filter = change
    return request
