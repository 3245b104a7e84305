"""A gateway without a time source wakes up in 1970: what may then be believed, and how its readings are stamped.

As long as the time of day lies before an instant this edge is known to have lived through, it is no time of day. Stamps then
run on from that instant with what elapses (relative time), readings are marked uncertain, and nothing that has a validity in
the calendar (plans, commands) is obeyed. When the real time arrives, its distance to the relative one is told once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from tieline_core.clock import Clock
from tieline_core.messages.telemetry import Event, IssuedForecast
from tieline_core.quantities import Quality, Reading
from tieline_core.timegrid import EPOCH
from tieline_edge.outbox.ports import Recorder

#: No edge of this software has lived before.
RELEASED: Final = datetime(2025, 1, 1, tzinfo=UTC)
#: The clocks of two boots may differ by this much.
SLACK: Final = timedelta(minutes=5)
#: A file that claims to be further ahead of a possible time of day was written by a clock that was wrong itself.
FAR: Final = timedelta(days=400)


def last_sign_of_life(folder: Path) -> datetime:
    """When a state directory was last written to, at least :data:`RELEASED`: the disk remembers what the clock forgot."""
    stamps = [path.stat().st_mtime for path in folder.glob("*") if path.is_file()] if folder.is_dir() else []
    return max([RELEASED, *(EPOCH + timedelta(seconds=stamp) for stamp in stamps)])


class DatedClock:
    """A clock that runs on relative time until the time of day can be believed.

    Args:
        clock: The computer's.
        known: An instant that has certainly passed.
    """

    def __init__(self, clock: Clock, known: datetime) -> None:
        self._clock = clock
        now = clock.now()
        self._known = RELEASED if now >= RELEASED and known - now > FAR else known
        self._began_s = clock.elapsed_s()
        self._dated = now >= self._known - SLACK
        #: How far relative time was behind when the time of day arrived [s]; None until then.
        self.behind_s: float | None = None

    def undated(self) -> str | None:
        """Why the time of day cannot be believed; None when it can."""
        self.now()
        if self._dated:
            return None
        return f"the clock says {self._clock.now():%Y-%m-%d %H:%M}, this edge ran at {self._known:%Y-%m-%d %H:%M} UTC already"

    def now(self) -> datetime:
        """The time of day, or relative time."""
        real = self._clock.now()
        if self._dated:
            return real
        relative = self._known + timedelta(seconds=self._clock.elapsed_s() - self._began_s)
        if real < self._known - SLACK:
            return relative
        self._dated, self.behind_s = True, (real - relative).total_seconds()
        return real

    def speed(self) -> float:
        """As the computer's."""
        return self._clock.speed()

    def elapsed_s(self) -> float:
        """As the computer's; it never steps."""
        return self._clock.elapsed_s()

    async def sleep(self, seconds: float, at_least_wall_s: float = 0.0) -> None:
        """As the computer's."""
        await self._clock.sleep(seconds, at_least_wall_s)


class DatedRecorder:
    """Marks what is recorded on relative time.

    Args:
        recorder: Where it goes.
        clock: Says whether time is relative.
    """

    def __init__(self, recorder: Recorder, clock: DatedClock) -> None:
        self._recorder = recorder
        self._clock = clock

    async def record(self, readings: Sequence[Reading]) -> None:
        """Record; good becomes uncertain, for its instant is."""
        if self._clock.undated() is not None:
            readings = [replace(one, quality=Quality.UNCERTAIN) if one.quality is Quality.GOOD else one for one in readings]
        await self._recorder.record(readings)

    async def record_event(self, event: Event) -> None:
        """Record; the event says that its instant is relative."""
        if self._clock.undated() is not None:
            event = event.model_copy(update={"data": {**event.data, "relative_time": True}})
        await self._recorder.record_event(event)

    async def record_forecast(self, forecast: IssuedForecast) -> None:
        """Record unchanged."""
        await self._recorder.record_forecast(forecast)
