"""A process that records readings one commit after the other and says of each whether it was kept; tests break its disk."""

from __future__ import annotations

import asyncio
import random
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tieline_core.clock import ManualClock
from tieline_core.errors import TransientError
from tieline_core.ids import EdgeId, PointId
from tieline_core.quantities import Reading
from tieline_edge.outbox.store import Outbox
from tieline_edge.settings import OutboxSettings

START = datetime(2016, 12, 7, 17, 30, tzinfo=UTC)
POINT = PointId("harbour/bat1/p_w")


def readings(number: int, count: int) -> list[Reading]:
    """A commit's readings: the first one carries the commit's number, the others do not compress."""
    rng = random.Random(number)
    values = [float(number), *(rng.randrange(10**9) / 10 for _ in range(count - 1))]
    first = number * count
    return [Reading(POINT, value, START + timedelta(seconds=first + place)) for place, value in enumerate(values)]


def say(word: str) -> None:
    """One line to whoever breaks the disk."""
    sys.stdout.write(word + "\n")
    sys.stdout.flush()


async def main(folder: Path, commits: int, count: int, max_bytes: int) -> None:
    """Record; ``kept N`` or ``refused N`` on standard output for each commit."""
    settings = OutboxSettings(commit_interval_s=0.0, frame_readings=5000, max_bytes=max_bytes)
    async with Outbox.open(folder / "outbox.sqlite", EdgeId("harbour"), settings, ManualClock(START)) as outbox:
        say("open")
        for number in range(commits):
            try:
                await outbox.record(readings(number, count))
                say(f"kept {number}")
            except TransientError:
                say(f"refused {number}")
        say(f"lost {outbox.counters.lost_readings}")


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])))
