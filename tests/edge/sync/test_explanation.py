"""Questions why over the durable connection: answered, refused with what there is, bounded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest

from tieline_core import topics
from tieline_core.clock import ManualClock
from tieline_core.errors import BadInputError
from tieline_core.ids import DeviceId, EdgeId
from tieline_core.messages.explanation import MAX_TEXT, ExplainReply, ExplainRequest
from tieline_core.messages.reconciliation import RefusedReply, read_reply
from tieline_edge.sync import explanation
from tieline_edge.sync.explanation import WAITING, Explanations

EDGE = EdgeId("harbour")
NOW = datetime(2016, 12, 7, 16, tzinfo=UTC)


class Session:
    """A connection that notes what is sent."""

    def __init__(self) -> None:
        self.sent: asyncio.Queue[tuple[str, bytes]] = asyncio.Queue()

    def ensure_alive(self) -> None: ...

    async def publish(self, topic: str, payload: bytes) -> None:
        self.sent.put_nowait((topic, payload))


def asked(number: int, device: str = "bat1") -> ExplainRequest:
    return ExplainRequest(request_id=f"request-{number}", edge_id=EDGE, device_id=DeviceId(device))


async def told(request: ExplainRequest) -> str:
    if request.device_id == "bat9":
        raise BadInputError("trace", "device", "bat9", "nothing is kept about it. There is: bat1")
    return "because" if request.device_id == "bat1" else "x" * (2 * MAX_TEXT)


@asynccontextmanager
async def serving(made: Explanations) -> AsyncIterator[Session]:
    session: Any = Session()
    running = asyncio.create_task(made.serve(session))
    await asyncio.sleep(0)
    yield session
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def next_reply(session: Session) -> Any:
    topic, payload = await asyncio.wait_for(session.sent.get(), 20.0)
    assert topic == topics.reply(EDGE)
    return read_reply(payload, topic)


async def test_a_question_is_answered_cut_or_refused_with_what_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explanation, "PAUSE_S", 0.0)
    made = Explanations(EDGE, ManualClock(NOW), told)
    assert made.topics() == ()
    async with serving(made) as session:
        await made.offer(asked(1))
        reply = await next_reply(session)
        assert isinstance(reply, ExplainReply)
        assert (reply.text, reply.device_id, reply.at) == ("because", "bat1", NOW)
        await made.offer(asked(2, "bat2"))
        long = await next_reply(session)
        assert len(long.text) == MAX_TEXT
        assert long.text.endswith("ask on the edge itself for all of it")
        await made.offer(asked(3, "bat9"))
        refused = await next_reply(session)
        assert isinstance(refused, RefusedReply)
        assert refused.reason == "device: nothing is kept about it. There is: bat1"


async def test_a_hub_that_asks_too_much_is_told_to_come_back() -> None:
    made = Explanations(EDGE, ManualClock(NOW), told)
    async with serving(made) as session:
        for number in range(WAITING + 2):
            await made.offer(asked(number))
        replies = [await next_reply(session) for _ in range(WAITING + 2)]
    refused = [reply.request_id for reply in replies if isinstance(reply, RefusedReply)]
    assert refused == [f"request-{WAITING}", f"request-{WAITING + 1}"]


async def test_what_was_asked_over_a_lost_session_is_not_answered_later() -> None:
    made = Explanations(EDGE, ManualClock(NOW), told)
    await made.offer(asked(1))
    async with serving(made) as session:
        await made.offer(asked(2))
        assert (await next_reply(session)).request_id == "request-2"
        assert session.sent.empty()
