"""Customer meters that publish JSON (the simulator's own format; obligations in the style of OMS and DLMS push).

A meter makes a reading every period of simulated time. It keeps it, and repeats it with the same id, until the receipt of
the head end came back. Ids follow from time, so that no two readings ever share one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from math import floor
from typing import Any, Final

from tieline_sim.clock import utc_text

_BACKOFFS_S: Final = (2.0, 4.0, 8.0)
#: Readings a meter concentrator remembers; older ones are overwritten, as in a real meter.
MEMORY: Final = 20_000


@dataclass
class Message:
    """A reading on its way: payload, how often it was sent, when it is due again (monotonic seconds)."""

    meter: str
    id: str
    payload: str
    tries: int = 0
    due_s: float = 0.0


@dataclass
class Outstanding:
    """Messages without a receipt, oldest first."""

    messages: dict[str, Message] = field(default_factory=dict)

    def add(self, message: Message) -> None:
        """Remember a message, at the cost of the oldest when memory is full."""
        self.messages[message.id] = message
        while len(self.messages) > MEMORY:
            del self.messages[next(iter(self.messages))]

    def receipted(self, message_id: str) -> Message | None:
        """Forget a message whose receipt came; None for one that is not outstanding."""
        return self.messages.pop(message_id, None)

    def due(self, moment_s: float, limit: int) -> Iterator[Message]:
        """Up to ``limit`` messages to be transmitted now, oldest first; each is put back by its back-off."""
        found = 0
        for message in self.messages.values():
            if message.due_s <= moment_s:
                message.due_s = moment_s + _BACKOFFS_S[min(message.tries, len(_BACKOFFS_S) - 1)]
                message.tries += 1
                yield message
                found += 1
                if found >= limit:
                    return

    def reset_waits(self) -> None:
        """Have everything due at once, after a new connection."""
        for message in self.messages.values():
            message.due_s = 0.0


class MeterRow:
    """The meters of one substation.

    Args:
        serials: Serial number of each.
        epoch_unix_s: Instant the count of readings starts from.
        period_s: Simulated seconds between two readings of one meter.
        newest: Instant of the newest reading already made, by serial.
    """

    def __init__(
        self, serials: Iterable[str], epoch_unix_s: float, period_s: float, newest: Mapping[str, float] | None = None
    ) -> None:
        self.serials = list(serials)
        self._epoch, self._period = epoch_unix_s, period_s
        self._next: list[int | None] = [None] * len(self.serials)
        for place, serial in enumerate(self.serials):
            if newest and serial in newest:
                # Instants are told in whole milliseconds: the nearest number is meant, not the one before.
                self._next[place] = round((newest[serial] - epoch_unix_s - self._offset(place)) / period_s) + 1

    def _offset(self, place: int) -> float:
        """Meters of a row report one after the other."""
        return self._period * place / len(self.serials)

    def _count(self, place: int, instant: float) -> int:
        return floor((instant - self._epoch - self._offset(place)) / self._period + 1e-6)

    def readings(
        self, previous: float, now: float, read: Callable[[int], Mapping[str, float]]
    ) -> list[tuple[float, Message, dict[str, Any]]]:
        """Readings that fell due after ``previous`` and up to ``now``: (instant, message, values)."""
        result = []
        for place, serial in enumerate(self.serials):
            first = self._next[place]
            if first is None or self._epoch + self._offset(place) + first * self._period < previous - self._period:
                first = self._count(place, previous) + 1  # what fell due while the field was down was never measured
            last = self._count(place, now)
            for number in range(max(0, first), last + 1):
                instant = round(self._epoch + self._offset(place) + number * self._period, 3)
                values = dict(read(place))
                message_id = f"{serial}-{number}"
                body = {"id": message_id, "serial": serial, "ts": utc_text(instant), **values}
                result.append((instant, Message(serial, message_id, json.dumps(body, separators=(",", ":"))), values))
            self._next[place] = max(first, last + 1)
        return result
