"""What a Sparkplug host knows of its nodes: births, sequence, deaths. Pure bookkeeping; messages in, findings out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum

from tieline_core.sparkplug.metric import Metric, Payload, SparkplugError
from tieline_core.sparkplug.session import BirthTable, SequenceCheck, UnknownMetricError, bdseq_of
from tieline_core.topics import SparkplugTopic

#: Group and name of a node.
NodeKey = tuple[str, str]


class Change(Enum):
    """What a message meant."""

    NODE_BORN = "node born"
    DEVICE_BORN = "device born"
    DATA = "data"
    DEVICE_DIED = "device died"
    NODE_DIED = "node died"
    STALE_DEATH = "death of an earlier session"
    LOST = "lost the thread"
    """Something is missing: the host asks for a rebirth; ``reason`` says what."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One message, understood.

    Attributes:
        change: What it meant.
        node: Whose it was.
        device: Its device, None for the node itself.
        metrics: With name, datatype and folded value.
        timestamp_ms: Of the payload.
        reason: Why the thread was lost.
    """

    change: Change
    node: NodeKey
    device: str | None = None
    metrics: tuple[Metric, ...] = ()
    timestamp_ms: int | None = None
    reason: str = ""


@dataclass(slots=True)
class _Node:
    births: BirthTable = field(default_factory=BirthTable)
    sequence: SequenceCheck = field(default_factory=SequenceCheck)
    bdseq: int | None = None
    alive: bool = False


class HostTable:
    """Nodes of one session of the host; a new session starts with a new table."""

    def __init__(self) -> None:
        self._nodes: dict[NodeKey, _Node] = {}

    def alive(self) -> list[NodeKey]:
        """Nodes that are born and have not died."""
        return sorted(key for key, node in self._nodes.items() if node.alive)

    def take(self, topic: SparkplugTopic, payload: Payload) -> Finding | None:
        """Understand one message; None for commands, which are not for a host.

        Raises:
            SparkplugError: A birth or value that breaks the standard.
        """
        key = (topic.group, topic.node)
        node = self._nodes.setdefault(key, _Node())
        if topic.kind == "NBIRTH":
            return self._birth(key, node, payload)
        if topic.kind == "NDEATH":
            return self._death(key, node, payload)
        if topic.kind in ("NCMD", "DCMD"):
            return None
        return self._follow(key, node, topic, payload)

    @staticmethod
    def _birth(key: NodeKey, node: _Node, payload: Payload) -> Finding:
        node.alive = False
        node.births.learn(None, payload.metrics)
        if not node.sequence.born(payload.seq):
            raise SparkplugError(f"NBIRTH of {key[1]} without a sequence number")
        node.bdseq = bdseq_of(payload)
        node.alive = True
        return Finding(Change.NODE_BORN, key, None, payload.metrics, payload.timestamp_ms)

    @staticmethod
    def _death(key: NodeKey, node: _Node, payload: Payload) -> Finding:
        # The will of an earlier connection may come after the birth of the next one.
        if node.alive and bdseq_of(payload) != node.bdseq:
            return Finding(Change.STALE_DEATH, key)
        node.alive = False
        return Finding(Change.NODE_DIED, key, timestamp_ms=payload.timestamp_ms)

    @staticmethod
    def _follow(key: NodeKey, node: _Node, topic: SparkplugTopic, payload: Payload) -> Finding:
        device = topic.device
        if not node.alive:
            return Finding(Change.LOST, key, device, reason=f"{topic.kind} before a birth")
        if not node.sequence.follows(payload.seq):
            return Finding(Change.LOST, key, device, reason=f"{topic.kind} with seq {payload.seq} leaves a gap")
        metrics: Sequence[Metric] = payload.metrics
        if topic.kind == "DDEATH":
            node.births.forget(device or "")
            return Finding(Change.DEVICE_DIED, key, device, timestamp_ms=payload.timestamp_ms)
        if topic.kind == "DBIRTH":
            node.births.learn(device, metrics)
            return Finding(Change.DEVICE_BORN, key, device, tuple(metrics), payload.timestamp_ms)
        try:
            whole = node.births.resolve(device, metrics)
        except UnknownMetricError as error:
            return Finding(Change.LOST, key, device, reason=str(error))
        return Finding(Change.DATA, key, device, whole, payload.timestamp_ms)
