"""What ingest needs to know; the hub's own settings tree is translated into this by the composition root."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from tieline_cloud.ingest.rates import Rate
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
        ca_file: PEM certificate of the authority that signed the broker's; None for the system's.
    """

    host: str
    port: int
    insecure: bool = False
    username: str | None = None
    password_file: Path | None = None
    ca_file: Path | None = None


@dataclass(frozen=True, slots=True)
class EdgeRates:
    """What the durable lane takes of one edge before it parses anything; wall time.

    Attributes:
        frames: Frames.
        bytes: Bytes of payload.
        hellos: Hellos; an edge that is turned away says it again after its own wait.
        epochs: New epochs; each costs three transactions and makes the edge send again.
        events: Events the hub raises about an edge; more of them are counted only.
        kept: Pieces kept in quarantine; more of them are counted only.
        kept_of_all: The same over all edges.
    """

    frames: Rate = field(default_factory=lambda: Rate(1000.0, 4000.0))
    bytes: Rate = field(default_factory=lambda: Rate(32e6, 128e6))
    hellos: Rate = field(default_factory=lambda: Rate(1.0, 8.0))
    epochs: Rate = field(default_factory=lambda: Rate(0.2, 6.0))
    events: Rate = field(default_factory=lambda: Rate(0.05, 10.0))
    kept: Rate = field(default_factory=lambda: Rate(0.1, 20.0))
    kept_of_all: Rate = field(default_factory=lambda: Rate(2.0, 200.0))


@dataclass(frozen=True, slots=True)
class IngestSettings:
    """Settings of both lanes.

    Attributes:
        broker: The hub's broker.
        client_prefix: The connections are ``<prefix>-durable`` and ``<prefix>-live``; one hub, one prefix.
        host_id: Sparkplug host application id.
        admitted_edges: Edges that may send; None admits every edge the broker lets in.
        max_points_per_edge: Points one edge may name; a frame that would add more goes to quarantine.
        third_party_nodes: ``group/node`` of Sparkplug nodes of others whose data are taken, at most once.
        max_pending: Frames held before the durable socket is no longer read; the windows of all edges should fit, because
            turns are shared among those only whose frames are here,
        max_pending_bytes: likewise their bytes.
        max_pending_per_edge: Frames held of one edge; more of them are turned away, and it sends them again. More than
            the windows of an edge's streams, so that an honest edge never meets it.
        commit_frames: A commit is made at the latest when this many frames wait,
        commit_after_s: or this long after the first of them came [s of wall time].
        commit_readings: Most readings of one commit, about.
        limits: What a frame may hold.
        rebirths: How fast nodes are asked for rebirths.
        reorder_s: How long a missing Sparkplug message is waited for before a rebirth is asked for [s of wall time].
        packet_bytes: Largest message the broker is asked to pass on (MQTT 5); a whole frame between this and its own
            limit is refused with its reason, so that the stream goes on behind it.
        rates: What one edge may ask for.
    """

    broker: BrokerAddress
    client_prefix: str = "hub"
    host_id: str = "hub"
    admitted_edges: frozenset[str] | None = None
    max_points_per_edge: int = 50_000
    third_party_nodes: frozenset[str] = frozenset()
    max_pending: int = 20_000
    max_pending_bytes: int = 64 * 1024 * 1024
    max_pending_per_edge: int = 256
    commit_frames: int = 512
    commit_after_s: float = 0.05
    commit_readings: int = 250_000
    limits: Limits = field(default_factory=lambda: DEFAULT_LIMITS)
    rebirths: RebirthPace = field(default_factory=RebirthPace)
    reorder_s: float = 2.0
    packet_bytes: int = 16 * 1024 * 1024
    rates: EdgeRates = field(default_factory=EdgeRates)
