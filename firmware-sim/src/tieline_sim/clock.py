"""The simulator's clock and its publication: the one file here that reads wall time.

Simulated time is a piecewise linear function of wall time. It is published as ``clock.json`` and replaced atomically::

    {"version": 1, "segments": [{"wall_unix_s": f, "sim_unix_s": f, "speed": f}, ...]}

A segment holds from its ``wall_unix_s`` on: sim(t) = sim_unix_s + (t - wall_unix_s) * speed. A change of speed is written
at least :data:`ANNOUNCE_S` before it takes effect, so that every process that follows the file switches at the same moment.
"""

from __future__ import annotations

import json
import time
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from tieline_sim.files import replace_file

#: Wall seconds between the publication of a change of speed and the change.
ANNOUNCE_S: Final = 0.8
_KEPT_SEGMENTS: Final = 6


def wall_time() -> float:
    """Wall time in seconds since 1970."""
    return time.time()


def utc_text(unix_s: float) -> str:
    """RFC 3339 text in UTC with milliseconds."""
    return datetime.fromtimestamp(round(unix_s, 3), UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass(frozen=True, slots=True)
class Segment:
    """From ``wall_unix_s`` on, simulated time is ``sim_unix_s + (wall - wall_unix_s) * speed``."""

    wall_unix_s: float
    sim_unix_s: float
    speed: float

    def sim_at(self, wall: float) -> float:
        """Simulated seconds since 1970 at a wall instant."""
        return self.sim_unix_s + (wall - self.wall_unix_s) * self.speed

    def wall_at(self, sim: float) -> float:
        """Wall instant of a simulated instant."""
        return self.wall_unix_s + (sim - self.sim_unix_s) / self.speed


class SimClock:
    """Simulated time, published as it changes.

    Args:
        path: Where it is published; an existing publication is continued.
        epoch_unix_s: Simulated instant to begin with when there is no publication yet.
        wall: Wall time in seconds since 1970.
    """

    def __init__(self, path: Path, epoch_unix_s: float, wall: Callable[[], float] = wall_time) -> None:
        self._path = path
        self._wall = wall
        self.resumed = path.exists()
        if self.resumed:
            rows = json.loads(path.read_text(encoding="utf-8"))["segments"]
            self.segments = tuple(Segment(**row) for row in rows)
        else:
            self.segments = (Segment(wall(), epoch_unix_s, 1.0),)
        self._publish()

    def _publish(self) -> None:
        text = json.dumps({"version": 1, "segments": [asdict(segment) for segment in self.segments]})
        replace_file(self._path, text, durable=True)

    def _segment_at(self, wall: float) -> Segment:
        starts = [segment.wall_unix_s for segment in self.segments]
        return self.segments[max(0, bisect_right(starts, wall) - 1)]

    def wall(self) -> float:
        """Wall time in seconds since 1970."""
        return self._wall()

    def now(self) -> float:
        """Simulated seconds since 1970."""
        wall = self._wall()
        return self._segment_at(wall).sim_at(wall)

    def speed(self) -> float:
        """Simulated seconds a wall second at present."""
        return self._segment_at(self._wall()).speed

    def speed_at(self, sim: float) -> float:
        """Speed that held (or will hold) at a simulated instant."""
        begins = [segment.sim_unix_s for segment in self.segments]
        return self.segments[max(0, bisect_right(begins, sim) - 1)].speed

    def change_speed(self, speed: float, *, normal_from_sim: float | None = None) -> None:
        """Announce a new speed, effective :data:`ANNOUNCE_S` from now; segments announced earlier for later are dropped.

        Args:
            speed: Simulated seconds a wall second, above 0.
            normal_from_sim: Simulated instant from which the speed is exactly 1 again, announced at once.

        Raises:
            ValueError: When the speed is not above 0.
        """
        if not speed > 0:
            raise ValueError(f"speed {speed} is not above 0")
        change = self._wall() + ANNOUNCE_S
        now_holding = tuple(segment for segment in self.segments if segment.wall_unix_s < change)
        begin = Segment(change, now_holding[-1].sim_at(change), speed)
        planned = [begin]
        if normal_from_sim is not None:
            if normal_from_sim > begin.sim_unix_s:
                planned.append(Segment(begin.wall_at(normal_from_sim), normal_from_sim, 1.0))
            else:
                planned = [Segment(begin.wall_unix_s, begin.sim_unix_s, 1.0)]
        self.segments = (*now_holding, *planned)[-_KEPT_SEGMENTS:]
        self._publish()
