"""Stamps of our own STATE across lives of the hub."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from tieline_cloud.ingest.connection import Will
from tieline_cloud.ingest.counters import LiveCounters
from tieline_cloud.ingest.own_state import OwnState
from tieline_cloud.store.memory_store import MemoryStore
from tieline_core.clock import ManualClock
from tieline_core.errors import TransientError
from tieline_core.sparkplug.session import HostState

T0 = datetime(2026, 1, 15, 12, tzinfo=UTC)


def life(store: MemoryStore, at: datetime) -> OwnState:
    return OwnState("hub", ManualClock(at), LiveCounters(), store)


def stamp(word: Will) -> int:
    return HostState.from_bytes(word.payload).timestamp_ms


def test_a_clock_set_back_between_two_lives_does_not_silence_the_host() -> None:
    store = MemoryStore()
    first = life(store, T0)
    first.will()
    said = [stamp(first.birth()), stamp(first.farewell())]
    second = life(store, T0 - timedelta(hours=3))
    second.will()
    said += [stamp(second.birth()), stamp(second.farewell())]
    assert said == sorted(set(said)), "edges take no STATE older than the newest they have seen"
    third = life(store, T0 + timedelta(hours=1))
    third.will()
    assert stamp(third.birth()) == int((T0 + timedelta(hours=1)).timestamp() * 1000), "the clock leads as soon as it can"


class FullStore(MemoryStore):
    def put_document(self, kind: str, key: str, body: bytes, at: datetime) -> None:
        raise TransientError("the disk is full")


def test_a_stamp_that_cannot_be_kept_is_said_all_the_same(caplog: pytest.LogCaptureFixture) -> None:
    state = life(FullStore(), T0)
    state.will()
    assert HostState.from_bytes(state.birth().payload).online
    assert "is not kept" in caplog.text
