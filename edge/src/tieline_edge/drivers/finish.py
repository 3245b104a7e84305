"""Ending a piece of work cleanly although its task is cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Final

_FINISH_S: Final = 5.0


async def finish(work: Coroutine[Any, Any, None], within_s: float = _FINISH_S) -> None:
    """Run ``work``; a cancellation waits until it has ended, so that what a device has answered is kept.

    Args:
        work: Short by nature: one poll or one batch of messages.
        within_s: Longest the cancellation is held up [wall seconds]; then the work is cancelled too.
    """
    task = asyncio.ensure_future(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task], timeout=within_s)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        raise
