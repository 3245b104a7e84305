"""The oracle: what must hold whatever happens, written from the laws and not from the code that keeps them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.simulation.field import Unit, Watcher
from tests.simulation.scenario import VITAL
from tieline_edge.drivers.capabilities import Action, HoldPower, SwitchContact

if TYPE_CHECKING:
    from tests.simulation.world import World


@dataclass(frozen=True, slots=True)
class Violation:
    """A law that did not hold."""

    at_s: float
    law: str
    device: str | None
    text: str

    def __str__(self) -> str:
        return f"{self.at_s:.3f} s, {self.law}{', ' + self.device if self.device else ''}: {self.text}"


class Oracle(Watcher):
    """Watches a world."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.violations: list[Violation] = []
        self.cycles = 0

    def violated(self, law: str, device: str | None, text: str) -> None:
        """A law did not hold."""
        violation = Violation(self._world.timeline.now_s, law, device, text)
        self.violations.append(violation)
        self._world.log("violation", str(violation))

    def started(self) -> None:
        """The agent has started."""

    def stopped(self) -> None:
        """The agent is gone."""

    def frozen(self, seconds: float) -> None:
        """The agent will not run for so long."""

    def clock_stepped(self) -> None:
        """The agent's clock was changed."""

    def told(self, unit: Unit, action: Action) -> None:
        """A device was told something."""
        device = str(unit.spec.device_id)
        self._world.log("told", f"{device} {action}")
        if isinstance(action, SwitchContact) and not action.closed and device == VITAL:
            self.violated("vital", device, "a vital load was told to open")
        if isinstance(action, HoldPower) and not unit.spec.p_min_w <= action.power_w <= unit.spec.p_max_w:
            self.violated("I4", device, f"told to hold {action.power_w:g} W beyond its rating")

    def cycle(self) -> None:
        """A second has passed."""
        self.cycles += 1

    def final(self) -> None:
        """The end."""
        world = self._world
        missing = [key for key in world.promised if not world.hub.store.readings[key]]
        if len(missing) > world.hub.store.skipped:
            self.violated("I1", None, f"{len(missing)} acknowledged readings never arrived, e.g. {missing[:3]}")
        for key, count in world.hub.store.readings.items():
            if count > max(1, world.acknowledged[key]):
                self.violated("I1", None, f"{key} arrived {count} times, it was recorded {world.acknowledged[key]} times")
                break
