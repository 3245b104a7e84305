"""What happens to the time of day, for the operator: steps, a start without it, and its arrival."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final, Protocol

from tieline_core.messages.telemetry import Severity
from tieline_edge.shedding.rule import RuleEvent

#: Smaller differences between two cycles are no step.
STEP: Final = timedelta(seconds=2)


class Dating(Protocol):
    """Whether the time of day can be believed."""

    @property
    def behind_s(self) -> float | None:
        """How far relative time was behind when the time of day arrived [s]."""
        ...

    def undated(self) -> str | None:
        """Why it cannot be believed now; None when it can."""
        ...


class Dated:
    """The time of day is beyond doubt, as on a simulated clock."""

    behind_s: float | None = None

    def undated(self) -> str | None:
        """Nothing is wrong with it."""
        return None


class TimeWatch:
    """Compares the time of day with the line that never steps, once a cycle.

    Args:
        dating: Whether the time of day can be believed.
    """

    def __init__(self, dating: Dating) -> None:
        self._dating = dating
        self._ahead: timedelta | None = None
        self._undated = False

    def look(self, utc: datetime, steady: datetime) -> tuple[RuleEvent, ...]:
        """What to tell of it."""
        why, ahead, before = self._dating.undated(), utc - steady, self._ahead
        was_undated, self._ahead, self._undated = self._undated, ahead, why is not None
        if why is not None and not was_undated:
            text = f"no time of day: {why}; stamps are relative, plans and commands are not obeyed"
            return (RuleEvent(Severity.ALARM, "clock.undated", text),)
        if why is None and was_undated:
            behind = self._dating.behind_s or 0.0
            text = f"the time of day is known; stamps of this start up to now are {behind:.0f} s behind"
            return (RuleEvent(Severity.ACTION, "clock.dated", text, data={"behind_s": round(behind, 3)}),)
        if before is None or abs(ahead - before) < STEP:
            return ()
        by_s = (ahead - before).total_seconds()
        text = f"the clock was set by {by_s:+.0f} s; timers go on, plan slots follow the new time"
        return (RuleEvent(Severity.ACTION, "clock.stepped", text, data={"by_s": round(by_s, 3)}),)
