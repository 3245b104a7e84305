"""Who is asked for a rebirth, and when: per node with growing pauses, over all nodes from one bucket of tokens.

A rebirth costs a node all of its births. Asked of a thousand at once, after a broker or a hub came back, it would be a
storm that makes the very gaps it is meant to heal.
"""

from __future__ import annotations

from dataclasses import dataclass

from tieline_cloud.ingest.host_table import NodeKey


@dataclass(frozen=True, slots=True)
class RebirthPace:
    """How fast rebirths are asked for, in seconds of wall time.

    Attributes:
        pause_s: Shortest time between two requests to one node; doubles while it has to be asked again and again.
        pause_cap_s: The pause grows no longer than this.
        calm_s: A node that needed none for so long, beyond its pause, begins with the shortest pause again.
        per_s: Requests a second over all nodes.
        burst: Requests at once over all nodes.
        grace_s: After the host came online, nodes that wait for it have so long to be born by themselves.
    """

    pause_s: float = 5.0
    pause_cap_s: float = 300.0
    calm_s: float = 60.0
    per_s: float = 50.0
    burst: int = 50
    grace_s: float = 2.0


@dataclass(slots=True)
class _Asked:
    at_s: float
    pause_s: float


class RebirthDesk:
    """Takes wishes and gives out what may be asked now; the clock is an argument."""

    def __init__(self, pace: RebirthPace | None = None) -> None:
        self._pace = pace or RebirthPace()
        self._wanted: dict[NodeKey, float] = {}
        self._asked: dict[NodeKey, _Asked] = {}
        self._tokens = float(self._pace.burst)
        self._filled_s: float | None = None

    @property
    def waiting(self) -> int:
        """Nodes that still have to be asked."""
        return len(self._wanted)

    def want(self, node: NodeKey, from_s: float = 0.0) -> None:
        """The node should be born again, asked from an instant on; wishes for one that already waits are one wish."""
        self._wanted[node] = min(from_s, self._wanted.get(node, from_s))

    def born(self, node: NodeKey) -> None:
        """It was born by itself: nobody has to ask any more."""
        self._wanted.pop(node, None)

    def due(self, now_s: float) -> list[NodeKey]:
        """Nodes to ask now, those that wait longest first."""
        pace = self._pace
        elapsed_s = 0.0 if self._filled_s is None else max(0.0, now_s - self._filled_s)
        self._filled_s = now_s
        self._tokens = min(float(pace.burst), self._tokens + elapsed_s * pace.per_s)
        ready = []
        for node in list(self._wanted):
            if self._tokens < 1.0:
                break
            asked = self._asked.get(node)
            if now_s < self._wanted[node]:
                continue
            if asked is not None and now_s - asked.at_s < asked.pause_s:
                continue
            again = asked is not None and now_s - asked.at_s < asked.pause_s + pace.calm_s
            pause_s = min(pace.pause_cap_s, 2 * asked.pause_s) if again and asked is not None else pace.pause_s
            self._asked[node] = _Asked(now_s, pause_s)
            del self._wanted[node]
            self._tokens -= 1.0
            ready.append(node)
        return ready
