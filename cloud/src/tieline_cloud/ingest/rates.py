"""Token buckets by name: how much each edge may ask for, decided before anything it sent is parsed."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

#: Names remembered; one that was forgotten starts again with a full bucket.
_NAMES = 16_384


@dataclass(frozen=True, slots=True)
class Rate:
    """What a bucket gives.

    Attributes:
        per_s: Tokens that come back in a second.
        burst: Most tokens a bucket holds.
    """

    per_s: float
    burst: float

    def __post_init__(self) -> None:
        if self.per_s <= 0 or self.burst < 1:
            raise ValueError(f"a rate of {self.per_s} a second with bursts of {self.burst} lets nothing through")


class Buckets:
    """One token bucket a name, all of one rate; not safe in several threads by itself.

    Args:
        rate: What each bucket gives.
        monotonic: Seconds.
    """

    def __init__(self, rate: Rate, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._monotonic = monotonic
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def allow(self, name: str, tokens: float = 1.0) -> bool:
        """Take the tokens when they are there; more than a whole burst is asked as one."""
        now_s = self._monotonic()
        level, at_s = self._levels.get(name, (self._rate.burst, now_s))
        level = min(self._rate.burst, level + (now_s - at_s) * self._rate.per_s)
        allowed = level >= min(tokens, self._rate.burst)
        self._levels[name] = (level - min(tokens, self._rate.burst) if allowed else level, now_s)
        self._levels.move_to_end(name)
        if len(self._levels) > _NAMES:
            self._levels.popitem(last=False)
        return allowed
