"""The hub's side of reconciliation: ask an edge by signed request, compare by hour, have the missing sent again.

A request goes out over dispatch's connection and is answered on the edge's reply topic. The edge may be away or cut off in
the middle: whoever asked is told how far it came, and asking again is harmless.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Protocol

from tieline_cloud.dispatch.desired import CLOCK_SLACK
from tieline_cloud.dispatch.keys import Sealer
from tieline_cloud.dispatch.publisher import Publisher
from tieline_core import topics
from tieline_core.clock import Clock
from tieline_core.errors import BadInputError, PermanentError, TransientError
from tieline_core.ids import EdgeId
from tieline_core.messages.explanation import ExplainReply
from tieline_core.messages.reconciliation import (
    AnyReply,
    AnyRequest,
    BackfillReply,
    BackfillRequest,
    DigestReply,
    DigestRequest,
    RefusedReply,
    read_reply,
)
from tieline_core.messages.telemetry import Skip, Stream
from tieline_core.reconcile import HOUR_US, HourDigest, differing
from tieline_core.signing import EnvelopeType
from tieline_core.timegrid import from_us, to_us

_log = logging.getLogger(__name__)
#: An edge that says nothing for this long has not got the request, or is gone [s of wall time].
SILENCE_S: Final = 30.0
_VALID: Final = timedelta(minutes=5)
_QUEUED: Final = 256

#: Told how far it is: share and words.
Tell = Callable[[float, str], None]


class NoReplyError(TransientError):
    """The edge did not answer, or stopped in the middle."""


class RequestRefusedError(PermanentError):
    """The edge will not do it now."""


class Holdings(Protocol):
    """What reconciliation asks of the store."""

    def frame_digests(self, edge: EdgeId, stream: Stream, start: datetime, end: datetime) -> list[HourDigest]:
        """What is held of a stream by hour, skips excluded."""
        ...

    def skips(self, edge: str | None = None) -> list[Skip]:
        """Declared gaps."""
        ...


@dataclass(frozen=True, slots=True)
class Question:
    """Which edge, which hours, which streams; start and end are widened to whole hours."""

    edge: EdgeId
    start: datetime
    end: datetime
    streams: tuple[Stream, ...] = tuple(Stream)

    def fields(self) -> dict[str, Any]:
        """The fields of a request."""
        first, last = to_us(self.start) // HOUR_US, -(-to_us(self.end) // HOUR_US)
        return {
            "request_id": uuid.uuid4().hex,
            "edge_id": self.edge,
            "start": from_us(first * HOUR_US),
            "end": from_us(last * HOUR_US),
            "streams": self.streams,
        }


class EdgeRequests:
    """Signs requests and hands replies to whoever asked. Lives in the event loop.

    Args:
        sealer: Signs.
        publisher: The way to the broker.
        clock: For validity.
        silence_s: How long an edge may say nothing [s of wall time].
    """

    def __init__(self, sealer: Sealer, publisher: Publisher, clock: Clock, silence_s: float = SILENCE_S) -> None:
        self._sealer = sealer
        self._publisher = publisher
        self._clock = clock
        self._silence_s = silence_s
        self._asked: dict[str, tuple[EdgeId, asyncio.Queue[AnyReply]]] = {}
        #: Replies that could not be read or nobody asked for.
        self.strays = 0

    def hear(self, topic: str, payload: bytes) -> None:
        """Take what came on a reply topic; what is no answer to a question of ours is counted and dropped."""
        try:
            reply, edge = read_reply(payload, topic), topics.edge_of(topic)
        except (BadInputError, ValueError) as error:
            self.strays += 1
            _log.warning("%s: no reply: %s", topic, error)
            return
        asked = self._asked.get(reply.request_id)
        if asked is None or not asked[0] == edge == reply.edge_id or asked[1].full():
            self.strays += 1
            return
        asked[1].put_nowait(reply)

    @asynccontextmanager
    async def asking(self, request: AnyRequest) -> AsyncIterator[asyncio.Queue[AnyReply]]:
        """Send a request; its replies arrive in the queue while the context is open.

        Raises:
            TransientError: The broker did not take it.
        """
        edge, now = request.edge_id, self._clock.now()
        # A fast simulated clock must not outrun the message.
        until = now + _VALID * max(1.0, self._clock.speed())
        envelope, _ = self._sealer.seal(
            EnvelopeType.REQUEST, edge, request.to_bytes(), now=now, valid=(now - CLOCK_SLACK, until)
        )
        replies: asyncio.Queue[AnyReply] = asyncio.Queue(_QUEUED)
        self._asked[request.request_id] = (edge, replies)
        try:
            await self._publisher.publish(topics.request(edge), envelope, retain=False)
            yield replies
        finally:
            del self._asked[request.request_id]

    async def next(
        self, replies: asyncio.Queue[AnyReply], edge: EdgeId, so_far: str, silence_s: float | None = None
    ) -> DigestReply | BackfillReply | ExplainReply:
        """The next reply; ``silence_s`` where this question may wait less than others.

        Raises:
            NoReplyError: None came in time.
            RequestRefusedError: The edge said no.
        """
        try:
            async with asyncio.timeout(silence_s := silence_s or self._silence_s):
                reply = await replies.get()
        except TimeoutError as error:
            raise NoReplyError(
                f"edge {edge} said nothing for {silence_s:g} s ({so_far}); is it connected, does it know the hub's key?"
            ) from error
        if isinstance(reply, RefusedReply):
            raise RequestRefusedError(f"edge {edge} refuses: {reply.reason}")
        return reply


class Reconciler:
    """Compares and fills.

    Args:
        requests: The way to the edges.
        holdings: What the hub holds; asked in a thread.
    """

    def __init__(self, requests: EdgeRequests, holdings: Holdings) -> None:
        self._requests = requests
        self._holdings = holdings

    async def reconcile(self, question: Question, tell: Tell = lambda _share, _words: None) -> dict[str, Any]:
        """Counts and digests of both sides by stream and hour; see :func:`compare` for the keys.

        Raises:
            NoReplyError: The edge does not answer.
            RequestRefusedError: It says no.
            TransientError: The broker is away.
        """
        request = DigestRequest(**question.fields())
        parts: dict[int, DigestReply] = {}
        async with self._requests.asking(request) as replies:
            wanted = 1
            while len(parts) < wanted:
                so_far = f"{len(parts)} of {wanted} days came" if parts else "nothing came"
                reply = await self._requests.next(replies, question.edge, so_far)
                if isinstance(reply, DigestReply) and reply.part <= reply.parts:
                    parts[reply.part], wanted = reply, reply.parts
                    tell(0.9 * len(parts) / wanted, f"day {len(parts)} of {wanted}")
        tell(0.95, "counting on this side")
        mine = {
            stream: await asyncio.to_thread(self._holdings.frame_digests, question.edge, stream, request.start, request.end)
            for stream in question.streams
        }
        skips = await asyncio.to_thread(self._holdings.skips, question.edge)
        return compare(request, mine, [parts[number] for number in sorted(parts)], skips)

    async def backfill(self, question: Question, tell: Tell = lambda _share, _words: None) -> dict[str, Any]:
        """Have the edge send everything it holds of a span again, and wait until the hub has committed it.

        Raises:
            NoReplyError: The edge does not answer; what it has put in line by then comes all the same.
            RequestRefusedError: It says no.
            TransientError: The broker is away.
        """
        request = BackfillRequest(**question.fields())
        so_far = "nothing came"
        async with self._requests.asking(request) as replies:
            while True:
                reply = await self._requests.next(replies, question.edge, so_far)
                if not isinstance(reply, BackfillReply):
                    continue
                so_far = f"{reply.frames} of {reply.total} frames in line, {reply.waiting} not committed yet"
                sent = max(0, reply.frames - reply.waiting)
                tell(sent / reply.total if reply.total else 1.0, so_far)
                if reply.done:
                    break
        return {
            "edge": question.edge,
            "from": request.start.isoformat(),
            "to": request.end.isoformat(),
            "frames": reply.frames,
            "readings": reply.readings,
            "held_from": {stream.value: at.isoformat() for stream, at in reply.held_from.items()},
            "no_longer_held": _gone(request, reply.held_from),
        }


def _gone(request: DigestRequest | BackfillRequest, held_from: dict[Stream, datetime]) -> list[str]:
    """What the ring of the edge no longer holds of a span, in words."""
    words = []
    for stream in request.streams:
        oldest = held_from.get(stream)
        if oldest is None:
            words.append(f"{stream}: nothing is held")
        elif oldest > request.start:
            words.append(f"{stream}: nothing before {oldest.isoformat()} is held")
    return words


def compare(
    request: DigestRequest, mine: dict[Stream, list[HourDigest]], parts: Sequence[DigestReply], skips: Sequence[Skip]
) -> dict[str, Any]:
    """Both sides beside each other.

    Returns:
        ``equal``, ``streams`` (by name: counts of both sides, ``differing`` hours with both rows, ``only_here``: hours the
        ring of the edge no longer holds), ``skips`` (declared gaps by reason), ``no_longer_held``.
    """
    held_from = parts[0].held_from if parts else {}
    streams: dict[str, Any] = {}
    for stream in request.streams:
        there = sorted(row.digest_row() for part in parts for row in part.hours.get(stream, ()))
        oldest = held_from.get(stream)
        forgets_us = to_us(request.end) if oldest is None else to_us(oldest) // HOUR_US * HOUR_US + HOUR_US
        streams[stream.value] = _compare_stream(sorted(mine[stream]), there, forgets_us)
    return {
        "edge": request.edge_id,
        "from": request.start.isoformat(),
        "to": request.end.isoformat(),
        "equal": all(row["equal"] for row in streams.values()),
        "streams": streams,
        "skips": _by_reason(skips),
        "no_longer_held": _gone(request, held_from),
    }


def _compare_stream(here: Sequence[HourDigest], there: Sequence[HourDigest], forgets_us: int) -> dict[str, Any]:
    """One stream; before ``forgets_us`` the ring of the edge may have begun to forget, and having less is no difference."""
    hub, edge = {row.hour_us: row for row in here}, {row.hour_us: row for row in there}
    wrong = differing(here, there)
    forgotten = {hour for hour in wrong if hour < forgets_us and _has_less(edge.get(hour), hub.get(hour))}
    named = [hour for hour in wrong if hour not in forgotten]
    return {
        "equal": not named,
        "hours": len(hub.keys() | edge.keys()),
        "hub": _sum(here),
        "edge": _sum(there),
        "differing": [
            {"hour": from_us(hour).isoformat(), "hub": _row(hub.get(hour)), "edge": _row(edge.get(hour))} for hour in named
        ],
        "only_here": len(forgotten),
    }


def _by_reason(skips: Sequence[Skip]) -> dict[str, dict[str, int]]:
    reasons: dict[str, dict[str, int]] = {}
    for skip in skips:
        row = reasons.setdefault(skip.reason.value, {"skips": 0, "readings": 0})
        row["skips"] += 1
        row["readings"] += skip.readings
    return reasons


def _has_less(edge: HourDigest | None, hub: HourDigest | None) -> bool:
    """True when the hub has more of an hour than the edge: then only the ring has forgotten."""
    return (0 if edge is None else edge.frames) < (0 if hub is None else hub.frames)


def _sum(rows: Sequence[HourDigest]) -> dict[str, int]:
    return {"frames": sum(row.frames for row in rows), "readings": sum(row.readings for row in rows)}


def _row(row: HourDigest | None) -> dict[str, Any] | None:
    return None if row is None else {"frames": row.frames, "readings": row.readings, "digest": row.digest}
