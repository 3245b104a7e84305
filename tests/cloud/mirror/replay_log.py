"""A ledger's replay side in memory: positions, documents, quarantine."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import numpy as np

from tieline_core.frame import ReadingBatch
from tieline_core.ids import PointId
from tieline_core.quantities import Quality, Reading
from tieline_core.timegrid import to_us

START = datetime(2026, 11, 1, tzinfo=UTC)


def readings(count: int, device: str = "bat1", quantity: str = "p_w", start: datetime = START) -> list[Reading]:
    """One a second, counting up."""
    point = PointId.of("harbour", device, quantity)
    return [Reading(point, float(n), start + timedelta(seconds=n), Quality.GOOD) for n in range(count)]


def many(points: int, each: int, start: datetime = START) -> ReadingBatch:
    """Unrepeated readings of many meters."""
    names = tuple(PointId(f"harbour/m{number}/p_w") for number in range(points))
    index = np.tile(np.arange(points, dtype=np.int32), each)
    at_us = np.repeat(to_us(start) + np.arange(each, dtype=np.int64) * 60_000_000, points)
    values = np.round(np.random.default_rng(7).normal(1000.0, 300.0, points * each), 1)
    return ReadingBatch(names, index, at_us, values, np.zeros(points * each, np.uint8))


@dataclass
class MemoryLog:
    """Batches under positions from 1."""

    batches: list[ReadingBatch] = field(default_factory=list)
    kept: dict[tuple[str, str], bytes] = field(default_factory=dict)
    aside: list[tuple[str, str, bytes, str]] = field(default_factory=list)

    def add(self, rows: list[Reading] | ReadingBatch) -> None:
        self.batches.append(rows if isinstance(rows, ReadingBatch) else ReadingBatch.of(rows))

    def replay(self, after: int, limit_rows: int) -> tuple[int, ReadingBatch]:
        taken: list[ReadingBatch] = []
        position = after
        for batch in self.batches[after:]:
            if taken and sum(map(len, taken)) + len(batch) > limit_rows:
                break
            taken.append(batch)
            position += 1
        if len(taken) == 1:
            return position, taken[0]
        return position, ReadingBatch.of([reading for batch in taken for reading in batch.readings()])

    def put_document(self, kind: str, key: str, body: bytes, at: datetime) -> None:
        self.kept[kind, key] = body

    def documents(self, kind: str) -> dict[str, bytes]:
        return {key: body for (held, key), body in self.kept.items() if held == kind}

    def quarantine(self, edge: str, topic: str, payload: bytes, reason: str, at: datetime) -> None:
        self.aside.append((edge, topic, payload, reason))
