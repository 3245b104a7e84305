"""What the outbox counts, and how long it lasts without the hub."""

from __future__ import annotations

import shutil
from collections import deque
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from tieline_core.messages.desired import OutboxRoom

#: The present rate is the mean over this long.
_RATE_OVER: Final = timedelta(hours=1)
_BUCKET: Final = timedelta(minutes=1)
#: A shorter past says nothing about the hours to come.
_LEAST: Final = timedelta(seconds=10)


@dataclass(slots=True)
class OutboxCounters:
    """What happened since the start."""

    recorded_readings: int = 0
    recorded_records: int = 0
    commits: int = 0
    failed_commits: int = 0
    full_disk: int = 0
    acknowledged_frames: int = 0
    evicted_bytes: int = 0
    lost_readings: int = 0
    reopened: int = 0
    backfilled_frames: int = 0
    taken_back_frames: int = 0


class FillRate:
    """Bytes recorded a second, over the last hour of the edge's clock."""

    def __init__(self, now: datetime) -> None:
        self._since = now
        self._buckets: deque[tuple[datetime, int]] = deque()

    def add(self, recorded_bytes: int, now: datetime) -> None:
        """Count bytes that were committed now."""
        if self._buckets and now - self._buckets[-1][0] < _BUCKET:
            start, count = self._buckets.pop()
            self._buckets.append((start, count + recorded_bytes))
        else:
            self._buckets.append((now, recorded_bytes))
        self._forget(now)

    def _forget(self, now: datetime) -> None:
        while self._buckets and now - self._buckets[0][0] > _RATE_OVER:
            self._buckets.popleft()

    def per_s(self, now: datetime) -> float | None:
        """Mean rate [bytes/s]; None while nothing can be said."""
        self._forget(now)
        span = min(now - self._since, _RATE_OVER)
        if span < _LEAST or not self._buckets:
            return None
        return sum(count for _, count in self._buckets) / span.total_seconds()


def room(path: Path, *, used: int, waiting: int, most: int, per_s: float | None, usable: bool) -> OutboxRoom:
    """How much more fits before something the hub does not have must go.

    Args:
        path: The outbox file, for the space of its disk.
        used: Bytes of all frames held.
        waiting: Bytes of those the hub does not have.
        most: Bytes the ring may hold.
        per_s: Bytes that come a second, None = not known.
        usable: Whether anything can be kept now.
    """
    try:
        on_disk = shutil.disk_usage(path.parent).free + used
    except OSError:
        on_disk = used
    left = max(0, min(most, on_disk) - waiting)
    hours = left / per_s / 3600 if per_s else None
    return OutboxRoom(
        used_bytes=max(0, used),
        max_bytes=most,
        waiting_bytes=waiting,
        room_h=None if hours is None else round(min(hours, 1e6), 2),
        usable=usable,
    )
