"""What the outbox already holds of a point: asked when a device joins that repeats what was not receipted.

A kill between commit and receipt leaves readings in the newest frames whose device will send them again; nothing but the
outbox itself knows them exactly.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import Final

import numpy as np

from tieline_core.errors import FrameError
from tieline_core.frame import decode_readings
from tieline_core.ids import PointId
from tieline_core.messages.telemetry import FrameKind, Stream
from tieline_core.timegrid import from_us
from tieline_edge.outbox.database import Database

#: Newest frames looked through. A commit a tenth of a second makes this most of a minute, many times what a device waits
#: before it repeats.
_FRAMES: Final = 500


async def recorded_instants(database: Database, points: Sequence[PointId], last: int) -> dict[PointId, list[datetime]]:
    """The newest instants of each point among the newest frames, at most ``last`` each, ascending."""
    async with database.reading():
        rows = await database.rows(
            "SELECT body FROM frames WHERE stream = ? AND kind = ? ORDER BY id DESC LIMIT ?",
            Stream.MEASURE,
            int(FrameKind.READINGS),
            _FRAMES,
        )
    # Beside the loop: devices join while the edge runs, and half a million readings are no cycle's business.
    return await asyncio.to_thread(_newest, [body for (body,) in rows], points, last)


def _newest(bodies: Sequence[bytes], points: Sequence[PointId], last: int) -> dict[PointId, list[datetime]]:
    known = {str(point): point for point in points}
    found: dict[PointId, set[int]] = {point: set() for point in points}
    for body in bodies:
        try:
            columns = decode_readings(body)
        except FrameError:
            continue  # the uplink reports a damaged frame; here it only cannot help
        wanted = {place: found[known[name]] for place, name in enumerate(columns.points) if name in known}
        rows = np.isin(columns.point_index, list(wanted))
        for place, at_us in zip(columns.point_index[rows].tolist(), columns.at_us[rows].tolist(), strict=True):
            wanted[place].add(at_us)
    return {point: [from_us(at_us) for at_us in sorted(instants)[-last:]] for point, instants in found.items()}
