"""The story: phases, speeds and the scripted faults."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any

from tieline_sim.clock import SimClock
from tieline_sim.errors import SimulatorError
from tieline_sim.faults import FaultBoard
from tieline_sim.scenario import Scenario


class Phase(Enum):
    """Where the story stands."""

    SETUP = "setup"
    QUIET = "quiet"
    CLOSE = "close"
    AFTER = "after"


class Story:
    """Drives the clock and the faults; nothing scripted happens before it is started.

    Args:
        scenario: The script.
        clock: Whose speed it sets.
        faults: Whose switches it throws.
        event: Told of what happens.
    """

    def __init__(
        self, scenario: Scenario, clock: SimClock, faults: FaultBoard, event: Callable[[str, Mapping[str, Any]], None]
    ) -> None:
        self._scenario, self._clock, self._faults, self._event = scenario, clock, faults, event
        self._entries = sorted(scenario.timeline, key=lambda row: row.at)
        self.started_at: float | None = None
        self._done = 0

    def start(self) -> None:
        """Begin: quiet speed until shortly before the link cut, then 1 for good.

        Raises:
            SimulatorError: When it was started before.
        """
        if self.started_at is not None:
            raise SimulatorError("the story has been started already")
        self.started_at = self._clock.now()
        self._clock.change_speed(self._scenario.clock.quiet_speed, normal_from_sim=self._scenario.normal_from_unix_s)
        self._event("start", {"speed": self._scenario.clock.quiet_speed})

    def set_fault(self, name: str, active: bool, by: str) -> bool:
        """Switch a fault; True when that changed something."""
        changed = self._faults.set(name, active)
        if changed:
            self._event("fault-on" if active else "fault-off", {"fault": name, "by": by})
        return changed

    def tick(self, instant: float) -> None:
        """Throw the switches that are due."""
        if self.started_at is None:
            return
        while self._done < len(self._entries) and self._entries[self._done].at.timestamp() <= instant:
            entry = self._entries[self._done]
            self._done += 1
            self.set_fault(entry.fault, entry.active, "script")

    def phase(self, all_restored: bool) -> Phase:
        """Where the story stands; ``all_restored`` says whether every contactor is closed."""
        if self.started_at is None:
            return Phase.SETUP
        if self._done < len(self._entries):
            begin = self._scenario.normal_from_unix_s
            return Phase.QUIET if begin is None or self._clock.now() < begin else Phase.CLOSE
        return Phase.AFTER if all_restored and not self._faults.active else Phase.CLOSE

    def to_state(self) -> dict[str, Any]:
        """For the state file."""
        return {"started_at": self.started_at, "done": self._done}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take back what :meth:`to_state` gave."""
        self.started_at, self._done = state["started_at"], state["done"]
