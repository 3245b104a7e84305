"""Events as they happen, for everyone who follows along; the hub's own ones are kept."""

from __future__ import annotations

import asyncio
import uuid
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

from tieline_cloud.dispatch.documents import DocumentStore
from tieline_core.clock import Clock
from tieline_core.ids import DeviceId, EdgeId
from tieline_core.messages.telemetry import Event, Severity

KIND: Final = "event"
_REMEMBERED: Final = 500
_QUEUE: Final = 200


class EventFeed:
    """Hands each event to every follower; a follower that does not keep up loses the oldest ones."""

    def __init__(self, documents: DocumentStore, clock: Clock) -> None:
        self._documents = documents
        self._clock = clock
        self._recent: deque[Event] = deque(maxlen=_REMEMBERED)
        self._followers: set[asyncio.Queue[Event]] = set()
        self._listeners: list[Callable[[Event], None]] = []

    def listen(self, callback: Callable[[Event], None]) -> None:
        """Call back for every event from now on."""
        self._listeners.append(callback)

    def pass_on(self, event: Event) -> None:
        """Tell followers of an event that is kept elsewhere (in the ledger). Call on the event loop."""
        self._recent.append(event)
        for queue in self._followers:
            if queue.full():
                queue.get_nowait()
            queue.put_nowait(event)
        for callback in self._listeners:
            callback(event)

    def raise_event(self, edge: EdgeId, severity: Severity, code: str, text: str, device: DeviceId | None = None) -> Event:
        """Keep and pass on an event of the hub itself, about one edge."""
        event = Event(
            event_id=uuid.uuid4().hex,
            edge_id=edge,
            device_id=device,
            severity=severity,
            code=code,
            text=text[:500],
            at=self._clock.now(),
        )
        self._documents.put(KIND, event.event_id, event.to_bytes(), event.at)
        self.pass_on(event)
        return event

    def kept(self, limit: int) -> list[Event]:
        """The hub's own events, newest first."""
        return [Event.from_bytes(body, "hub memory") for body in self._documents.newest(KIND, limit)]

    def after(self, event_id: str | None) -> list[Event]:
        """Remembered events after the named one, oldest first; none when it is not remembered."""
        ids = [event.event_id for event in self._recent]
        return list(self._recent)[ids.index(event_id) + 1 :] if event_id in ids else []

    @asynccontextmanager
    async def follow(self) -> AsyncIterator[asyncio.Queue[Event]]:
        """A queue that receives every event while the context is open."""
        queue: asyncio.Queue[Event] = asyncio.Queue(_QUEUE)
        self._followers.add(queue)
        try:
            yield queue
        finally:
            self._followers.discard(queue)
