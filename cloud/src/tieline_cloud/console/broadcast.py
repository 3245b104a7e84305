"""Feeds the live socket: edges when something changed, last values while somebody watches; never more than once a second."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from tieline_cloud.console.live import LiveHub

_PACE_S: Final = 1.0


class Broadcaster:
    """Coalesces changes into state messages.

    Args:
        live: Where to.
        edges: Makes the edges as the API shows them.
        readings: Makes the last values as the API shows them.
    """

    def __init__(
        self, live: LiveHub, edges: Callable[[], list[dict[str, Any]]], readings: Callable[[], list[dict[str, Any]]]
    ) -> None:
        self._live = live
        self._edges = edges
        self._readings = readings
        self._edges_changed = True
        self._wake = asyncio.Event()
        self._wake.set()

    def edges_changed(self) -> None:
        """Something about an edge changed."""
        self._edges_changed = True
        self._wake.set()

    def readings_changed(self) -> None:
        """New values came on the live lane."""
        self._wake.set()

    async def run(self) -> None:
        """Publish, for ever."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            if self._edges_changed:
                self._edges_changed = False
                self._live.publish_json("edges", "edges", {"edges": self._edges()})
            if self._live.wanted("readings"):
                self._live.publish_json("readings", "readings", {"values": self._readings()})
            await asyncio.sleep(_PACE_S)
