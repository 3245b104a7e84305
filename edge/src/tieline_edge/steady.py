"""A time line for timers: it starts at the time of day and then only counts what elapses, whoever sets the clock.

Holds, minimum times, ramps, back-offs and ages live on it, so that a clock set forward by two hours ends no minimum-off time
and one set back freezes nothing. What has an instant of the calendar (plan slots, validity, stamps) stays on UTC.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from tieline_core.clock import Clock


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

    def resume(self, at: datetime) -> None:
        """Go on from where an earlier run stood, if the time of day lies before that: the line never goes back.

        Called before anything was stamped.
        """
        self._origin = max(self._origin, at)
