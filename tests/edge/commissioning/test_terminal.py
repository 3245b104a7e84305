"""A person at a real terminal line."""

from __future__ import annotations

import asyncio
import os
import pty
import sys
from collections.abc import Iterator

import pytest

from tieline_core.ids import DeviceId
from tieline_edge.commissioning.answers import Terminal
from tieline_edge.commissioning.sheet import Tick


@pytest.fixture
def keyboard(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """The other end of the terminal that standard input is."""
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, encoding="utf-8") as terminal:
        monkeypatch.setattr(sys, "stdin", terminal)
        yield ours
    os.close(ours)


async def test_what_was_typed_before_a_question_does_not_answer_it(keyboard: int, capsys: pytest.CaptureFixture[str]) -> None:
    os.write(keyboard, b"p\n")
    async with asyncio.timeout(20):
        asked = asyncio.create_task(Terminal().tick(DeviceId("load01"), "p_w", "9 kW", good=True))
        while "load01 p_w" not in capsys.readouterr().out:  # noqa: ASYNC110 - the question stands there, nobody tells
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        assert not asked.done()
        os.write(keyboard, b"f display says 8 kW\n")
        answer = await asked
    assert (answer.tick, answer.remark) == (Tick.FAIL, "display says 8 kW")
