"""The live lane's host: Sparkplug B births, data and deaths into the fleet registry and last values.

The live lane never writes history of Tieline's own edges; it says what is true now. What it misses it asks for again by
a rebirth, at a bounded pace. Nodes of third parties have no durable lane: what they say is stored, at most once.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from tieline_cloud.fleet.registry import FleetRegistry, read_reported
from tieline_cloud.ingest.connection import HubConnection, Inbound, Wiring
from tieline_cloud.ingest.counters import LiveCounters
from tieline_cloud.ingest.host_table import Arrived, Change, Finding, HostTable, NodeKey
from tieline_cloud.ingest.live_values import LiveValues, is_number, value_of
from tieline_cloud.ingest.own_state import Memory, OwnState, Remedy
from tieline_cloud.ingest.rebirth import RebirthDesk
from tieline_cloud.ingest.settings import IngestSettings
from tieline_cloud.ingest.third_party import (
    NODE_DEVICE,
    ForeignNames,
    Shelf,
    ThirdPartyHistory,
    admitted_nodes,
    foreign_tables,
)
from tieline_cloud.store.ports import LastValue
from tieline_core import topics
from tieline_core.clock import Clock
from tieline_core.errors import BadInputError
from tieline_core.ids import DeviceId, EdgeId, PointId
from tieline_core.messages.desired import Reported
from tieline_core.sparkplug import payload as sparkplug
from tieline_core.sparkplug.metric import DEFAULT_LIMITS, Metric, SparkplugError
from tieline_core.sparkplug.session import rebirth_request

_log = logging.getLogger(__name__)
#: Text metric of a device birth that says what the device is for.
_ROLE: Final = "role"
#: What may wait for the event loop; beyond, the live lane loses messages and says so.
_QUEUE: Final = 50_000
_QUEUE_BYTES: Final = 64 * 1024 * 1024
#: So long the event loop is held at a stretch.
_SLICE_S: Final = 0.01
_UPKEEP_S: Final = 0.1
#: Third-party values are gathered for so long before they are stored.
_STORE_EVERY: Final = 10
_PACKET: Final = DEFAULT_LIMITS.max_bytes + 64 * 1024


@dataclass(frozen=True, slots=True)
class LiveNotices:
    """Who wants to know; all called in the event loop."""

    values: Callable[[Sequence[LastValue]], None] = lambda _values: None
    reported: Callable[[Reported], None] = lambda _reported: None


class LiveHost:
    """Sparkplug host application for all edges while :meth:`run` runs.

    Args:
        settings: Broker, admitted nodes and pace.
        fleet: Learns of births and deaths.
        clock: Stamps.
        notices: Who wants to know.
        shelf: Stores readings of third parties; None = they are shown, not stored.
        memory: Keeps the last stamp of our STATE; None = a new life begins at the clock's.

    Raises:
        ValueError: From the constructor, when the names of the admitted nodes collide.
    """

    def __init__(
        self,
        settings: IngestSettings,
        fleet: FleetRegistry,
        clock: Clock,
        notices: LiveNotices,
        shelf: Shelf | None = None,
        memory: Memory | None = None,
    ) -> None:
        self.counters = LiveCounters()
        self.connected = False
        self._settings = settings
        self._fleet = fleet
        self._clock = clock
        self._notices = notices
        self._table = self._fresh_table()
        self._values = LiveValues()
        self._queue: deque[Inbound] = deque()
        self._queued_bytes = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._arrived = asyncio.Event()
        self._rebirths = RebirthDesk(settings.rebirths)
        self._foreign = foreign_tables(admitted_nodes(settings.third_party_nodes))
        self._history = None if shelf is None else ThirdPartyHistory(shelf, clock, self.counters)
        for (group, node), names in self._foreign.items():
            fleet.admit(names.edge, f"{group}/{node}")
        self._state = OwnState(settings.host_id, clock, self.counters, memory)
        groups = sorted({topics.GROUP, *(group for group, _ in self._foreign)})
        subscriptions = (
            (self._state.topic, 1),
            *((f"{topics.SPARKPLUG}/{group}/#", 1) for group in groups),
            (topics.reported("+"), 1),
        )
        state = self._state
        wiring = Wiring(
            subscriptions, self._offer, self._up, self._down, state.will, farewell=state.farewell, packet_bytes=_PACKET
        )
        self._connection = HubConnection(settings.broker, f"{settings.client_prefix}-live", wiring)

    @property
    def problem(self) -> str | None:
        """Why there is no connection, in words; None while there is one, or none was tried."""
        return self._connection.problem

    def values(self, points: Sequence[PointId] | None = None) -> list[LastValue]:
        """Newest values seen on this lane, of the points or of all, sorted by point."""
        return self._values.of(points)

    def stale_since(self, point: PointId) -> datetime | None:
        """Since when a value is stale, by the host's clock; None when it is not."""
        return self._values.stale_since(point)

    async def run(self) -> None:
        """Serve until cancelled; then the STATE says offline."""
        self._loop = asyncio.get_running_loop()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._connection.run(), name="live connection")
                group.create_task(self._serve(), name="live host")
                group.create_task(self._upkeep(), name="live upkeep")
        finally:
            if self._history is not None:
                await asyncio.shield(self._history.flush())

    # Connection

    def _fresh_table(self) -> HostTable:
        return HostTable(self._settings.reorder_s)

    def _up(self, _session: int) -> None:
        self.connected = True
        self.counters.connects += 1
        self._table = self._fresh_table()
        self._say_online()
        for key in [*((topics.GROUP, s.edge_id) for s in self._fleet.edges() if s.third_party is None), *self._foreign]:
            self._rebirths.want(key, time.monotonic() + self._settings.rebirths.grace_s)

    def _say_online(self) -> None:
        state = self._state.birth()
        self._connection.publish(state.topic, state.payload, qos=1, retain=True)

    def _down(self) -> None:
        self.connected = False
        for key in self._table.alive():
            edge = self._edge(key)
            if edge is not None:
                self._fleet.node_died(edge)
            self._grow_stale(key, None)
        self._table = self._fresh_table()

    def _offer(self, message: Inbound) -> None:
        """In the network thread; the live lane may lose, and says so."""
        if len(self._queue) >= _QUEUE or self._queued_bytes + len(message.payload) > _QUEUE_BYTES:
            self.counters.dropped += 1
            return
        self._queued_bytes += len(message.payload)
        self._queue.append(message)
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._arrived.set)

    async def _serve(self) -> None:
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            while self._queue:
                until_s = time.monotonic() + _SLICE_S
                while self._queue and time.monotonic() < until_s:
                    message = self._queue.popleft()
                    self._queued_bytes -= len(message.payload)
                    self._take(message)
                await asyncio.sleep(0)

    async def _upkeep(self) -> None:
        rounds = 0
        while True:
            await asyncio.sleep(_UPKEEP_S)
            rounds += 1
            for finding in self._table.expire(time.monotonic()):
                self._apply(finding)
            self._ask_rebirths()
            if self._history is not None and rounds % _STORE_EVERY == 0:
                await self._history.flush()

    # Messages

    def _take(self, message: Inbound) -> None:
        try:
            if message.topic.startswith(topics.ROOT + "/"):
                self._take_reported(message)
            elif message.topic == self._state.topic:
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
        if not self.connected:
            return
        remedy = self._state.heard(message.payload)
        if remedy is not Remedy.NONE:
            self._say_online()
        if remedy is Remedy.RENEW:
            self._connection.renew()

    def _refused(self, edge: EdgeId) -> bool:
        admitted = self._settings.admitted_edges
        foreign = any(names.edge == edge for names in self._foreign.values())
        if (admitted is None or edge in admitted) and not foreign:
            return False
        self.counters.not_admitted += 1
        return True

    def _edge(self, key: NodeKey) -> EdgeId | None:
        names = self._foreign.get(key)
        if names is not None:
            return names.edge
        return EdgeId(key[1]) if key[0] == topics.GROUP else None

    def _take_sparkplug(self, message: Inbound) -> None:
        topic = topics.parse_sparkplug(message.topic)
        key = (topic.group, topic.node)
        edge = self._edge(key)
        if edge is None:
            self.counters.not_admitted += 1
            return
        if key not in self._foreign and self._refused(edge):
            return
        if topic.kind in ("NCMD", "DCMD"):
            return
        if message.retain:
            raise SparkplugError("births, data and deaths are never retained: what the broker kept is of the past")
        payload = sparkplug.decode(message.payload, null_for_nan=True)
        self.counters.not_finite += payload.not_finite
        mark = hash((message.topic, message.payload))
        for finding in self._table.take(Arrived(topic, payload, time.monotonic(), mark)):
            self._apply(finding)

    def _apply(self, finding: Finding) -> None:
        counters, change = self.counters, finding.change
        if change is Change.LOST:
            _log.info("Live lane: %s: %s", finding.node[1], finding.reason)
            self._rebirths.want(finding.node)
            self._ask_rebirths()
            return
        if change is Change.REFUSED:
            counters.garbage += 1
            _log.warning("Live lane: %s: %s", "/".join(finding.node), finding.reason)
            return
        counters.births += change in (Change.NODE_BORN, Change.DEVICE_BORN)
        counters.deaths += change in (Change.NODE_DIED, Change.DEVICE_DIED)
        counters.data += change is Change.DATA
        counters.stale_deaths += change is Change.STALE_DEATH
        counters.duplicates += change is Change.DUPLICATE
        if change is Change.NODE_BORN:
            self._rebirths.born(finding.node)
        edge = self._edge(finding.node)
        if edge is not None:
            self._tell_fleet(edge, finding)
        if change in (Change.NODE_DIED, Change.DEVICE_DIED):
            self._grow_stale(finding.node, finding.device)
        self._keep_values(finding)

    def _tell_fleet(self, edge: EdgeId, finding: Finding) -> None:
        at, names = self._clock.now(), self._foreign.get(finding.node)
        change = finding.change
        if names is not None and change in (Change.NODE_BORN, Change.DEVICE_BORN):
            refused = names.refused
            names.declare(finding.device, [row.name or "" for row in finding.metrics if is_number(row)])
            self.counters.names_refused += names.refused - refused
        if change is Change.NODE_BORN:
            self._fleet.node_born(edge, at)
        elif change is Change.NODE_DIED:
            self._fleet.node_died(edge)
        elif change is Change.DATA and names is not None:
            self._fleet.live_heard(edge)
        device = self._device(names, finding.device)
        if device is None:
            return
        quantities = [point.quantity for row in finding.metrics if (point := self._point(finding, row)) is not None]
        if change is Change.DEVICE_BORN or (change is Change.NODE_BORN and quantities and names is not None):
            roles = [row.value for row in finding.metrics if row.name == _ROLE and isinstance(row.value, str)]
            self._fleet.device_born(edge, device, quantities, at, roles[0][:64] if roles else None)
        elif change is Change.DEVICE_DIED:
            self._fleet.device_died(edge, device)

    def _device(self, names: ForeignNames | None, device: str | None) -> DeviceId | None:
        if names is not None:
            return names.device(device)
        try:
            return DeviceId(device) if device is not None else NODE_DEVICE
        except ValueError as error:
            self.counters.garbage += 1
            _log.warning("Live lane: %s", error)
            return None

    # Values

    def _point(self, finding: Finding, metric: Metric) -> PointId | None:
        """The point of a metric; None when it carries no number or its name is none of ours."""
        if not is_number(metric):
            return None
        names = self._foreign.get(finding.node)
        if names is not None:
            return names.point(finding.device, metric.name or "")
        try:
            return PointId(f"{finding.node[1]}/{finding.device}/{metric.name}") if finding.device else None
        except ValueError:
            return None

    def _keep_values(self, finding: Finding) -> None:
        new, foreign = [], finding.node in self._foreign
        for metric in finding.metrics:
            point = self._point(finding, metric)
            if point is None:
                self.counters.texts_ignored += foreign and isinstance(metric.value, str | bytes)
                continue
            value = value_of(point, metric, finding.timestamp_ms)
            if value is None:
                continue
            if foreign and self._history is not None and not metric.is_transient:
                self._history.add(value, historical=metric.is_historical)
            if not metric.is_historical:
                new.append(value)
        if new:
            self._values.keep(finding.node, finding.device, new)
            self._notices.values(new)

    def _grow_stale(self, key: NodeKey, device: str | None) -> None:
        stale = self._values.grow_stale(key, device, self._clock.now())
        if stale:
            self._notices.values(stale)

    def _ask_rebirths(self) -> None:
        for group, node in self._rebirths.due(time.monotonic()) if self.connected else ():
            command = sparkplug.encode(rebirth_request(self._state.now_ms()))
            if self._connection.publish(topics.sparkplug("NCMD", node, group=group), command, qos=0):
                self.counters.rebirths_requested += 1
