"""What jobs ask of the rest of the hub."""

from __future__ import annotations

from typing import Protocol

from tieline_core.frame import ReadingBatch


class HistoryWriter(Protocol):
    """Writes imported history through the one writer of the ledger."""

    async def import_readings(self, batch: ReadingBatch, source: str) -> int:
        """Store rows (idempotent per point and instant); returns how many were new."""
        ...

    async def remember(self, key: str, body: bytes) -> None:
        """Keep how far an import has come, in the ledger that holds its rows."""
        ...

    async def recall(self, key: str) -> bytes | None:
        """What was kept under a key."""
        ...
