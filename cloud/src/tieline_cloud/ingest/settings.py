"""What ingest needs to know; the hub's own settings tree is translated into this by the composition root."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from tieline_cloud.ingest.rebirth import RebirthPace
from tieline_core.frame import DEFAULT_LIMITS, Limits


@dataclass(frozen=True, slots=True)
class BrokerAddress:
    """The hub's broker.

    Attributes:
        host: Name or address.
        port: TCP port.
        insecure: Plain TCP instead of TLS; for loopback and demonstration only.
        username: User, None for none.
        password_file: File with the password of the user.
    """

    host: str
    port: int
    insecure: bool = False
    username: str | None = None
    password_file: Path | None = None


@dataclass(frozen=True, slots=True)
class IngestSettings:
    """Settings of both lanes.

    Attributes:
        broker: The hub's broker.
        client_prefix: The connections are ``<prefix>-durable`` and ``<prefix>-live``; one hub, one prefix.
        host_id: Sparkplug host application id.
        admitted_edges: Edges that may send; None admits every edge the broker lets in.
        third_party_nodes: ``group/node`` of Sparkplug nodes of others whose data are taken, at most once.
        max_pending: Frames held before the durable socket is no longer read.
        commit_frames: A commit is made at the latest when this many frames wait,
        commit_after_s: or this long after the first of them came [s of wall time].
        limits: What a frame may hold.
        rebirths: How fast nodes are asked for rebirths.
        reorder_s: How long a missing Sparkplug message is waited for before a rebirth is asked for [s of wall time].
    """

    broker: BrokerAddress
    client_prefix: str = "hub"
    host_id: str = "hub"
    admitted_edges: frozenset[str] | None = None
    third_party_nodes: frozenset[str] = frozenset()
    max_pending: int = 500
    commit_frames: int = 200
    commit_after_s: float = 0.05
    limits: Limits = field(default_factory=lambda: DEFAULT_LIMITS)
    rebirths: RebirthPace = field(default_factory=RebirthPace)
    reorder_s: float = 2.0
