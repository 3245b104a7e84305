"""Which orders stand at an instant, as a book-keeper would see it who has only the orders and the edge's clock."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from tests.simulation.hub import Order
from tieline_core.messages.command import Action, Command
from tieline_core.messages.plan import Plan, PlanMode

if TYPE_CHECKING:
    from tests.simulation.world import World

#: An order that ended so little ago may still be on its way to a device [s].
GRACE_S: Final = 20.0
_LIMIT: Final = "limit"
_SWITCH: Final = "switch"


class Standing:
    """What has been ordered of each device, and until when it counted last.

    Only genuine orders are entered. An order whose end the edge's clock has passed once never counts again, whatever
    that clock does later.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._seen: dict[str, dict[tuple[str, float], float]] = {}
        self._at_s = -1.0

    def look(self) -> None:
        """Enter what stands now."""
        now_s = self._world.timeline.now_s
        if now_s == self._at_s:
            return
        self._at_s = now_s
        now = self._world.clock.now()
        for order in self._world.hub.orders:
            if order.over or not order.genuine:
                continue
            if order.command is not None:
                order.over = now >= order.command.expires_at
                if not order.over:
                    self._enter_command(order.command)
            elif order.plan is not None:
                self._enter_plan(order, order.plan)

    def _enter(self, device: str, kind: str, value: float, for_s: float = 0.0) -> None:
        seen = self._seen.setdefault(device, {})
        seen[kind, value] = max(seen.get((kind, value), -1.0), self._world.timeline.now_s + for_s)

    def _enter_command(self, command: Command) -> None:
        device = str(command.device_id)
        if command.action is Action.SETPOINT_W:
            self._enter(device, "power", command.value_w or 0.0)
        elif command.action is Action.LIMIT_W:
            self._enter(device, _LIMIT, command.value_w or 0.0)
        elif command.action in (Action.OPEN, Action.CLOSE):
            self._enter(device, _SWITCH, float(command.action is Action.CLOSE))

    def _enter_plan(self, order: Order, plan: Plan) -> None:
        elapsed_s = (self._world.clock.now() - plan.start).total_seconds()
        index = int(elapsed_s // plan.step_s)
        # The last step is held for one more, and a limit becomes its failsafe, which is itself, for another.
        if index > plan.steps + 1:
            order.over = not self._world.scenario.clock_steps
            return
        last = plan.steps - 1
        for part in plan.devices:
            setpoints = part.mode is PlanMode.SETPOINT_W
            if setpoints and index > plan.steps:
                continue
            for place in sorted({min(index, last)} if setpoints else {min(index, last), min(index - 1, last)}):
                if place < 0:
                    continue
                value = part.values_w[place]
                if value is None:
                    continue
                kind = {PlanMode.SETPOINT_W: "power", PlanMode.GENERATION_LIMIT_W: _LIMIT}.get(part.mode, _SWITCH)
                # A limit that was heard ends on the line that never steps, wherever the clock is set meanwhile.
                left_s = (place + 2) * plan.step_s - elapsed_s
                self._enter(str(part.device_id), kind, value, max(0.0, left_s) if kind == _LIMIT and place == index else 0.0)

    def values(self, device: str, kind: str) -> list[float]:
        """Powers or limits ordered of a device now or a moment ago."""
        since_s = self._world.timeline.now_s - GRACE_S
        return [value for (one, value), at_s in self._seen.get(device, {}).items() if one == kind and at_s >= since_s]

    def may_open(self, device: str) -> bool:
        """Somebody with the right to it wants the contact open."""
        return any(value <= 0.0 for value in self.values(device, _SWITCH))

    def opening_ordered_s(self, device: str) -> float:
        """When somebody with the right to it wanted the contact open last."""
        return max(
            (at_s for (kind, value), at_s in self._seen.get(device, {}).items() if kind == _SWITCH and value <= 0.0),
            default=-math.inf,
        )

    def may_close(self, device: str) -> bool:
        """Somebody with the right to it wants the contact closed."""
        return any(value > 0.0 for value in self.values(device, _SWITCH))

    def limits(self, device: str) -> list[float]:
        """Limits ordered of a device."""
        return self.values(device, _LIMIT)

    def setpoint(self, device: str, since_s: float) -> float | None:
        """What an operator wants of a battery, when it is beyond doubt that the edge has known it for so long."""
        now, now_s = self._world.clock.now(), self._world.timeline.now_s
        commands = [one for one in self._world.hub.orders if one.command is not None and str(one.command.device_id) == device]
        mine = [one for one in commands if one.genuine and one.command is not None and one.command.action is Action.SETPOINT_W]
        if not mine or mine[-1] is not next((one for one in reversed(commands) if one.genuine), None):
            return None
        last = mine[-1]
        if last.command is None or last.over or last.taken_s is None or last.taken_s > now_s - since_s:
            return None
        return last.command.value_w if now + timedelta(seconds=2) < last.command.expires_at else None
