"""The edge's side of ``why`` over the hub: verified questions are answered from the trace, few at a time.

They have a line of their own, because a backfill of days may stand before them in the other.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from tieline_core import topics
from tieline_core.clock import Clock
from tieline_core.errors import BadInputError
from tieline_core.ids import EdgeId
from tieline_core.messages.explanation import MAX_TEXT, ExplainReply, ExplainRequest
from tieline_core.messages.reconciliation import RefusedReply
from tieline_edge.sync.mqtt_session import Message, MqttSession

_log = logging.getLogger(__name__)
#: Questions that may wait; a hub that asks more is told to come back.
WAITING: Final = 4
#: Shortest time between two answers [s of wall time].
PAUSE_S: Final = 0.25
#: How soon a lost session is noticed at the latest; a question wakes at once.
_LOOK_S: Final = 1.0
_CUT: Final = "\n... cut here; ask on the edge itself for all of it"

#: Tells why, in words, or raises BadInputError saying what there is.
Explain = Callable[[ExplainRequest], Awaitable[str]]


class Explanations:
    """Answers questions over the durable connection.

    Args:
        edge: Who answers.
        clock: For the instants of answers.
        explain: Knows why.
    """

    def __init__(self, edge: EdgeId, clock: Clock, explain: Explain) -> None:
        self._edge = edge
        self._clock = clock
        self._explain = explain
        self._asked: deque[ExplainRequest] = deque()
        self._refused: deque[str] = deque(maxlen=WAITING)
        self._stirred = asyncio.Event()

    def topics(self) -> Sequence[str]:
        """Questions come through the downlink."""
        return ()

    async def take(self, _message: Message) -> None:
        """Questions come through the downlink."""

    async def offer(self, request: ExplainRequest) -> None:
        """Take a verified question."""
        if len(self._asked) >= WAITING:
            self._refused.append(request.request_id)
        else:
            self._asked.append(request)
        self._stirred.set()

    async def serve(self, session: MqttSession) -> None:
        """Answer one after the other, until the session is lost.

        Raises:
            LinkLostError: The connection is gone.
        """
        # What was asked over an earlier session has been given up by now.
        self._asked.clear()
        self._refused.clear()
        while True:
            session.ensure_alive()
            while self._refused:
                await self._refuse(session, self._refused.popleft(), f"{WAITING} questions wait already; ask again later")
            if self._asked:
                await self._answer(session, self._asked.popleft())
                await asyncio.sleep(PAUSE_S)
                continue
            self._stirred.clear()
            try:
                async with asyncio.timeout(_LOOK_S):
                    await self._stirred.wait()
            except TimeoutError:
                continue

    async def _answer(self, session: MqttSession, request: ExplainRequest) -> None:
        try:
            text = await self._explain(request)
        except BadInputError as error:
            await self._refuse(session, request.request_id, f"{error.key}: {error.reason}")
            return
        if len(text) > MAX_TEXT:
            text = text[: MAX_TEXT - len(_CUT)] + _CUT
        reply = ExplainReply(
            request_id=request.request_id, edge_id=self._edge, at=self._clock.now(), device_id=request.device_id, text=text
        )
        await session.publish(topics.reply(self._edge), reply.to_bytes())

    async def _refuse(self, session: MqttSession, request_id: str, reason: str) -> None:
        reply = RefusedReply(request_id=request_id, edge_id=self._edge, at=self._clock.now(), reason=reason[:300])
        await session.publish(topics.reply(self._edge), reply.to_bytes())
