"""Whether a device's own reversion timer started again with a refresh. Pure.

Sources: SunSpec models 123, 124 and 704. 704 shows what is left (``WSetRvrtRem``, ``WMaxLimPctRvrtRem``); 123 and 124 do
not. The models leave open whether writing a value, the timer or the switch restarts it, and devices differ.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

#: A device counts in whole seconds and some time passes between write and read-back.
_SLACK_S: Final = 2.0
_SLACK_SHARE: Final = 0.05


class Timer(Enum):
    """What the remaining time says."""

    RESTARTED = "restarted"
    RUNNING_DOWN = "running down"
    """It goes on from an earlier write: the device would revert although it is refreshed."""
    UNKNOWN = "unknown"
    """The device does not count, or not where it can be read."""


def judge_timer(timer_s: float, remaining_s: float | None, elapsed_s: float = 0.0) -> Timer:
    """What the device's remaining time says after a write.

    Args:
        timer_s: Time that was written [s].
        remaining_s: What the device says is left [s]; None = not implemented.
        elapsed_s: Time since the write began, in seconds of the clock the device counts [s].
    """
    if remaining_s is None or timer_s <= 0 or remaining_s == 0:
        return Timer.UNKNOWN
    slack_s = max(_SLACK_S, _SLACK_SHARE * timer_s) + elapsed_s
    return Timer.RESTARTED if remaining_s >= timer_s - slack_s else Timer.RUNNING_DOWN
