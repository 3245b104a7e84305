"""The HTTP door: who may, what is refused, once under a key, and what a slow ledger answers."""

from __future__ import annotations

import asyncio
import gzip
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import zstandard

from tests.cloud.rooms import OnceStore, Rooms
from tieline_cloud.api.app import create_app
from tieline_cloud.doors import intake
from tieline_cloud.doors.deliveries import FRAME
from tieline_cloud.settings import HubSettings, SourceSettings
from tieline_cloud.store.ports import Ingested
from tieline_core.clock import SystemClock
from tieline_core.errors import BadInputError, TransientError
from tieline_core.frame import ReadingBatch, encode_readings
from tieline_core.ids import EdgeId, PointId
from tieline_core.quantities import Reading

TOKEN = "0123456789abcdef" * 2
ROW = {"point": "mdm/m1/p_w", "measured_at": "2026-11-20T12:00:00Z", "value": 1.5}


@dataclass
class SlowStore(OnceStore):
    """Stores when it is let."""

    gate: threading.Event = field(default_factory=threading.Event)
    fails: bool = False

    def ingest_once(self, batch: ReadingBatch, source: str, key: str, sha256: str, at: datetime) -> tuple[Ingested, int]:
        assert self.gate.wait(60)
        if self.fails:
            raise TransientError("the disk is full: nothing was stored")
        return super().ingest_once(batch, source, key, sha256, at)


def token_file(folder: Path, text: str = TOKEN, mode: int = 0o600) -> SourceSettings:
    path = folder / "mdm.token"
    path.write_text(text + "\n", encoding="ascii")
    path.chmod(mode)
    return SourceSettings(token_file=path)


@pytest.fixture
def store() -> SlowStore:
    held = SlowStore()
    held.gate.set()
    return held


@pytest.fixture
async def client(tmp_path: Path, store: SlowStore) -> AsyncIterator[httpx.AsyncClient]:
    source = token_file(tmp_path)
    sources = {EdgeId(name): source for name in ("mdm", "harbour", "scada")}
    rooms = Rooms(tmp_path, deliveries=store, sources=sources)
    transport = httpx.ASGITransport(create_app(rooms.services()), raise_app_exceptions=False)
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with httpx.AsyncClient(transport=transport, base_url="http://hub", headers=headers) as session:
        yield session


async def deliver(client: httpx.AsyncClient, key: str, body: Any, source: str = "mdm", **headers: str) -> httpx.Response:
    return await client.post(f"/v1/ingest/{source}", json=body, headers={"Idempotency-Key": key, **headers})


async def test_a_delivery_is_stored_once_and_a_repeat_gets_the_first_answer(
    client: httpx.AsyncClient, store: SlowStore
) -> None:
    first = await deliver(client, "k1", {"rows": [ROW]})
    again = await deliver(client, "k1", {"rows": [ROW]})
    assert (first.status_code, again.status_code) == (200, 200)
    assert first.json() == again.json()
    assert first.json()["readings"] == 1
    assert ("idempotency-replayed" in first.headers, again.headers["idempotency-replayed"]) == (False, "true")
    assert list(store.held) == [("http/mdm", "k1")]


async def test_the_same_key_with_other_content_is_a_conflict(client: httpx.AsyncClient) -> None:
    await deliver(client, "k1", {"rows": [ROW]})
    answer = await deliver(client, "k1", {"rows": [ROW | {"value": 2.5}]})
    assert (answer.status_code, answer.json()["type"]) == (409, "urn:tieline:problem:conflict")


async def test_one_wrong_row_refuses_all_and_is_named(client: httpx.AsyncClient, store: SlowStore) -> None:
    answer = await deliver(client, "k1", {"rows": [ROW, ROW | {"point": "mill/m1/p_w"}, ROW | {"value": "x"}]})
    assert answer.status_code == 422
    assert [row["key"] for row in answer.json()["errors"]] == ["rows[1].point", "rows[2].value"]
    assert "2 of 3 rows" in answer.json()["detail"]
    assert not store.held
    assert (await deliver(client, "k1", {"rows": [ROW]})).status_code == 200


@pytest.mark.parametrize("authorization", ["", "Bearer", "Bearer wrong", f"Basic {TOKEN}", TOKEN, f"Bearer {TOKEN}x"])
async def test_without_the_sources_token_nobody_comes_in(client: httpx.AsyncClient, authorization: str) -> None:
    answer = await deliver(client, "k1", {"rows": [ROW]}, Authorization=authorization)
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")


async def test_an_unknown_source_looks_like_a_wrong_token(client: httpx.AsyncClient) -> None:
    known, unknown = await deliver(client, "k", {}, Authorization="Bearer x"), await deliver(client, "k", {}, "nobody")
    assert known.json()["detail"] == unknown.json()["detail"]
    assert unknown.status_code == 401


async def test_a_source_with_the_name_of_an_edge_is_refused(client: httpx.AsyncClient, tmp_path: Path) -> None:
    answer = await deliver(client, "k1", {"rows": [ROW | {"point": "harbour/m1/p_w"}]}, "harbour")
    assert (answer.status_code, "is an edge" in answer.json()["detail"]) == (409, True)
    tree = {
        "data_dir": tmp_path,
        "mqtt": {"host": "127.0.0.1"},
        "signing_key": tmp_path / "k",
        "edges": {"mdm": {"rated_va": 1}},
        "sources": {"mdm": {"token_file": tmp_path / "mdm.token"}},
    }
    with pytest.raises(ValueError, match="mdm is an edge"):
        HubSettings.model_validate(tree)


async def test_packed_and_binary_bodies_are_taken(client: httpx.AsyncClient) -> None:
    json_body = b'{"rows": [{"point": "mdm/m1/p_w", "measured_at": "2026-11-20T12:00:00Z", "value": 1.5}]}'
    frame = encode_readings([Reading(PointId("mdm/m1/p_w"), 1.5, SystemClock().now())])
    bodies = [
        ("a", gzip.compress(json_body), {"Content-Encoding": "gzip"}),
        ("b", zstandard.ZstdCompressor().compress(json_body), {"Content-Encoding": "zstd"}),
        ("c", frame, {"Content-Type": FRAME}),
    ]
    for key, body, headers in bodies:
        answer = await client.post("/v1/ingest/mdm", content=body, headers={"Idempotency-Key": key, **headers})
        assert answer.status_code == 200, answer.text
    sizes = {
        (await client.post("/v1/ingest/mdm", content=body, headers={"Idempotency-Key": "z", **headers})).json()["sha256"]
        for _, body, headers in bodies[:2]
    }
    assert len(sizes) == 1


async def test_a_body_that_is_too_long_too_odd_or_a_bomb_is_refused(client: httpx.AsyncClient) -> None:
    async def answer(content: bytes, **headers: str) -> int:
        sent = await client.post("/v1/ingest/mdm", content=content, headers={"Idempotency-Key": "k", **headers})
        return sent.status_code

    assert await answer(bytes(intake.MAX_BODY_BYTES + 1)) == 413
    assert await answer(gzip.compress(bytes(40_000_000)), **{"Content-Encoding": "gzip"}) == 422
    assert await answer(b"{}", **{"Content-Encoding": "br"}) == 415
    assert await answer(b"{}", **{"Content-Type": "text/csv"}) == 415
    assert await answer(b"{}", **{"Idempotency-Key": "two words"}) == 422


async def test_a_busy_desk_turns_deliveries_away_with_a_time_to_come_again(client: httpx.AsyncClient, store: SlowStore) -> None:
    store.gate.clear()
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(deliver(client, f"k{n}", {"rows": [ROW]})) for n in range(30)]
        async with asyncio.timeout(30):
            while sum(task.done() for task in tasks) < 25:  # noqa: ASYNC110 (many tasks, no event of theirs)
                await asyncio.sleep(0.01)
        store.gate.set()
    answers = [task.result() for task in tasks]
    away = [answer for answer in answers if answer.status_code == 503]
    assert len(away) == 25
    assert all(int(answer.headers["retry-after"]) >= 1 for answer in away)
    assert len(store.held) == 5


async def test_the_slow_bodies_of_one_source_leave_room_for_another(
    client: httpx.AsyncClient, store: SlowStore, tmp_path: Path
) -> None:
    end, begun = asyncio.Event(), asyncio.Semaphore(0)

    async def trickle() -> AsyncIterator[bytes]:
        yield b"{"
        begun.release()  # the rest is being asked for: it has its place at the desk
        await end.wait()

    async with asyncio.TaskGroup() as group:
        slow = [
            group.create_task(client.post("/v1/ingest/mdm", content=trickle(), headers={"Idempotency-Key": f"slow{n}"}))
            for n in range(5)
        ]
        for _ in slow:
            await begun.acquire()
        assert (await deliver(client, "k", {"rows": [ROW]})).status_code == 503
        other = {"rows": [ROW | {"point": "scada/m1/p_w"}]}
        async with asyncio.timeout(5):
            assert (await deliver(client, "k", other, source="scada")).status_code == 200
        end.set()
    assert {task.result().status_code for task in slow} == {422}


async def test_a_ledger_that_cannot_store_answers_503_and_the_same_delivery_passes_later(
    client: httpx.AsyncClient, store: SlowStore
) -> None:
    store.fails = True
    answer = await deliver(client, "k1", {"rows": [ROW]})
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
    store.fails = False
    assert (await deliver(client, "k1", {"rows": [ROW]})).status_code == 200


@pytest.mark.parametrize(("text", "mode"), [("short", 0o600), (TOKEN, 0o644), ("two words " * 5, 0o600)])
def test_a_weak_or_readable_token_keeps_the_hub_from_starting(tmp_path: Path, text: str, mode: int) -> None:
    with pytest.raises(BadInputError, match=r"sources\.mdm\.token_file"):
        intake.Intake({EdgeId("mdm"): token_file(tmp_path, text, mode)}, OnceStore(), SystemClock())
