"""The registry of edges and devices, learned from births, hellos, frames and reports; nobody types it in.

It lives in the event loop. What has to outlast a restart of the hub is written to the store through ``keep``; whether an
edge is online is never kept, that has to be heard again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from pydantic import AwareDatetime

from tieline_cloud.fleet.views import DeviceStatus, EdgeStatus
from tieline_core.clock import Clock
from tieline_core.errors import BadInputError
from tieline_core.ids import DeviceId, EdgeId
from tieline_core.messages.base import Message
from tieline_core.messages.desired import Reported
from tieline_core.messages.telemetry import Hello

#: Kind of the store's documents that hold the registry.
DOCUMENTS: Final = "fleet"
#: Without a word on the durable lane for this long of wall time, an edge counts as away. It reports every minute.
SILENCE_S: Final = 90.0
#: The time it was last heard is kept no more often than this.
_KEEP_EVERY: Final = timedelta(minutes=1)


class _KeptDevice(Message):
    device_id: DeviceId
    metrics: tuple[str, ...]
    born_at: AwareDatetime | None
    role: str | None = None


class _KeptEdge(Message):
    edge_id: EdgeId
    last_heard: AwareDatetime | None = None
    epoch: int | None = None
    nonce: str | None = None
    software: str | None = None
    born_at: AwareDatetime | None = None
    reported: Reported | None = None
    third_party: str | None = None
    devices: tuple[_KeptDevice, ...] = ()


class FleetRegistry:
    """Edges and devices as they are known.

    Args:
        clock: For the time an edge was heard.
        kept: Documents of an earlier run, by edge.
        keep: Takes a document to keep: edge, body, instant.
        silence_s: When an edge that says nothing on the durable lane counts as away [s of wall time].
        monotonic: Wall seconds, for that.
    """

    def __init__(
        self,
        clock: Clock,
        kept: Mapping[str, bytes] | None = None,
        keep: Callable[[str, bytes, datetime], None] = lambda _edge, _body, _at: None,
        silence_s: float = SILENCE_S,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._keep = keep
        self._silence_s = silence_s
        self._monotonic = monotonic
        self._edges: dict[EdgeId, EdgeStatus] = {}
        self._durable_s: dict[EdgeId, float] = {}
        self._told_online: set[EdgeId] = set()
        self._unkept: set[EdgeId] = set()
        self._kept_at: dict[EdgeId, datetime] = {}
        self._devices: dict[EdgeId, dict[DeviceId, DeviceStatus]] = {}
        self._listeners: list[Callable[[EdgeStatus], None]] = []
        for body in (kept or {}).values():
            self._restore(_KeptEdge.from_bytes(body, DOCUMENTS))

    def _restore(self, kept: _KeptEdge) -> None:
        self._edges[kept.edge_id] = EdgeStatus(
            kept.edge_id,
            last_heard=kept.last_heard,
            epoch=kept.epoch,
            reported=kept.reported,
            nonce=kept.nonce,
            software=kept.software,
            born_at=kept.born_at,
            third_party=kept.third_party,
        )
        for device in kept.devices:
            known = DeviceStatus(kept.edge_id, device.device_id, False, device.metrics, device.born_at, device.role)
            self._devices.setdefault(kept.edge_id, {})[device.device_id] = known

    # Views

    def edges(self) -> list[EdgeStatus]:
        """All known edges, by id."""
        return [self._present(status) for _, status in sorted(self._edges.items())]

    def edge(self, edge: EdgeId) -> EdgeStatus | None:
        """One edge, None when it was never heard of."""
        status = self._edges.get(edge)
        return None if status is None else self._present(status)

    def devices(self, edge: EdgeId | None = None) -> list[DeviceStatus]:
        """Devices of one edge, or of all, by id."""
        owners = sorted(self._devices) if edge is None else [edge]
        return [device for owner in owners for _, device in sorted(self._devices.get(owner, {}).items())]

    def _present(self, status: EdgeStatus) -> EdgeStatus:
        return replace(status, online_durable=self._online(status.edge_id))

    def _online(self, edge: EdgeId) -> bool:
        heard_s = self._durable_s.get(edge)
        return heard_s is not None and self._monotonic() - heard_s <= self._silence_s

    def on_change(self, listener: Callable[[EdgeStatus], None]) -> None:
        """Call the listener in the event loop whenever something about an edge or its devices has changed."""
        self._listeners.append(listener)

    # What is learned

    def admit(self, edge: EdgeId, third_party: str) -> None:
        """A node of a third party may take part, whether it was heard or not; named as ``group/node``."""
        self._change(self._status(edge), third_party=third_party)

    def durable_heard(self, edge: EdgeId) -> None:
        """Something valid came on the durable lane."""
        now = self._clock.now()
        away = not self._online(edge)
        self._durable_s[edge] = self._monotonic()
        status = self._status(edge).heard(now)
        self._edges[edge] = status
        if away or now - self._kept_at.get(edge, now - 2 * _KEEP_EVERY) >= _KEEP_EVERY:
            self._store(status)
        if away:
            self._tell(edge)

    def durable_lost(self) -> None:
        """The hub's own durable connection is gone: whether an edge is there has to be heard again."""
        self._durable_s.clear()
        self.review()

    def review(self) -> None:
        """Tell listeners of edges that have fallen silent; to be called every second or so."""
        for edge in sorted(self._told_online):
            if not self._online(edge):
                self._tell(edge)
        self.keep_births()

    def keep_births(self) -> None:
        """Keep the devices born since the last time: an edge's come by the thousand, and are kept as one document."""
        for edge in sorted(self._unkept):
            self._store(self._status(edge))

    def hello(self, hello: Hello, epoch: int) -> None:
        """An edge said hello and was answered with this epoch."""
        self.durable_heard(hello.edge_id)
        self._change(self._status(hello.edge_id), epoch=epoch, nonce=hello.nonce, software=hello.software)

    def reported(self, reported: Reported, *, retained: bool = False) -> None:
        """An edge reported; a retained report says how it stood, not that it is there."""
        status = self._status(reported.edge_id)
        if status.reported is not None and reported.at < status.reported.at:
            return
        if not retained:
            self.durable_heard(reported.edge_id)
            status = self._status(reported.edge_id)
        self._change(status, reported=reported, software=reported.software)

    def node_born(self, edge: EdgeId, at: datetime) -> None:
        """A Sparkplug NBIRTH came; its devices have to be born again."""
        self._change(self._status(edge).heard(self._clock.now()), online_live=True, born_at=at, offline_since=None)
        self._devices_offline(edge)

    def node_died(self, edge: EdgeId) -> None:
        """Its NDEATH came, or the hub lost sight of the live lane."""
        self._devices_offline(edge)
        # One connection has died: whether the other one still stands has to be heard anew.
        self._durable_s.pop(edge, None)
        status = self._status(edge)
        since = status.offline_since if not status.online_live else None
        self._change(status, online_live=False, offline_since=since or self._clock.now())
        self.review()

    def live_heard(self, edge: EdgeId) -> None:
        """Data came on the live lane; noted without telling or keeping it, because it comes all the time."""
        self._edges[edge] = self._status(edge).heard(self._clock.now())

    def device_born(
        self, edge: EdgeId, device: DeviceId, metrics: Sequence[str], at: datetime, role: str | None = None
    ) -> None:
        """A DBIRTH came."""
        known = self._devices.setdefault(edge, {}).get(device)
        born = DeviceStatus(edge, device, online=True, metrics=tuple(metrics), born_at=at, role=role)
        self._devices[edge][device] = born
        if known is None or (known.metrics, known.role) != (born.metrics, born.role):
            self._unkept.add(edge)
        self._tell(edge)

    def device_died(self, edge: EdgeId, device: DeviceId) -> None:
        """A DDEATH came."""
        known = self._devices.get(edge, {}).get(device)
        if known is not None and known.online:
            self._devices[edge][device] = replace(known, online=False, offline_since=self._clock.now())
            self._tell(edge)

    def _devices_offline(self, edge: EdgeId) -> None:
        now = self._clock.now()
        devices = self._devices.get(edge, {})
        for name, device in devices.items():
            if device.online:
                devices[name] = replace(device, online=False, offline_since=now)

    def _status(self, edge: EdgeId) -> EdgeStatus:
        return self._edges.get(edge) or EdgeStatus(edge)

    def _change(self, status: EdgeStatus, **fields: object) -> None:
        changed = replace(status, **fields)  # type: ignore[arg-type] # (names and types are those of EdgeStatus)
        known = self._edges.get(status.edge_id)
        self._edges[status.edge_id] = changed
        if known != changed:
            if known is None or (
                replace(known, online_live=changed.online_live, offline_since=changed.offline_since) != changed
            ):
                self._store(changed)
            self._tell(status.edge_id)

    def _tell(self, edge: EdgeId) -> None:
        status = self._present(self._status(edge))
        (self._told_online.add if status.online_durable else self._told_online.discard)(edge)
        for listener in self._listeners:
            listener(status)

    def _store(self, status: EdgeStatus) -> None:
        now = self._clock.now()
        self._kept_at[status.edge_id] = now
        self._unkept.discard(status.edge_id)
        kept = _KeptEdge(
            edge_id=status.edge_id,
            last_heard=status.last_heard,
            epoch=status.epoch,
            nonce=status.nonce,
            software=status.software,
            born_at=status.born_at,
            third_party=status.third_party,
            reported=status.reported,
            devices=tuple(
                _KeptDevice(device_id=device.device_id, metrics=device.metrics, born_at=device.born_at, role=device.role)
                for device in self.devices(status.edge_id)
            ),
        )
        self._keep(status.edge_id, kept.to_bytes(), now)


_REPORTED_BYTES: Final = 256 * 1024


def read_reported(topic: str, payload: bytes, edge: EdgeId) -> Reported:
    """Read a reported state; it has to come on its own edge's topic.

    Raises:
        BadInputError: Too long, not of the schema, or of another edge.
    """
    reported = Reported.from_bytes(payload, topic, _REPORTED_BYTES)
    if reported.edge_id != edge:
        raise BadInputError(topic, "edge_id", reported.edge_id, f"came on the topic of {edge!r}")
    return reported
