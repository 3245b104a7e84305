"""A time line for timers: it starts at the time of day and then only counts what elapses, whoever sets the clock.

Holds, minimum times, ramps, back-offs and ages live on it, so that a clock set forward by two hours ends no minimum-off time
and one set back freezes nothing. What has an instant of the calendar (plan slots, validity, stamps) stays on UTC.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from tieline_core.clock import Clock

_NEAR: Final = timedelta(days=1)


class SteadyTime:
    """Instants that look like UTC and never step.

    Args:
        clock: Whose elapsed seconds are counted.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._origin = clock.now()
        self._origin_s = clock.elapsed_s()

    def now(self) -> datetime:
        """The present instant of the line."""
        return self._origin + timedelta(seconds=self._clock.elapsed_s() - self._origin_s)

    def resume(self, at: datetime, utc: datetime | None = None) -> None:
        """Go on from where an earlier run stood, by what the time of day says has passed since: the line never goes back.

        A clock that was set during that run so does not end its minimum times at the next start. Only a line that is more than
        a day away from the time of day is brought back to it. Called before anything was stamped.

        Args:
            at: Instant of the line when it was kept.
            utc: Time of day at that moment; None = it was not kept.
        """
        if utc is not None and abs(utc - at) <= _NEAR:
            self._origin = at + max(timedelta(0), self._clock.now() - utc)
        else:
            self._origin = max(self._origin, at)
