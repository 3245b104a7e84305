"""Imported history into the ledger, off the event loop."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

from tieline_cloud.store.ports import Ledger
from tieline_core.clock import Clock
from tieline_core.frame import ReadingBatch

PLACES: Final = "import"


@dataclass(frozen=True, slots=True)
class StoreWriter:
    """Writes through the ledger's one writing connection; its lock puts imports and frames in turn."""

    ledger: Ledger
    clock: Clock

    async def import_readings(self, batch: ReadingBatch, source: str) -> int:
        """Store rows; returns how many were new."""
        return await asyncio.to_thread(self.ledger.import_readings, batch, source, self.clock.now())

    async def remember(self, key: str, body: bytes) -> None:
        """Keep how far an import has come."""
        await asyncio.to_thread(self.ledger.put_document, PLACES, key, body, self.clock.now())

    async def recall(self, key: str) -> bytes | None:
        """What was kept under a key."""
        return (await asyncio.to_thread(self.ledger.documents, PLACES)).get(key)
