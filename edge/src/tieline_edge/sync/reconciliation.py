"""The edge's side of reconciliation: says by day what it holds, and sends again what the hub asks for.

Requests come verified from the downlink. Sending again puts copies at the end of the streams, a few at a time, so that a
backfill of days waits behind what is measured now and never fills the ring; it goes on with the next session when the
connection is lost. The hub knows contents by their hash, so nothing doubles.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from tieline_core import topics
from tieline_core.clock import Clock
from tieline_core.messages.desired import StreamBacklog
from tieline_core.messages.reconciliation import (
    BackfillReply,
    BackfillRequest,
    DigestReply,
    DigestRequest,
    HourRow,
    RefusedReply,
)
from tieline_core.messages.telemetry import Stream
from tieline_core.reconcile import HOUR_US
from tieline_core.timegrid import from_us, to_us
from tieline_edge.outbox.holdings import Place
from tieline_edge.outbox.store import Outbox
from tieline_edge.sync.mqtt_session import Message, MqttSession

_log = logging.getLogger(__name__)
_DAY_US: Final = 24 * HOUR_US
#: Requests that may wait; a hub that asks more is told to come back.
_WAITING: Final = 4
#: Frames put at the end of a stream at once,
_STEP: Final = 64
#: only while fewer than this wait for the hub.
_MOST_WAITING: Final = 256
_LOOK_S: Final = 0.2
#: How soon a lost session is noticed at the latest while nothing is asked; a request wakes at once.
_IDLE_S: Final = 1.0
#: How often the hub is told how far a backfill is [s of wall time].
_TELL_S: Final = 1.0


@dataclass(slots=True)
class _Backfill:
    """A backfill under way; it outlives a session."""

    request: BackfillRequest
    left: list[Stream]
    total: int = 0
    frames: int = 0
    readings: int = 0
    place: Place | None = None
    #: Epoch and last numbers of the streams when the last copy was made; None = copies are still made.
    end: tuple[int, dict[Stream, int]] | None = None


class Reconciliation:
    """Answers requests over the durable connection.

    Args:
        outbox: What is held.
        clock: For the instants of answers.
    """

    def __init__(self, outbox: Outbox, clock: Clock) -> None:
        self._outbox = outbox
        self._clock = clock
        self._requests: deque[DigestRequest | BackfillRequest] = deque()
        self._refused: deque[str] = deque(maxlen=_WAITING)
        self._backfill: _Backfill | None = None
        self._stirred = asyncio.Event()

    def topics(self) -> Sequence[str]:
        """Requests come through the downlink."""
        return ()

    async def take(self, _message: Message) -> None:
        """Requests come through the downlink."""

    async def offer(self, request: DigestRequest | BackfillRequest) -> None:
        """Take a verified request."""
        if len(self._requests) >= _WAITING:
            self._refused.append(request.request_id)
        else:
            self._requests.append(request)
        self._stirred.set()

    async def serve(self, session: MqttSession) -> None:
        """Answer what was asked, one request after the other, until the session is lost.

        Raises:
            LinkLostError: The connection is gone.
            TransientError: The outbox refused.
        """
        while True:
            session.ensure_alive()
            while self._refused:
                await self._refuse(session, self._refused.popleft(), f"{_WAITING} requests wait already; ask again later")
            if self._backfill is not None:
                await self._send_again(session, self._backfill)
                self._backfill = None
            elif self._requests:
                await self._answer(session, self._requests.popleft())
            else:
                self._stirred.clear()
                try:
                    async with asyncio.timeout(_IDLE_S):
                        await self._stirred.wait()
                except TimeoutError:
                    continue

    async def _answer(self, session: MqttSession, request: DigestRequest | BackfillRequest) -> None:
        if isinstance(request, DigestRequest):
            await self._count(session, request)
            return
        span = to_us(request.start), to_us(request.end)
        total = sum([await self._outbox.holdings.count(stream, *span) for stream in request.streams])
        self._backfill = _Backfill(request, list(request.streams), total)
        _log.info("the hub asks for %d frames of %s to %s again", total, request.start, request.end)

    async def _refuse(self, session: MqttSession, request_id: str, reason: str) -> None:
        reply = RefusedReply(request_id=request_id, edge_id=self._outbox.edge, at=self._clock.now(), reason=reason)
        await session.publish(topics.reply(self._outbox.edge), reply.to_bytes())

    async def _held_from(self, streams: Sequence[Stream]) -> dict[Stream, datetime]:
        found = {stream: await self._outbox.holdings.oldest_us(stream) for stream in streams}
        return {stream: from_us(oldest) for stream, oldest in found.items() if oldest is not None}

    async def _count(self, session: MqttSession, request: DigestRequest) -> None:
        """One answer a day: none is large, and none holds the outbox for long."""
        start, end = to_us(request.start), to_us(request.end)
        days = range(start, end, _DAY_US)
        held_from = await self._held_from(request.streams)
        for part, day in enumerate(days, 1):
            hours = {
                stream: tuple(
                    HourRow.of(row) for row in await self._outbox.holdings.digests(stream, day, min(day + _DAY_US, end))
                )
                for stream in request.streams
            }
            reply = DigestReply(
                request_id=request.request_id,
                edge_id=self._outbox.edge,
                at=self._clock.now(),
                part=part,
                parts=len(days),
                hours=hours,
                held_from=held_from,
            )
            await session.publish(topics.reply(self._outbox.edge), reply.to_bytes())

    async def _send_again(self, session: MqttSession, work: _Backfill) -> None:
        span = to_us(work.request.start), to_us(work.request.end)
        told_s = float("-inf")
        while True:
            session.ensure_alive()
            backlog = await self._outbox.backlog()
            waiting = sum(row.frames for row in backlog.values())
            if work.left and waiting < _MOST_WAITING:
                await self._step(work, span)
                continue
            done = not work.left and await self._committed(work, backlog)
            if done or time.monotonic() - told_s >= _TELL_S:
                told_s = time.monotonic()
                progress = await self._progress(work, waiting, done=done)
                await session.publish(topics.reply(self._outbox.edge), progress.to_bytes())
            if done:
                return
            await asyncio.sleep(_LOOK_S)

    async def _step(self, work: _Backfill, span_us: tuple[int, int]) -> None:
        step = await self._outbox.repeat(work.left[0], span_us, work.place, _STEP)
        work.frames += step.frames
        work.readings += step.readings
        work.place = step.place
        if step.place is None:
            work.left.pop(0)

    async def _committed(self, work: _Backfill, backlog: Mapping[Stream, StreamBacklog]) -> bool:
        """Whether the hub has everything up to the last copy; what was measured since then need not be there."""
        epoch = await self._outbox.epoch()
        if work.end is None or work.end[0] != epoch:
            # A new epoch gives what waits new numbers.
            work.end = epoch, {stream: row.next_seq - 1 for stream, row in backlog.items()}
        return all(backlog[stream].committed_seq >= seq for stream, seq in work.end[1].items())

    async def _progress(self, work: _Backfill, waiting: int, *, done: bool) -> BackfillReply:
        return BackfillReply(
            request_id=work.request.request_id,
            edge_id=self._outbox.edge,
            at=self._clock.now(),
            frames=work.frames,
            readings=work.readings,
            waiting=waiting,
            total=work.total,
            done=done,
            held_from=await self._held_from(work.request.streams),
        )
