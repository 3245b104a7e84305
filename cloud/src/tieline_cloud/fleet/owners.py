"""Two owners of one edge id: a process says hello under a boot id of its own, and one that was left never comes back."""

from __future__ import annotations

from collections import deque
from typing import Final

from tieline_core.ids import EdgeId
from tieline_core.messages.telemetry import Hello

_REMEMBERED: Final = 16


class Owners:
    """Remembers who said hello for each edge, newest last."""

    def __init__(self) -> None:
        self._boots: dict[EdgeId, deque[str]] = {}
        self._told: dict[EdgeId, frozenset[str]] = {}

    def greeted(self, hello: Hello) -> str | None:
        """Take a hello; words for an alarm when an owner that was replaced speaks again, once for each pair."""
        boots = self._boots.setdefault(hello.edge_id, deque(maxlen=_REMEMBERED))
        if boots and boots[-1] == hello.boot_id:
            return None
        returned = hello.boot_id in boots
        pair = frozenset((hello.boot_id, *list(boots)[-1:]))
        if returned:
            boots.remove(hello.boot_id)
        boots.append(hello.boot_id)
        if not returned or self._told.get(hello.edge_id) == pair:
            return None
        self._told[hello.edge_id] = pair
        return (
            f"two processes speak for {hello.edge_id} in turn (boot ids {', '.join(sorted(boot[:8] for boot in pair))}): "
            "an image was cloned or two edges have one id; switch one of them off"
        )
