"""What a running edge serves by itself: status page, status, why, alarms and metrics; on loopback, and read-only on a LAN."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from http import HTTPStatus
from typing import Any, Final, TypeVar
from zoneinfo import ZoneInfo

from tieline_core.errors import BadInputError
from tieline_core.messages.telemetry import IssuedForecast
from tieline_edge import status as status_document
from tieline_edge import why
from tieline_edge.bootstrap import Composition
from tieline_edge.control.explain import alarms
from tieline_edge.lanes import Lanes
from tieline_edge.metrics import exposition
from tieline_edge.page.html import status_page
from tieline_edge.pages import Handler, Page

#: However many look at it on the network, the outbox is asked this seldom [wall s].
_FRESH_S: Final = 0.5
_ALARM_SPAN: Final = timedelta(days=1)
#: Questions to the trace that may wait; each reads a file in a thread, and threads are shared with control.
WAITING: Final = 4


_T = TypeVar("_T")


class _BusyError(Exception):
    """Enough questions to the trace wait already."""


@dataclass(frozen=True, slots=True)
class Local:
    """What only the agent itself knows.

    Attributes:
        ready_s: How long the start took [s]; None while starting.
        forecast: State of local forecasting, in words.
        issued: The last forecast.
    """

    ready_s: float | None
    forecast: str
    issued: IssuedForecast | None = None


class LocalPages:
    """Makes the pages of one agent.

    Args:
        parts: The agent.
        lanes: Its lanes.
        local: What only the agent knows, asked for each page.
    """

    def __init__(self, parts: Composition, lanes: Lanes, local: Callable[[], Local]) -> None:
        self._parts, self._lanes, self._local = parts, lanes, local
        self._made: tuple[float, dict[str, Any]] | None = None
        self._making = asyncio.Lock()
        self._reading: set[asyncio.Task[Any]] = set()
        self._turn = asyncio.Lock()

    def read_only(self) -> dict[str, Handler]:
        """Pages that anybody on the substation's network may see."""
        return {"/": self._page, "/status": self._shared_status, "/why": self._why, "/alarms": self._alarms}

    def loopback(self) -> dict[str, Handler]:
        """All pages."""
        return {**self.read_only(), "/status": self._status, "/metrics": self._metrics, "/tags": self._tags}

    async def document(self) -> dict[str, Any]:
        """The status document of now."""
        report, local = await self._lanes.reporter.report(), self._local()
        return status_document.document(
            self._parts,
            report.backlog,
            report.outbox,
            hub_online=self._lanes.uplink.online,
            hub_heard_at=self._lanes.uplink.heard_at,
            ready_s=local.ready_s,
            forecast=local.forecast,
            issued=local.issued,
        )

    async def _shared_status(self, _query: Mapping[str, str]) -> Page:
        async with self._making:
            if self._made is None or time.monotonic() - self._made[0] > _FRESH_S:
                made = await self.document()
                self._made = time.monotonic(), made
            return Page.of_json(self._made[1])

    async def _page(self, _query: Mapping[str, str]) -> Page:
        return status_page()

    async def _status(self, _query: Mapping[str, str]) -> Page:
        return Page.of_json(await self.document())

    async def _metrics(self, _query: Mapping[str, str]) -> Page:
        body = exposition(self._parts, await self.document())
        return Page(HTTPStatus.OK, "text/plain; version=0.0.4; charset=utf-8", body)

    async def _why(self, query: Mapping[str, str]) -> Page:
        parts = self._parts
        now, zone = parts.clock.now(), ZoneInfo(parts.settings.site.time_zone)
        try:
            return Page.of_json(await self._of_trace(partial(why.answer, parts.paths.trace, query, now, zone)))
        except _BusyError as error:
            return Page.problem(HTTPStatus.SERVICE_UNAVAILABLE, str(error))

    async def _alarms(self, _query: Mapping[str, str]) -> Page:
        parts = self._parts
        now = parts.clock.now()
        try:
            found = await self._of_trace(partial(alarms, parts.paths.trace, now - _ALARM_SPAN, now))
        except _BusyError as error:
            return Page.problem(HTTPStatus.SERVICE_UNAVAILABLE, str(error))
        except BadInputError:
            # A trace that cannot be read must not hide how the edge stands.
            found = []
        return Page.of_json({"alarms": found})

    async def _of_trace(self, read: Callable[[], _T]) -> _T:
        """Read the trace in a thread, one after the other: a client that hangs up ends its wait, not the reading.

        Raises:
            _BusyError: Enough wait already.
        """
        if len(self._reading) >= WAITING:
            raise _BusyError(f"{WAITING} questions wait already; ask again later")

        async def in_turn() -> _T:
            async with self._turn:
                await asyncio.to_thread(self._parts.trace.flush)
                return await asyncio.to_thread(read)

        task = asyncio.create_task(in_turn(), name="page of the trace")
        self._reading.add(task)
        task.add_done_callback(self._done)
        return await asyncio.shield(task)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._reading.discard(task)
        if not task.cancelled():
            task.exception()  # whoever asked may have gone; then nobody else takes it

    async def _tags(self, _query: Mapping[str, str]) -> Page:
        return Page.of_json(self._parts.tags.document())
