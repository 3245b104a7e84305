"""From the control loop to the outbox without waiting for the disk: a bounded queue, emptied with every commit."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from tieline_core.clock import Clock
from tieline_core.errors import TransientError
from tieline_core.ids import DeviceId, EdgeId
from tieline_core.messages.telemetry import Event, Severity
from tieline_core.quantities import Reading
from tieline_edge.outbox.ports import Recorder

_LOG = logging.getLogger(__name__)
MAX_WAITING: Final = 5000
#: Most items of one commit.
MAX_TOGETHER: Final = 500
_RETRY_S: Final = 0.5

#: Told of each derived reading after it was recorded, e.g. the forecaster's history.
Tap = Callable[[Reading], Awaitable[None]]


def _random_id() -> str:
    return uuid.uuid4().hex


@dataclass(slots=True)
class OutletCounters:
    """What has passed."""

    events: int = 0
    readings: int = 0
    dropped: int = 0


class Outlet:
    """Takes readings and events from the loop and records them in order.

    Args:
        edge: Whose events they are.
        clock: For the stamps of events.
        recorder: The outbox.
        new_id: Makes the ids of events.
    """

    def __init__(self, edge: EdgeId, clock: Clock, recorder: Recorder, new_id: Callable[[], str] = _random_id) -> None:
        self.counters = OutletCounters()
        self.taps: list[Tap] = []
        #: Told of each event at once, whatever the disk does.
        self.listeners: list[Callable[[Event], None]] = []
        self._edge = edge
        self._clock = clock
        self._recorder = recorder
        self._new_id = new_id
        self._queue: asyncio.Queue[Event | Sequence[Reading]] = asyncio.Queue(MAX_WAITING)

    def tell(
        self, severity: Severity, code: str, text: str, device: DeviceId | None = None, data: Mapping[str, object] | None = None
    ) -> None:
        """Queue an event, stamped now."""
        event = Event(
            event_id=self._new_id(),
            edge_id=self._edge,
            device_id=device,
            severity=severity,
            code=code,
            text=text[:500],
            at=self._clock.now(),
            data=dict(data or {}),
        )
        level = logging.WARNING if severity is Severity.ALARM else logging.INFO
        _LOG.log(level, "%s: %s", code, text)
        for listener in self.listeners:
            listener(event)
        self._put(event)

    def keep(self, readings: Sequence[Reading]) -> None:
        """Queue readings; when the disk has been away for too long they are dropped and counted, control goes on."""
        if readings:
            self._put(readings)

    def _put(self, item: Event | Sequence[Reading]) -> None:
        try:
            self._queue.put_nowait(item)
        except asyncio.QueueFull:
            self.counters.dropped += 1

    async def run(self) -> None:
        """Record until cancelled; a disk that refuses is tried again."""
        while True:
            together = [await self._queue.get()]
            # A commit takes its time, and what comes meanwhile has to go with the next one: one at a time would never catch up.
            while len(together) < MAX_TOGETHER and not self._queue.empty():
                together.append(self._queue.get_nowait())
            try:
                await self._record(together)
            finally:
                for _ in together:
                    self._queue.task_done()

    async def drain(self, seconds: float) -> None:
        """Wait until all that was queued is recorded, at most this long (wall time)."""
        try:
            async with asyncio.timeout(seconds):
                await self._queue.join()
        except TimeoutError:
            _LOG.warning("%d items were not recorded before the end", self._queue.qsize())

    async def _record(self, together: Sequence[Event | Sequence[Reading]]) -> None:
        left = list(together)
        while left:
            async with asyncio.TaskGroup() as group:
                attempts = [group.create_task(self._attempt(item)) for item in left]
            refused = [error for attempt in attempts if (error := attempt.result()) is not None]
            left = [item for item, attempt in zip(left, attempts, strict=True) if attempt.result() is not None]
            if left:
                _LOG.warning("%d items are not recorded yet: %s", len(left), refused[0])
                await asyncio.sleep(_RETRY_S)
        for item in together:
            if not isinstance(item, Event):
                for tap in self.taps:
                    for reading in item:
                        await tap(reading)

    async def _attempt(self, item: Event | Sequence[Reading]) -> TransientError | None:
        try:
            if isinstance(item, Event):
                await self._recorder.record_event(item)
                self.counters.events += 1
            else:
                await self._recorder.record(item)
                self.counters.readings += len(item)
        except TransientError as error:
            return error
        return None
