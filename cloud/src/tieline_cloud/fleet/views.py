"""What the fleet looks like at one instant: frozen values for API and console."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from tieline_core.ids import DeviceId, EdgeId
from tieline_core.messages.desired import Reported


@dataclass(frozen=True, slots=True)
class EdgeStatus:
    """How one edge stands, from births, hellos and its own report.

    Attributes:
        edge_id: The edge.
        online_live: Its Sparkplug birth is valid: no death since.
        online_durable: A hello, frame or report came lately on the durable lane.
        last_heard: When anything last came from it.
        epoch: Epoch granted to it, None before its first hello.
        reported: Its own word on how it stands, None before the first.
        nonce: Of its newest hello: what a desired state has to carry.
        software: What it says it runs.
        born_at: Its newest birth.
        third_party: Its Sparkplug name as ``group/node`` when it is a node of somebody else: shown and stored at most
            once, never planned or commanded; None = an edge of ours.
        offline_since: When the live lane lost it, by the hub's clock; None while it is online or was never born.
    """

    edge_id: EdgeId
    online_live: bool = False
    online_durable: bool = False
    last_heard: datetime | None = None
    epoch: int | None = None
    reported: Reported | None = None
    nonce: str | None = None
    software: str | None = None
    born_at: datetime | None = None
    third_party: str | None = None
    offline_since: datetime | None = None

    def heard(self, at: datetime) -> EdgeStatus:
        """The same, heard at this instant."""
        return replace(self, last_heard=at if self.last_heard is None else max(at, self.last_heard))


@dataclass(frozen=True, slots=True)
class DeviceStatus:
    """One device as its birth described it.

    Attributes:
        edge_id: Its edge.
        device_id: The device.
        online: Born, and neither it nor its edge has died since.
        metrics: Names of its numeric metrics, in the order of the birth.
        born_at: Its newest birth.
        role: What it is for, as its birth says; None when it does not.
        offline_since: When it or its edge died, by the hub's clock; None while it is online or was never born.
    """

    edge_id: EdgeId
    device_id: DeviceId
    online: bool
    metrics: tuple[str, ...]
    born_at: datetime | None
    role: str | None = None
    offline_since: datetime | None = None
