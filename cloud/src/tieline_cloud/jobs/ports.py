"""What jobs ask of the rest of the hub."""

from __future__ import annotations

from typing import Protocol

from tieline_core.frame import ReadingBatch


class HistoryWriter(Protocol):
    """Writes imported history through the one writer of the ledger."""

    async def import_readings(self, batch: ReadingBatch, source: str) -> int:
        """Store rows (idempotent per point and instant); returns how many were new."""
        ...
