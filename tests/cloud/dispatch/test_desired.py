"""Desired states: published signed, repeated on a hello, confirmed by the report."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.cloud.rooms import HARBOUR, NOW, TRUSTED, Rooms, plan, reported
from tieline_cloud.dispatch import desired as desired_module
from tieline_cloud.dispatch.documents import DocumentStore
from tieline_cloud.dispatch.plans import PlanCurves, PlanState
from tieline_core import topics
from tieline_core.clock import ManualClock
from tieline_core.errors import TransientError
from tieline_core.messages.desired import Desired
from tieline_core.messages.plan import Plan
from tieline_core.signing import EnvelopeType, Opened, open_envelope


@asynccontextmanager
async def publishing(rooms: Rooms) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as group:
        task = group.create_task(rooms.desired.run())
        yield
        await ManualClock.settle()
        task.cancel()


def opened(rooms: Rooms, index: int = -1) -> tuple[Opened, Desired]:
    topic, payload, retain = rooms.outbox.sent[index]
    assert topic == topics.desired(HARBOUR)
    assert retain
    envelope = open_envelope(payload, kind=EnvelopeType.DESIRED, edge=HARBOUR, trusted=TRUSTED, now=NOW)
    return envelope, Desired.from_bytes(envelope.payload, topic)


async def test_a_plan_is_published_by_hash_and_the_edge_can_open_what_it_pulls(tmp_path: Path) -> None:
    rooms = Rooms(tmp_path)
    async with publishing(rooms):
        record = rooms.plans.publish(plan(), PlanCurves())
    _, wanted = opened(rooms)
    assert wanted.plan == record.sha256
    content = rooms.artifacts.get(record.sha256)
    assert content is not None
    inner = open_envelope(content, kind=EnvelopeType.PLAN, edge=HARBOUR, trusted=TRUSTED, now=NOW)
    assert Plan.from_bytes(inner.payload, "artifact") == plan()


async def test_a_hello_brings_the_same_state_with_its_nonce_and_a_higher_counter(tmp_path: Path) -> None:
    rooms = Rooms(tmp_path)
    async with publishing(rooms):
        rooms.plans.publish(plan(), PlanCurves())
        await ManualClock.settle()
        rooms.desired.greet(HARBOUR, "n" * 16)
    (first, before), (second, after) = opened(rooms, 0), opened(rooms, 1)
    assert before == after
    assert first.header.nonce is None
    assert second.header.nonce == "n" * 16
    assert second.header.counter > first.header.counter


async def test_it_is_confirmed_only_when_the_report_names_the_same_hashes(tmp_path: Path) -> None:
    rooms = Rooms(tmp_path)
    record = rooms.plans.publish(plan(), PlanCurves())
    rooms.desired.hear(reported(plan_sha256="0" * 64))
    assert rooms.plans.current(HARBOUR) == record
    rooms.desired.hear(reported(plan_sha256=record.sha256))
    confirmed = rooms.plans.current(HARBOUR)
    assert confirmed is not None
    assert (confirmed.state, confirmed.confirmed_at) == (PlanState.CONFIRMED, NOW)


async def test_a_new_plan_supersedes_the_one_before(tmp_path: Path) -> None:
    rooms = Rooms(tmp_path)
    rooms.plans.publish(plan("plan-0001"), PlanCurves())
    rooms.plans.publish(plan("plan-0002"), PlanCurves())
    states = {record.plan.plan_id: record.state for record in rooms.plans.newest(None, 10)}
    assert states == {"plan-0001": PlanState.SUPERSEDED, "plan-0002": PlanState.PUBLISHED}


async def test_what_the_broker_did_not_take_is_published_when_it_is_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(desired_module, "_RETRY_S", 0.01)
    rooms = Rooms(tmp_path)
    rooms.outbox.away = True
    async with publishing(rooms):
        rooms.plans.publish(plan(), PlanCurves())
        await asyncio.sleep(0.03)
        assert not rooms.outbox.sent
        rooms.outbox.away = False
        await asyncio.sleep(0.05)
    assert len(rooms.outbox.sent) == 1


async def test_after_a_restart_everything_is_known_and_published_again(tmp_path: Path) -> None:
    rooms = Rooms(tmp_path)
    record = rooms.plans.publish(plan(), PlanCurves())
    rooms.documents.close()
    again = Rooms(tmp_path)
    assert again.plans.current(HARBOUR) == record
    async with publishing(again):
        pass
    _, wanted = opened(again)
    assert wanted.plan == record.sha256


async def test_a_hello_on_a_full_disk_is_answered_once_it_can_be_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desired_module, "_RETRY_S", 0.01)
    rooms = Rooms(tmp_path)
    async with publishing(rooms):
        rooms.plans.publish(plan(), PlanCurves())
        await ManualClock.settle()
        rooms.documents._db.execute("PRAGMA query_only = 1")
        rooms.desired.greet(HARBOUR, "n" * 16)
        await asyncio.sleep(0.05)
        assert len(rooms.outbox.sent) == 1, "nothing is published that a restart would forget"
        with pytest.raises(TransientError):
            rooms.plans.publish(plan("plan-0002"), PlanCurves())
        rooms.documents._db.execute("PRAGMA query_only = 0")
        async with asyncio.timeout(60):
            while len(rooms.outbox.sent) < 2:  # noqa: ASYNC110 (nothing announces it)
                await asyncio.sleep(0.01)
    envelope, _ = opened(rooms)
    assert envelope.header.nonce == "n" * 16
    with DocumentStore(tmp_path / "hub.sqlite") as documents:
        assert b"n" * 16 in documents.newest(desired_module.KIND)[0]
