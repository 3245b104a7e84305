"""Whom the first cycle waits for: devices that rules watch for long, all others only a moment."""

from __future__ import annotations

import asyncio
import logging
from types import SimpleNamespace
from typing import Any

import pytest

from tieline_core.ids import DeviceId
from tieline_edge import agent
from tieline_edge.sampling import PollCounters

TR, METER = DeviceId("tr1"), DeviceId("m01")


def parts(**polls: int) -> Any:
    """An agent's parts as far as the wait looks at them; ``polls`` by device."""
    handles = {
        DeviceId(name): SimpleNamespace(id=DeviceId(name), settings=SimpleNamespace(mqtt=None), counters=PollCounters(count))
        for name, count in polls.items()
    }
    return SimpleNamespace(handles=handles, cycle=SimpleNamespace(watched=frozenset({TR})))


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(agent, "_FIRST_OTHERS_S", 0.02)
    monkeypatch.setattr(agent, "_FIRST_WATCHED_S", 600.0)
    caplog.set_level(logging.INFO)


async def test_a_dead_meter_does_not_hold_up_the_start(caplog: pytest.LogCaptureFixture) -> None:
    async with asyncio.timeout(30):
        await agent.Agent._first_polls(parts(tr1=1, m01=0))
    assert "control starts without 1 of 2 devices" in caplog.text


async def test_what_a_rule_watches_is_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    made = parts(tr1=0, m01=1)
    waiting = asyncio.create_task(agent.Agent._first_polls(made))
    await asyncio.sleep(0.2)
    assert not waiting.done()
    made.handles[TR].counters.polls = 1
    async with asyncio.timeout(30):
        await waiting
    assert caplog.text == ""
