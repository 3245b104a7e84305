"""The hub's side of ``why``: the question goes to the edge by signed request, and its words come back."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Final

from tieline_cloud.fleet.reconcile import EdgeRequests
from tieline_core.errors import TransientError
from tieline_core.ids import DeviceId, EdgeId
from tieline_core.messages.explanation import ExplainReply, ExplainRequest

#: An edge that stands in the durable lane answers in less; somebody waits in front of a screen [s of wall time].
SILENCE_S: Final = 10.0
#: Questions under way at once, over all edges; one an edge.
MOST_UNDER_WAY: Final = 8


class BusyError(TransientError):
    """Too many questions are under way."""


class Explainer:
    """Asks edges.

    Args:
        requests: The way to them.
        silence_s: How long an edge may say nothing [s of wall time].
    """

    def __init__(self, requests: EdgeRequests, silence_s: float = SILENCE_S) -> None:
        self._requests = requests
        self._silence_s = silence_s
        self._under_way: set[EdgeId] = set()

    async def ask(self, edge: EdgeId, device: DeviceId, at: datetime | None, *, replay: bool) -> ExplainReply:
        """The edge's words.

        Raises:
            BusyError: This edge is being asked already, or too many others are.
            tieline_cloud.fleet.reconcile.NoReplyError: The edge does not answer.
            tieline_cloud.fleet.reconcile.RequestRefusedError: It has no answer, and says what there is.
            TransientError: The broker is away.
        """
        if edge in self._under_way:
            raise BusyError(f"edge {edge} is being asked already; ask again in a moment")
        if len(self._under_way) >= MOST_UNDER_WAY:
            raise BusyError(f"{MOST_UNDER_WAY} edges are being asked already; ask again in a moment")
        request = ExplainRequest(request_id=uuid.uuid4().hex, edge_id=edge, device_id=device, at=at, replay=replay)
        self._under_way.add(edge)
        try:
            async with self._requests.asking(request) as replies:
                while True:
                    reply = await self._requests.next(replies, edge, "nothing came", self._silence_s)
                    if isinstance(reply, ExplainReply):
                        return reply
        finally:
            self._under_way.discard(edge)
