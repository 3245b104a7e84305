"""Reversion timer: what SunSpec calls RvrtTms, counted in simulated seconds."""

from __future__ import annotations

from collections.abc import Callable


class ReversionTimer:
    """Runs down from its last restart; whoever asks after the end finds it expired once.

    Args:
        now: Simulated seconds since 1970.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self.deadline: float | None = None

    def restart(self, seconds: float) -> None:
        """Start over; 0 means that nothing ever reverts."""
        self.deadline = self._now() + seconds if seconds > 0 else None

    def remaining_s(self) -> float:
        """Seconds left, 0 when it does not run."""
        return max(0.0, self.deadline - self._now()) if self.deadline is not None else 0.0

    def expired(self) -> bool:
        """True exactly once after the end."""
        if self.deadline is None or self._now() < self.deadline:
            return False
        self.deadline = None
        return True
