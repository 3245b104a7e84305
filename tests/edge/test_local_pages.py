"""Questions to the trace over the local page: whoever asks without end takes no thread away from control."""

from __future__ import annotations

import asyncio
import threading
from http import HTTPStatus
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tieline_core.clock import SystemClock
from tieline_edge.local_pages import WAITING, Local, LocalPages


async def test_questions_that_were_given_up_still_count_until_their_reading_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    release, reading, most = threading.Event(), [0], [0]

    def slow(*_asked: object) -> dict[str, Any]:
        reading[0] += 1
        most[0] = max(most[0], reading[0])
        release.wait(30.0)
        reading[0] -= 1
        return {"text": "because"}

    monkeypatch.setattr("tieline_edge.local_pages.why.answer", slow)
    parts = SimpleNamespace(
        clock=SystemClock(),
        settings=SimpleNamespace(site=SimpleNamespace(time_zone="UTC")),
        trace=SimpleNamespace(flush=lambda: None),
        paths=SimpleNamespace(trace=Path("trace")),
    )
    ask = LocalPages(cast("Any", parts), cast("Any", None), lambda: Local(None, "")).read_only()["/why"]
    async with asyncio.timeout(30.0):
        try:
            for _ in range(WAITING):
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.05):  # the client's patience, as the server's time limit does it
                        await ask({"device": "bat1"})
            assert (await ask({"device": "bat1"})).status is HTTPStatus.SERVICE_UNAVAILABLE
            await asyncio.to_thread(lambda: None)  # a thread is free for control all the while
        finally:
            release.set()
        told: set[HTTPStatus] = set()
        while HTTPStatus.OK not in told:
            await asyncio.to_thread(lambda: None)
            told.add((await ask({"device": "bat1"})).status)
    assert most[0] == 1
