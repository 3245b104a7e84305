"""The live lane's host: Sparkplug B births, data and deaths into the fleet registry and last values.

The live lane never writes history of Tieline's own edges; it says what is true now. What it misses it asks for again by
a rebirth, at most once in a while to each node.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from tieline_cloud.fleet.registry import FleetRegistry, read_reported
from tieline_cloud.ingest.connection import HubConnection, Inbound, Will, Wiring
from tieline_cloud.ingest.counters import LiveCounters
from tieline_cloud.ingest.host_table import Change, Finding, HostTable, NodeKey
from tieline_cloud.ingest.settings import IngestSettings
from tieline_cloud.store.ports import LastValue
from tieline_core import topics
from tieline_core.clock import Clock
from tieline_core.errors import BadInputError
from tieline_core.ids import DeviceId, EdgeId, PointId
from tieline_core.messages.desired import Reported
from tieline_core.sparkplug import payload as sparkplug
from tieline_core.sparkplug.metric import Metric, SparkplugError
from tieline_core.sparkplug.session import BDSEQ, HostState, rebirth_request
from tieline_core.timegrid import from_us, to_us

_log = logging.getLogger(__name__)
_QUEUE: Final = 10_000
_CHUNK: Final = 200
_LATEST_MS: Final = 7_258_118_400_000  # the year 2200


@dataclass(frozen=True, slots=True)
class LiveNotices:
    """Who wants to know; all called in the event loop."""

    values: Callable[[Sequence[LastValue]], None] = lambda _values: None
    reported: Callable[[Reported], None] = lambda _reported: None


class LiveHost:
    """Sparkplug host application for all edges while :meth:`run` runs."""

    def __init__(self, settings: IngestSettings, fleet: FleetRegistry, clock: Clock, notices: LiveNotices) -> None:
        self.counters = LiveCounters()
        self.connected = False
        self._settings = settings
        self._fleet = fleet
        self._clock = clock
        self._notices = notices
        self._table = HostTable()
        self._values: dict[PointId, LastValue] = {}
        self._queue: deque[Inbound] = deque()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._arrived = asyncio.Event()
        self._asked_s: dict[NodeKey, float] = {}
        self._connected_ms = 0
        self._state_topic = topics.host_state(settings.host_id)
        subscriptions = ((f"{topics.SPARKPLUG}/#", 1), (topics.reported("+"), 1))
        wiring = Wiring(subscriptions, self._offer, self._up, self._down, self._will, farewell=self._farewell)
        self._connection = HubConnection(settings.broker, f"{settings.client_prefix}-live", wiring)

    def values(self, points: Sequence[PointId] | None = None) -> list[LastValue]:
        """Newest values seen on this lane, of the points or of all, sorted by point."""
        return [value for point, value in sorted(self._values.items()) if points is None or point in points]

    async def run(self) -> None:
        """Serve until cancelled; then the STATE says offline."""
        self._loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._connection.run(), name="live connection")
            group.create_task(self._serve(), name="live host")

    # Connection

    def _now_ms(self) -> int:
        return max(0, to_us(self._clock.now()) // 1000)

    def _will(self) -> Will:
        self._connected_ms = self._now_ms()
        return Will(self._state_topic, HostState(online=False, timestamp_ms=self._connected_ms).to_bytes(), retain=True)

    def _farewell(self) -> Will:
        return Will(self._state_topic, HostState(online=False, timestamp_ms=self._now_ms()).to_bytes(), retain=True)

    def _up(self, _session: int) -> None:
        self.connected = True
        self.counters.connects += 1
        self._table = HostTable()
        self._say_online()
        for status in self._fleet.edges():
            self._ask_rebirth((topics.GROUP, status.edge_id))

    def _say_online(self) -> None:
        # The standard wants the timestamp of the will that belongs to this connection.
        state = HostState(online=True, timestamp_ms=self._connected_ms).to_bytes()
        self._connection.publish(self._state_topic, state, qos=1, retain=True)

    def _down(self) -> None:
        self.connected = False
        for group, node in self._table.alive():
            edge = self._own(group, node)
            if edge is not None:
                self._fleet.node_died(edge)
        self._table = HostTable()

    def _offer(self, message: Inbound) -> None:
        """In the network thread; the live lane may lose, and says so."""
        if len(self._queue) >= _QUEUE:
            self.counters.dropped += 1
            return
        self._queue.append(message)
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._arrived.set)

    async def _serve(self) -> None:
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            while self._queue:
                for _ in range(min(_CHUNK, len(self._queue))):
                    self._take(self._queue.popleft())
                await asyncio.sleep(0)

    # Messages

    def _take(self, message: Inbound) -> None:
        try:
            if message.topic.startswith(topics.ROOT + "/"):
                self._take_reported(message)
            elif message.topic.startswith(f"{topics.SPARKPLUG}/STATE/"):
                self._take_state(message)
            else:
                self._take_sparkplug(message)
        except (SparkplugError, BadInputError, ValueError) as error:
            self.counters.garbage += 1
            _log.warning("Live lane: %s: %s", message.topic, error)

    def _take_reported(self, message: Inbound) -> None:
        edge = topics.edge_of(message.topic)
        if self._refused(edge):
            return
        reported = read_reported(message.topic, message.payload, edge)
        self._fleet.reported(reported, retained=message.retain)
        self._notices.reported(reported)

    def _take_state(self, message: Inbound) -> None:
        # The will of our own earlier connection may arrive after we came back.
        if message.topic == self._state_topic and self.connected and not HostState.from_bytes(message.payload).online:
            self._say_online()

    def _refused(self, edge: EdgeId) -> bool:
        admitted = self._settings.admitted_edges
        if admitted is None or edge in admitted:
            return False
        self.counters.not_admitted += 1
        return True

    def _own(self, group: str, node: str) -> EdgeId | None:
        return EdgeId(node) if group == topics.GROUP else None

    def _take_sparkplug(self, message: Inbound) -> None:
        topic = topics.parse_sparkplug(message.topic)
        edge = self._own(topic.group, topic.node)
        if edge is None and f"{topic.group}/{topic.node}" not in self._settings.third_party_nodes:
            self.counters.not_admitted += 1
            return
        if edge is not None and self._refused(edge):
            return
        finding = self._table.take(topic, sparkplug.decode(message.payload))
        if finding is not None:
            self._apply(edge, finding)

    def _apply(self, edge: EdgeId | None, finding: Finding) -> None:
        counters = self.counters
        if finding.change is Change.LOST:
            _log.info("Live lane: %s: %s", finding.node[1], finding.reason)
            self._ask_rebirth(finding.node)
            return
        if finding.change is Change.STALE_DEATH:
            counters.stale_deaths += 1
            return
        counters.births += finding.change in (Change.NODE_BORN, Change.DEVICE_BORN)
        counters.deaths += finding.change in (Change.NODE_DIED, Change.DEVICE_DIED)
        counters.data += finding.change is Change.DATA
        if edge is not None:
            self._tell_fleet(edge, finding)
        self._keep_values(finding)

    def _tell_fleet(self, edge: EdgeId, finding: Finding) -> None:
        at = self._clock.now()
        if finding.change is Change.NODE_BORN:
            self._fleet.node_born(edge, at)
        elif finding.change is Change.NODE_DIED:
            self._fleet.node_died(edge)
        elif finding.change is Change.DEVICE_BORN:
            names = [metric.name for metric in finding.metrics if metric.name is not None]
            self._fleet.device_born(edge, DeviceId(finding.device or ""), names, at)
        elif finding.change is Change.DEVICE_DIED:
            self._fleet.device_died(edge, DeviceId(finding.device or ""))

    def _keep_values(self, finding: Finding) -> None:
        new = [
            value
            for metric in finding.metrics
            if not metric.is_historical and (value := self._value(finding, metric)) is not None
        ]
        for value in new:
            self._values[value.point] = value
        if new:
            self._notices.values(new)

    def _value(self, finding: Finding, metric: Metric) -> LastValue | None:
        """The metric as a value of a point; None when it is no number or its name is no point of ours."""
        if metric.name is None or metric.name == BDSEQ or isinstance(metric.value, str | bytes):
            return None
        try:
            point = PointId("/".join(part for part in (finding.node[1], finding.device, metric.name) if part))
        except ValueError:
            return None
        stamp = metric.timestamp_ms if metric.timestamp_ms is not None else finding.timestamp_ms
        if stamp is None or stamp > _LATEST_MS:
            return None
        number = None if metric.value is None else float(metric.value)
        return LastValue(point, number, from_us(stamp * 1000), int(metric.quality))

    def _ask_rebirth(self, node: NodeKey) -> None:
        now_s = time.monotonic()
        if now_s - self._asked_s.get(node, float("-inf")) < self._settings.rebirth_pause_s:
            return
        self._asked_s[node] = now_s
        command = sparkplug.encode(rebirth_request(self._now_ms()))
        if self._connection.publish(topics.sparkplug("NCMD", node[1], group=node[0]), command, qos=0):
            self.counters.rebirths_requested += 1
