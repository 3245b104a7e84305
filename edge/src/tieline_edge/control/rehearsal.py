"""Dry run: decisions are traced and told as if they were carried out, and nothing is written to any device."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from tieline_core.clock import Clock
from tieline_core.ids import DeviceId
from tieline_core.messages.command import CommandState
from tieline_edge.control.arbiter import Decision
from tieline_edge.control.effect import same
from tieline_edge.control.executor import DeviceHandle, Executor, Listener, Outcome, Timing
from tieline_edge.control.facts import SiteFacts
from tieline_edge.drivers.capabilities import Action, LimitGeneration, Release

DRY_RUN: Final = "dry run: nothing is written to any device"


class Rehearsal(Executor):
    """An executor that keeps its hands in its pockets: each change of what it would write is told once."""

    def __init__(self, handles: Mapping[DeviceId, DeviceHandle], clock: Clock, timing: Timing, listener: Listener) -> None:
        super().__init__(handles, clock, timing, listener)
        self._would: dict[DeviceId, Action] = {}

    async def carry_out(self, decisions: Mapping[DeviceId, Decision], _facts: SiteFacts) -> frozenset[DeviceId]:
        """Tell what would be written now; no device is asked for anything."""
        now = self._clock.now()
        for device, decision in decisions.items():
            line, action = self._lines.get(device), decision.action
            if line is None or action is None or not self._is_news(device, action):
                continue
            self._would[device] = action
            line.source = "" if decision.winner is None else decision.winner.source
            await self._listener(Outcome(device, CommandState.COMMANDED, action, line.source, DRY_RUN, now))
        return frozenset()

    async def release(self, _devices: Iterable[DeviceId]) -> None:
        """Nothing was taken, so nothing is handed back."""

    def _is_news(self, device: DeviceId, action: Action) -> bool:
        before = self._would.get(device)
        if before is None:
            # A device nobody has written to is in its default already.
            return not (isinstance(action, Release) or (isinstance(action, LimitGeneration) and action.min_power_w is None))
        return not same(self._lines[device].handle.spec, before, action)
