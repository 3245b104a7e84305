"""What the outbox's tests record, and how they open one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tieline_core.clock import ManualClock
from tieline_core.frame import Frame, decode_readings
from tieline_core.ids import EdgeId, PointId
from tieline_core.messages.telemetry import Event, FrameKind, Severity
from tieline_core.quantities import Reading
from tieline_edge.outbox.store import Outbox
from tieline_edge.settings import OutboxSettings

EDGE = EdgeId("harbour")
START = datetime(2016, 12, 7, 17, 30, tzinfo=UTC)
FAST = OutboxSettings(commit_interval_s=0.0, frame_readings=10)


def reading(number: int, device: str = "bat1") -> Reading:
    return Reading(PointId.of(EDGE, device, "p_w"), float(number), START + timedelta(seconds=number))


def event(number: int) -> Event:
    return Event(
        event_id=f"event-{number:04d}",
        edge_id=EDGE,
        severity=Severity.INFORMATION,
        code="test.event",
        text=str(number),
        at=START,
    )


@asynccontextmanager
async def opened(folder: Path, settings: OutboxSettings = FAST, clock: ManualClock | None = None) -> AsyncIterator[Outbox]:
    async with Outbox.open(folder / "outbox.sqlite", EDGE, settings, clock or ManualClock(START)) as outbox:
        yield outbox


def values(frames: list[Frame]) -> list[float]:
    return [
        value for frame in frames if frame.kind is FrameKind.READINGS for value in decode_readings(frame.body).values.tolist()
    ]
