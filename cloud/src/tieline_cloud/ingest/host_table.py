"""What a Sparkplug host knows of its nodes: births, sequence, deaths. Pure bookkeeping; messages in, findings out."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from tieline_core.sparkplug.metric import Metric, Payload, SparkplugError
from tieline_core.sparkplug.session import BirthTable, UnknownMetricError, bdseq_of, next_seq
from tieline_core.topics import SparkplugTopic

#: Group and name of a node.
NodeKey = tuple[str, str]
#: Messages of one node remembered to know a repetition.
_REMEMBERED: Final = 64


class Change(Enum):
    """What a message meant."""

    NODE_BORN = "node born"
    DEVICE_BORN = "device born"
    DATA = "data"
    DEVICE_DIED = "device died"
    NODE_DIED = "node died"
    STALE_DEATH = "death of an earlier session"
    DUPLICATE = "the same message again"
    REFUSED = "breaks the standard"
    LOST = "lost the thread"
    """Something is missing: the host asks for a rebirth; ``reason`` says what."""


@dataclass(frozen=True, slots=True)
class Arrived:
    """A message on its way into the table.

    Attributes:
        topic: Where it came from.
        payload: What it says.
        at_s: When it came, wall seconds that only grow.
        mark: Hash of topic and body; the same message again has the same one.
    """

    topic: SparkplugTopic
    payload: Payload
    at_s: float = 0.0
    mark: int | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """One message, understood.

    Attributes:
        change: What it meant.
        node: Whose it was.
        device: Its device, None for the node itself.
        metrics: With name, datatype and folded value.
        timestamp_ms: Of the payload.
        reason: Why it was refused or the thread was lost.
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
    expected: int | None = None
    """Sequence number that comes next; None = not born, or the thread is lost."""
    bdseq: int | None = None
    alive: bool = False
    dead_bdseq: int | None = None
    seen: deque[int] = field(default_factory=lambda: deque(maxlen=_REMEMBERED))
    waiting: dict[int, Arrived] = field(default_factory=dict)
    """Messages that came before one that is missing, by sequence number."""
    waiting_since_s: float = 0.0


class HostTable:
    """Nodes of one session of the host; a new session starts with a new table.

    Args:
        reorder_s: How long a missing message is waited for before the thread is lost; 0 = not at all.
        window: Messages of a node that may wait meanwhile.
        most_nodes: Further nodes are refused.
    """

    def __init__(self, reorder_s: float = 2.0, window: int = 100, most_nodes: int = 20_000) -> None:
        self._reorder_s = reorder_s
        self._window = window
        self._most_nodes = most_nodes
        self._nodes: dict[NodeKey, _Node] = {}
        self._gaps: set[NodeKey] = set()

    def alive(self) -> list[NodeKey]:
        """Nodes that are born and have not died."""
        return sorted(key for key, node in self._nodes.items() if node.alive)

    def take(self, arrived: Arrived) -> list[Finding]:
        """Understand one message and those it was waited for; commands are not for a host and give nothing."""
        topic = arrived.topic
        if topic.kind in ("NCMD", "DCMD"):
            return []
        key = (topic.group, topic.node)
        node = self._nodes.get(key)
        if node is None:
            if len(self._nodes) >= self._most_nodes:
                return [Finding(Change.REFUSED, key, reason=f"more than {self._most_nodes} nodes")]
            node = self._nodes[key] = _Node()
        if topic.kind == "NDEATH":
            return [self._death(key, node, arrived.payload)]
        if arrived.mark is not None and node.alive and arrived.mark in node.seen:
            return [Finding(Change.DUPLICATE, key, topic.device)]
        if topic.kind == "NBIRTH":
            return [self._birth(key, node, arrived)]
        return self._in_order(key, node, arrived)

    def expire(self, now_s: float) -> list[Finding]:
        """Nodes whose missing message has been waited for long enough."""
        late = [key for key in sorted(self._gaps) if now_s - self._nodes[key].waiting_since_s >= self._reorder_s]
        return [self._lost(key, self._nodes[key], f"seq {self._nodes[key].expected} is missing") for key in late]

    def _birth(self, key: NodeKey, node: _Node, arrived: Arrived) -> Finding:
        payload = arrived.payload
        self._forget_gap(key, node)
        node.alive, node.expected = False, None
        try:
            node.births.learn(None, payload.metrics)
        except SparkplugError as error:
            return Finding(Change.REFUSED, key, reason=f"NBIRTH: {error}")
        if payload.seq is None:
            return Finding(Change.REFUSED, key, reason="NBIRTH without a sequence number")
        node.seen.clear()
        self._remember(node, arrived)
        node.expected = next_seq(payload.seq)
        node.bdseq = bdseq_of(payload)
        node.alive = True
        return Finding(Change.NODE_BORN, key, None, payload.metrics, payload.timestamp_ms)

    def _death(self, key: NodeKey, node: _Node, payload: Payload) -> Finding:
        bdseq = bdseq_of(payload)
        # The will of an earlier connection may come after the birth of the next one.
        if node.alive and bdseq != node.bdseq:
            return Finding(Change.STALE_DEATH, key)
        # A goodbye is said by the node and by its will.
        if not node.alive and bdseq is not None and bdseq == node.dead_bdseq:
            return Finding(Change.DUPLICATE, key)
        self._forget_gap(key, node)
        node.alive, node.expected, node.dead_bdseq = False, None, bdseq
        return Finding(Change.NODE_DIED, key, timestamp_ms=payload.timestamp_ms)

    def _in_order(self, key: NodeKey, node: _Node, arrived: Arrived) -> list[Finding]:
        kind, seq = arrived.topic.kind, arrived.payload.seq
        if not node.alive or node.expected is None:
            return [Finding(Change.LOST, key, arrived.topic.device, reason=f"{kind} before a birth")]
        if seq != node.expected:
            return self._early(key, node, arrived)
        findings = []
        following: Arrived | None = arrived
        while following is not None:
            self._remember(node, following)
            node.expected = next_seq(node.expected)
            findings.append(self._follow(key, node, following))
            following = node.waiting.pop(node.expected, None)
        if not node.waiting:
            self._gaps.discard(key)
        return findings

    def _early(self, key: NodeKey, node: _Node, arrived: Arrived) -> list[Finding]:
        seq = arrived.payload.seq
        if seq is None or seq in node.waiting or not self._reorder_s or len(node.waiting) >= self._window:
            return [self._lost(key, node, f"{arrived.topic.kind} with seq {seq}, expected {node.expected}")]
        if not node.waiting:
            node.waiting_since_s = arrived.at_s
            self._gaps.add(key)
        self._remember(node, arrived)
        node.waiting[seq] = arrived
        return []

    def _lost(self, key: NodeKey, node: _Node, reason: str) -> Finding:
        self._forget_gap(key, node)
        node.expected = None
        return Finding(Change.LOST, key, reason=reason)

    def _forget_gap(self, key: NodeKey, node: _Node) -> None:
        node.waiting.clear()
        self._gaps.discard(key)

    @staticmethod
    def _remember(node: _Node, arrived: Arrived) -> None:
        if arrived.mark is not None:
            node.seen.append(arrived.mark)

    @staticmethod
    def _follow(key: NodeKey, node: _Node, arrived: Arrived) -> Finding:
        topic, payload = arrived.topic, arrived.payload
        device, metrics = topic.device, payload.metrics
        try:
            if topic.kind == "DDEATH":
                node.births.forget(device or "")
                return Finding(Change.DEVICE_DIED, key, device, timestamp_ms=payload.timestamp_ms)
            if topic.kind == "DBIRTH":
                node.births.learn(device, metrics)
                return Finding(Change.DEVICE_BORN, key, device, tuple(metrics), payload.timestamp_ms)
            whole: Sequence[Metric] = node.births.resolve(device, metrics)
        except UnknownMetricError as error:
            return Finding(Change.LOST, key, device, reason=str(error))
        except SparkplugError as error:
            if topic.kind == "DBIRTH":
                node.births.forget(device or "")
            return Finding(Change.REFUSED, key, device, reason=f"{topic.kind}: {error}")
        return Finding(Change.DATA, key, device, tuple(whole), payload.timestamp_ms)
