"""Sparkplug nodes of others: their names as ids of ours, and their data into the ledger, at most once.

A name becomes an id part by rule, not by memory, so that it is the same after every restart: lower case, every run of
other characters one ``_``; a name that is not plain ASCII or too long ends in a hash of itself. Two names that would
become one id are both refused, because their values could not be told apart any more.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Protocol

from tieline_cloud.ingest.counters import LiveCounters
from tieline_cloud.ingest.host_table import NodeKey
from tieline_cloud.store.ports import Ingested, LastValue
from tieline_core import topics
from tieline_core.clock import Clock
from tieline_core.errors import TransientError
from tieline_core.frame import ReadingBatch
from tieline_core.ids import DeviceId, EdgeId, PointId
from tieline_core.quantities import Quality, Reading

_log = logging.getLogger(__name__)
#: Device that carries the metrics of a node itself.
NODE_DEVICE: Final = DeviceId("node")
_MAX_PART: Final = 48
_HASH_CHARS: Final = 8
_MAX_POINTS: Final = 20_000
_MAX_WAITING: Final = 100_000
_SOURCE: Final = "sparkplug"


def id_part(name: str) -> str:
    """A foreign name as one part of an id of ours."""
    plain = re.sub(r"[^a-z0-9_-]+", "_", name.lower()).strip("_-")
    if name.isascii() and plain and len(plain) <= _MAX_PART:
        return plain
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:_HASH_CHARS]
    return f"{plain[: _MAX_PART - _HASH_CHARS - 1].strip('_-') or 'x'}-{digest}"


def admitted_nodes(nodes: Iterable[str], own: Iterable[str] = ()) -> dict[NodeKey, EdgeId]:
    """Edge ids of the admitted third-party nodes: ``plant/press`` becomes ``plant-press``.

    Args:
        nodes: As ``group/node``.
        own: Ids of our own edges, which no third party may take.

    Raises:
        ValueError: A name is no ``group/node``, is of Tieline's own group, or two of them become one id.
    """
    known: dict[EdgeId, str] = {EdgeId(edge): f"edge {edge!r}" for edge in own}
    table: dict[NodeKey, EdgeId] = {}
    for text in dict.fromkeys(nodes):
        group, slash, node = text.partition("/")
        if not slash or not group or not node or any(mark in text for mark in "+#\0") or "/" in node:
            raise ValueError(f"{text!r} is no Sparkplug node: 'group/node' is expected, without '+' and '#'")
        if group == topics.GROUP:
            raise ValueError(f"{text!r}: group {topics.GROUP!r} is that of Tieline's own edges, which need no admission")
        edge = EdgeId(id_part(f"{group}-{node}"))
        if edge in known:
            raise ValueError(f"{text!r} would be {edge!r}, which {known[edge]} is already: rename one of them")
        known[edge] = f"node {text!r}"
        table[group, node] = edge
    return table


@dataclass(slots=True)
class ForeignNames:
    """What the names of one node stand for; grows as births declare them, and remembers while the hub runs."""

    edge: EdgeId
    refused: int = 0
    _devices: dict[DeviceId, set[str | None]] = field(default_factory=dict)
    _points: dict[PointId, set[tuple[str | None, str]]] = field(default_factory=dict)

    def declare(self, device: str | None, names: Iterable[str]) -> None:
        """Take the names a birth declared."""
        self._devices.setdefault(_device_id(device), set()).add(device)
        for name in names:
            point = self._of(device, name)
            if point in self._points or len(self._points) < _MAX_POINTS:
                sources = self._points.setdefault(point, set())
                sources.add((device, name))
                if len(sources) == 2:
                    self.refused += 1
                    _log.warning("%s: %s has two sources, %s: neither is taken", self.edge, point, sorted(map(str, sources)))

    def device(self, device: str | None) -> DeviceId | None:
        """Id of a device; None when two names claim it."""
        known = _device_id(device)
        return known if self._devices.get(known) == {device} else None

    def point(self, device: str | None, name: str) -> PointId | None:
        """Point of a metric; None when it was not declared, or two names claim it or its device."""
        point = self._of(device, name)
        return point if self.device(device) and self._points.get(point) == {(device, name)} else None

    def _of(self, device: str | None, name: str) -> PointId:
        return PointId.of(self.edge, _device_id(device), id_part(name))


def _device_id(device: str | None) -> DeviceId:
    return NODE_DEVICE if device is None else DeviceId(id_part(device))


class Shelf(Protocol):
    """What is needed of a store; any :class:`tieline_cloud.store.ports.Store` is one."""

    def ingest_once(self, batch: ReadingBatch, source: str, key: str, sha256: str, at: datetime) -> tuple[Ingested, int]:
        """Store a delivery once, examined like everything that arrives."""
        ...

    def import_readings(self, batch: ReadingBatch, source: str, at: datetime) -> int:
        """Store history, once per point and instant."""
        ...

    def last(self, points: Sequence[PointId] | None = None) -> list[LastValue]:
        """Last values held."""
        ...


@dataclass(frozen=True, slots=True)
class _Delivery:
    key: str
    at: datetime
    present: list[Reading]
    history: list[Reading]


class ThirdPartyHistory:
    """Gathers values of third parties and stores them, at most once: what cannot be stored in time is dropped and counted.

    Args:
        shelf: The ledger; called in a thread.
        clock: For the instant of a delivery.
        counters: Counts rows stored, repeated and dropped.
    """

    def __init__(self, shelf: Shelf, clock: Clock, counters: LiveCounters) -> None:
        self._shelf = shelf
        self._clock = clock
        self._counters = counters
        self._waiting: list[tuple[Reading, bool]] = []
        self._newest: dict[PointId, datetime] = {}
        self._compared: set[PointId] = set()
        self._delivery: _Delivery | None = None
        self._deliveries = 0

    def add(self, value: LastValue, *, historical: bool = False) -> None:
        """Take a value; one that repeats an instant already held is passed over, as births repeat what data said.

        Args:
            value: The value.
            historical: Flushed from a buffer, so it may be older than what is held.
        """
        held = self._newest.get(value.point)
        if not historical:
            if held is not None and value.at <= held:
                self._counters.third_party_repeated += 1
                return
            self._newest[value.point] = value.at
        if len(self._waiting) >= _MAX_WAITING:
            self._counters.third_party_dropped += 1
            return
        self._waiting.append((Reading(value.point, value.value, value.at, Quality(value.quality)), historical))

    async def flush(self) -> None:
        """Store what waits; after a passing fault of the ledger the same delivery is tried again under its key."""
        if self._delivery is None and self._waiting:
            waiting, self._waiting = self._waiting, []
            now = self._clock.now()
            self._deliveries += 1
            self._delivery = _Delivery(
                f"{now.isoformat()}/{self._deliveries}",
                now,
                [row for row, historical in waiting if not historical],
                [row for row, historical in waiting if historical],
            )
        if self._delivery is None:
            return
        try:
            rows, repeated = await asyncio.to_thread(self._write, self._delivery)
        except TransientError as error:
            _log.warning("Third-party readings are not stored yet: %s", error)
            return
        self._delivery = None
        self._counters.third_party_rows += rows
        self._counters.third_party_repeated += repeated

    def _write(self, delivery: _Delivery) -> tuple[int, int]:
        """In a thread; rows stored, and rows the ledger held already."""
        rows = repeated = 0
        if delivery.present:
            present = self._unheld(delivery.present)
            repeated = len(delivery.present) - len(present)
            batch = ReadingBatch.of(present)
            columns = (batch.point_index, batch.at_us, batch.values, batch.quality)
            digest = hashlib.sha256(b"".join((*(p.encode() for p in batch.points), *(column.tobytes() for column in columns))))
            rows += self._shelf.ingest_once(batch, _SOURCE, delivery.key, digest.hexdigest(), delivery.at)[1]
            self._compared.update(batch.points)
        if delivery.history:
            batch = ReadingBatch.of(delivery.history)
            new = self._shelf.import_readings(batch, f"{_SOURCE} {delivery.key}", delivery.at)
            rows, repeated = rows + new, repeated + len(batch) - new
        return rows, repeated

    def _unheld(self, rows: list[Reading]) -> list[Reading]:
        """Without what an earlier life of the hub has stored: the first births after a start repeat it."""
        strange = sorted({row.point for row in rows} - self._compared)
        held = {value.point: value.at for value in self._shelf.last(strange)} if strange else {}
        return [row for row in rows if row.point not in held or row.measured_at > held[row.point]]


def foreign_tables(nodes: Mapping[NodeKey, EdgeId]) -> dict[NodeKey, ForeignNames]:
    """A table of names for each admitted node."""
    return {key: ForeignNames(edge) for key, edge in nodes.items()}
