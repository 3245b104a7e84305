"""Imported history into the ledger, off the event loop."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from tieline_cloud.store.ports import Ledger
from tieline_core.clock import Clock
from tieline_core.frame import ReadingBatch


@dataclass(frozen=True, slots=True)
class StoreWriter:
    """Writes through the ledger's one writing connection; its lock puts imports and frames in turn."""

    ledger: Ledger
    clock: Clock

    async def import_readings(self, batch: ReadingBatch, source: str) -> int:
        """Store rows; returns how many were new."""
        return await asyncio.to_thread(self.ledger.import_readings, batch, source, self.clock.now())
