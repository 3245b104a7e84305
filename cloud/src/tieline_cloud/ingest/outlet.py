"""Where the durable lane's answers go, and who is told what happened on it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from tieline_cloud.ingest.connection import Inbound
from tieline_core.ids import EdgeId
from tieline_core.messages.telemetry import Event, Hello


class Outlet(Protocol):
    """Where answers go; a connection, or a test's notebook."""

    def publish(self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False) -> bool:
        """Hand a message over; false when there is no connection."""
        ...

    def acknowledge(self, messages: Sequence[Inbound]) -> None:
        """Send PUBACK."""
        ...


@dataclass(frozen=True, slots=True)
class Notices:
    """What the thread tells others; every one is called in the ledger thread and must not block."""

    hello: Callable[[Hello, int], None] = lambda _hello, _epoch: None
    heard: Callable[[EdgeId], None] = lambda _edge: None
    events: Callable[[Sequence[Event]], None] = lambda _events: None


UNHEARD: Final = Notices()
