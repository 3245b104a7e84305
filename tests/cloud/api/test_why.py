"""Why, asked over the hub: the edge's words, its refusals, and an edge that is away."""

from __future__ import annotations

import asyncio
import base64
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.cloud.rooms import HARBOUR, NOW, Rooms
from tieline_cloud.api.app import create_app
from tieline_cloud.fleet.explain import MOST_UNDER_WAY, BusyError
from tieline_core import topics
from tieline_core.ids import DeviceId, EdgeId
from tieline_core.messages.explanation import ExplainReply, ExplainRequest
from tieline_core.messages.reconciliation import RefusedReply


class Edge:
    """Answers what comes over the broker, or says nothing."""

    def __init__(self, rooms: Rooms, *, silent: bool = False, refuses: str = "") -> None:
        self._rooms, self._silent, self._refuses = rooms, silent, refuses
        self.asked: list[ExplainRequest] = []
        rooms.outbox.publish = self.publish  # type: ignore[method-assign]  # the fake broker of this test

    async def publish(self, topic: str, payload: bytes, *, retain: bool) -> None:
        assert topic == topics.request(HARBOUR)
        assert not retain
        request = ExplainRequest.model_validate_json(base64.urlsafe_b64decode(json.loads(payload)["payload"] + "=="))
        self.asked.append(request)
        if self._silent:
            return
        common: dict[str, Any] = {"request_id": request.request_id, "edge_id": HARBOUR, "at": NOW}
        reply = (
            RefusedReply(**common, reason=self._refuses)
            if self._refuses
            else ExplainReply(**common, device_id=request.device_id, text="bat1: rest\n  because   nobody")
        )
        self._rooms.requests.hear(topics.reply(HARBOUR), reply.to_bytes())


@pytest.fixture
def rooms(tmp_path: Path) -> Rooms:
    return Rooms(tmp_path)


async def ask(rooms: Rooms, query: str) -> httpx.Response:
    transport = httpx.ASGITransport(create_app(rooms.services()))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        return await client.get(f"/v1/edges/harbour/why?{query}")


async def test_the_words_of_the_edge_come_back(rooms: Rooms) -> None:
    edge = Edge(rooms)
    answer = await ask(rooms, "device=bat1&at=2016-12-07T15:00:00Z&replay=true")
    assert answer.status_code == 200
    assert answer.json()["text"].startswith("bat1: rest")
    assert answer.json()["answered_at"] == "2016-12-07T15:30:00Z"
    assert edge.asked[0].replay is True
    assert edge.asked[0].at is not None
    assert (await ask(rooms, "device=bat1")).json()["at"] is None


async def test_a_refusal_says_what_the_edge_says(rooms: Rooms) -> None:
    Edge(rooms, refuses="device: nothing is kept about it. There is: bat1")
    answer = await ask(rooms, "device=bat9")
    assert answer.status_code == 422
    assert "There is: bat1" in answer.json()["detail"]


async def test_an_edge_that_is_away_is_said_at_once_with_its_last_contact(
    rooms: Rooms, monkeypatch: pytest.MonkeyPatch
) -> None:
    edge = Edge(rooms)
    away = [replace(status, online_durable=False) for status in rooms.fleet.edges()]
    monkeypatch.setattr(rooms.fleet, "edges", lambda: away)
    answer = await ask(rooms, "device=bat1")
    assert answer.status_code == 503
    assert answer.json()["type"].endswith("edge-away")
    assert "last heard 2016-12-07T15:30:00" in answer.json()["detail"]
    assert edge.asked == []


async def test_an_edge_that_says_nothing_and_a_device_of_no_form_are_told(rooms: Rooms) -> None:
    Edge(rooms, silent=True)
    answer = await ask(rooms, "device=bat1")
    assert answer.status_code == 503
    assert "said nothing for 0.2 s" in answer.json()["detail"]
    assert (await ask(rooms, "device=NOT%20ONE")).status_code == 422


async def test_questions_under_way_are_bounded(rooms: Rooms) -> None:
    Edge(rooms, silent=True)
    explain = rooms.services().explain

    async def asking(name: str) -> str:
        try:
            await explain.ask(EdgeId(name), DeviceId("bat1"), None, replay=False)
        except BusyError as error:
            return str(error)
        except Exception as error:  # noqa: BLE001 - silence is expected here, and told apart by its name
            return type(error).__name__
        return "answered"

    rooms.outbox.publish = _swallow  # type: ignore[method-assign]  # nobody answers any of them
    same, *others = await asyncio.gather(asking("a0"), *(asking(f"a{n}") for n in range(MOST_UNDER_WAY + 1)))
    assert same == "NoReplyError"
    assert "edge a0 is being asked already" in others[0]
    assert others[1:MOST_UNDER_WAY] == ["NoReplyError"] * (MOST_UNDER_WAY - 1)
    assert f"{MOST_UNDER_WAY} edges are being asked" in others[MOST_UNDER_WAY]
    assert explain._under_way == set()


async def _swallow(topic: str, payload: bytes, *, retain: bool) -> None: ...
