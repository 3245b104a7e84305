"""Ingest as one thing to start and stop: both lanes, the fleet they teach, and what they tell others."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Final, Self

from tieline_cloud.fleet.registry import DOCUMENTS, FleetRegistry
from tieline_cloud.ingest.counters import DurableCounters, LiveCounters
from tieline_cloud.ingest.durable import DurableLane
from tieline_cloud.ingest.live import LiveHost, LiveNotices
from tieline_cloud.ingest.outlet import Notices
from tieline_cloud.ingest.settings import IngestSettings
from tieline_cloud.store.ports import LastValue, Store
from tieline_core.clock import Clock
from tieline_core.errors import TransientError
from tieline_core.ids import EdgeId
from tieline_core.messages.desired import Reported
from tieline_core.messages.telemetry import Event, Hello

_log = logging.getLogger(__name__)
_KEEP_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class IngestCallbacks:
    """Who wants to know; every one is called in the event loop and must not block.

    Attributes:
        hello: An edge said hello and was granted this epoch: publish its desired state with the new nonce.
        events: Events were committed, of edges or of the hub itself.
        reported: An edge reported its state; also once for each retained report after a connect.
        values: New values on the live lane.
    """

    hello: Callable[[Hello, int], None] = lambda _hello, _epoch: None
    events: Callable[[Sequence[Event]], None] = lambda _events: None
    reported: Callable[[Reported], None] = lambda _reported: None
    values: Callable[[Sequence[LastValue]], None] = lambda _values: None


class Ingest:
    """Both lanes of the hub, as an async context manager.

    When a lane fails for good (the ledger cannot go on), the body of the ``async with`` is cancelled and the error comes
    out of it, as from a task group.

    Args:
        settings: Broker, pace and limits.
        ledger: Where frames are committed and the fleet is kept; opened before and closed after.
        clock: For stamps in records.
        callbacks: Who wants to know.

    Attributes:
        fleet: Edges and devices; use it in the event loop.
        live: The live lane with its values.
    """

    def __init__(
        self, settings: IngestSettings, ledger: Store, clock: Clock, callbacks: IngestCallbacks = IngestCallbacks()
    ) -> None:
        self._ledger = ledger
        self._callbacks = callbacks
        self._unkept: dict[str, tuple[bytes, datetime]] = {}
        self.fleet = FleetRegistry(clock, ledger.documents(DOCUMENTS), self._keep_later)
        notices = Notices(hello=self._hello, heard=self._heard, events=self._events)
        self.durable = DurableLane(settings, ledger, clock, notices, self.fleet.durable_lost)
        live = LiveNotices(values=callbacks.values, reported=callbacks.reported)
        self.live = LiveHost(settings, self.fleet, clock, live, ledger, ledger)
        self._group = asyncio.TaskGroup()
        self._tasks: list[asyncio.Task[None]] = []
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def durable_counters(self) -> DurableCounters:
        """Durable lane since the start."""
        return self.durable.counters

    @property
    def live_counters(self) -> LiveCounters:
        """Live lane since the start."""
        return self.live.counters

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        await self._group.__aenter__()
        self._tasks = [
            self._group.create_task(self.durable.run(), name="durable lane"),
            self._group.create_task(self.live.run(), name="live lane"),
            self._group.create_task(self._keep_fleet(), name="fleet keeper"),
        ]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        try:
            await self._group.__aexit__(kind, error, trace)
        finally:
            self.fleet.keep_births()
            await asyncio.shield(asyncio.to_thread(self._write_fleet))

    # From the ledger thread into the event loop

    def _on_loop(self, call: Callable[[], None]) -> None:
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop has closed: nobody is left to tell
                self._loop.call_soon_threadsafe(call)

    def _hello(self, hello: Hello, epoch: int) -> None:
        def tell() -> None:
            self.fleet.hello(hello, epoch)
            self._callbacks.hello(hello, epoch)

        self._on_loop(tell)

    def _heard(self, edge: EdgeId) -> None:
        self._on_loop(lambda: self.fleet.durable_heard(edge))

    def _events(self, events: Sequence[Event]) -> None:
        self._on_loop(lambda: self._callbacks.events(events))

    # The registry's memory: written beside the event loop, because a commit waits for the disk

    def _keep_later(self, edge: str, body: bytes, at: datetime) -> None:
        self._unkept[edge] = (body, at)

    async def _keep_fleet(self) -> None:
        while True:
            await asyncio.sleep(_KEEP_S)
            self.fleet.review()
            if self._unkept:
                await asyncio.to_thread(self._write_fleet)

    def _write_fleet(self) -> None:
        while self._unkept:
            edge, (body, at) = self._unkept.popitem()
            try:
                self._ledger.put_document(DOCUMENTS, edge, body, at)
            except TransientError as error:
                self._unkept.setdefault(edge, (body, at))
                _log.warning("The registry's entry of %s is not kept yet: %s", edge, error)
                return
