"""Messages of many senders under one bound: order within a sender is kept, turns go round by the work a message makes.

Deficit round robin (Shreedhar and Varghese, 1995): each sender in turn may spend a quantum of work, and what it could not
spend on its next message it keeps for its next turn. A sender with a thousand waiting frames delays another one by one
quantum, not by a thousand frames.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import Generic, TypeVar

_Item = TypeVar("_Item")


@dataclass(slots=True)
class _Lane(Generic[_Item]):
    items: deque[tuple[_Item, int]] = field(default_factory=deque)
    credit: int = 0


class FairQueue(Generic[_Item]):
    """A queue for each sender and one order of turns; not safe in several threads by itself.

    Args:
        quantum: Work a sender may spend in a turn.
    """

    def __init__(self, quantum: int) -> None:
        self._quantum = quantum
        self._lanes: OrderedDict[str, _Lane[_Item]] = OrderedDict()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def waiting(self, sender: str) -> int:
        """Messages of one sender that wait."""
        lane = self._lanes.get(sender)
        return 0 if lane is None else len(lane.items)

    def longest(self) -> int:
        """Messages of the sender with most of them."""
        return max((len(lane.items) for lane in self._lanes.values()), default=0)

    def push(self, sender: str, item: _Item, work: int) -> None:
        """Put a message behind the others of its sender."""
        lane = self._lanes.get(sender)
        if lane is None:
            lane = self._lanes[sender] = _Lane()
        lane.items.append((item, work))
        self._count += 1

    def take(self, most: int, most_work: int) -> list[_Item]:
        """Take up to ``most`` messages and about ``most_work`` of work; at least one when any waits."""
        taken: list[_Item] = []
        work = 0
        while self._lanes and len(taken) < most and work < most_work:
            sender, lane = next(iter(self._lanes.items()))
            lane.credit += self._quantum
            while lane.items and len(taken) < most and lane.items[0][1] <= lane.credit:
                item, cost = lane.items.popleft()
                lane.credit -= cost
                work += cost
                taken.append(item)
            if lane.items:
                self._lanes.move_to_end(sender)
            else:
                del self._lanes[sender]
        self._count -= len(taken)
        return taken
