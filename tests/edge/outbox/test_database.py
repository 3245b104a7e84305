"""Transactions of the outbox file whose owner is cancelled, as a lost session cancels whoever notes an acknowledgement."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from tieline_core.clock import ManualClock
from tieline_core.ids import EdgeId
from tieline_core.messages.telemetry import Stream
from tieline_edge.outbox.store import Outbox
from tieline_edge.settings import OutboxSettings


async def test_a_transaction_cancelled_at_any_moment_leaves_none_open(tmp_path: Path) -> None:
    clock = ManualClock(datetime(2026, 1, 15, tzinfo=UTC))
    async with Outbox.open(
        tmp_path / "outbox.sqlite", EdgeId("harbour"), OutboxSettings(commit_interval_s=0.0), clock
    ) as outbox:
        for turns in range(40):
            task = asyncio.create_task(outbox.mark_acknowledged(Stream.ALARM, 0))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            await outbox.mark_acknowledged(Stream.ALARM, 0)
