"""What happens to the edge: weather, people, broken devices, broken links, broken disks, sudden death."""

from __future__ import annotations

import errno
import random
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from tests.simulation.orders import Orders
from tests.simulation.scenario import TRANSFORMER, VITAL
from tieline_edge.drivers.capabilities import Role

if TYPE_CHECKING:
    from tests.simulation.world import World

#: Troubles of devices: how long they last at most [s].
_DEVICE: Final = {
    "device dead": 240.0,
    "device slow": 120.0,
    "device lies": 120.0,
    "device deaf": 120.0,
    "device refuses": 120.0,
    "sensor stuck": 120.0,
    "sensor nan": 90.0,
}


class Happenings:
    """Makes things happen in a world."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._count = 0
        self._well = False
        self.orders = Orders(world)

    def begin(self) -> None:
        """The state of things at first light."""
        world = self._world
        rng = random.Random(f"begin {world.scenario.seed}")
        plant = world.field
        plant.base_w = rng.uniform(0.15, 0.3) * plant.rated_va
        loads = [unit for unit in plant.units.values() if unit.spec.role is Role.LOAD]
        for unit in plant.units.values():
            unit.latency_s = rng.choice((0.01, 0.03, 0.1))
            unit.soc_pct = rng.uniform(15.0, 85.0)
            if unit.spec.role is Role.PV:
                unit.demand_w = rng.uniform(-40e3, -5e3)
        for unit in loads:
            unit.demand_w = rng.uniform(0.6, 1.4) * 0.5 * plant.rated_va / len(loads)
        self._weather(rng)
        self._reach(rng)

    def _weather(self, rng: random.Random) -> None:
        """Clouds and customers, every half minute."""
        plant = self._world.field

        def change() -> None:
            plant.sun = min(1.0, max(0.1, plant.sun + rng.uniform(-0.15, 0.15)))
            for unit in plant.units.values():
                if unit.spec.role is Role.LOAD:
                    unit.demand_w = min(50e3, max(500.0, unit.demand_w * rng.uniform(0.97, 1.03)))
            self._world.timeline.after(30.0, change)

        self._world.timeline.after(30.0, change)

    def _reach(self, rng: random.Random) -> None:
        """The hub can be reached for a share of the time."""
        world, share = self._world, self._world.scenario.link_share

        def toggle() -> None:
            if self._well:
                return
            line = world.hub.net.line
            line.refused = not line.refused
            world.log("link", "gone" if line.refused else "there")
            world.hub.net.changed()
            if line.refused:
                world.hub.net.cut()
            stay_s = rng.uniform(60.0, 240.0)
            world.timeline.after(stay_s * (1.0 - share) / share if line.refused else stay_s, toggle)

        world.hub.net.line.refused = True
        world.timeline.after(rng.uniform(1.0, 20.0), toggle)

    def happen(self, kind: str) -> None:
        """Let something of a kind happen."""
        self._count += 1
        rng = random.Random(f"{self._world.scenario.seed} {self._count} {kind}")
        self._world.log("happens", kind)
        if kind in _DEVICE:
            self._device(kind, rng)
        elif kind in ("plan", "command", "bad command", "policy", "replay", "bogus ack"):
            self.orders.give(kind, rng)
        else:
            getattr(self, "_" + kind.replace(" ", "_"))(rng)

    def _for(self, seconds: float, end: Callable[[], None]) -> None:
        self._world.timeline.after(seconds, end)

    def _device(self, kind: str, rng: random.Random) -> None:
        units = self._world.field.units
        name = rng.choice(sorted(units))
        if kind == "sensor stuck" and name == TRANSFORMER:
            # A transformer that shows the past for ever cannot be told from a calm one; what it may cost is its own test.
            return
        faults, seconds = units[name].faults, rng.uniform(5.0, _DEVICE[kind])
        attribute = kind.split()[1]
        if attribute == "slow":
            faults.slow_s = rng.uniform(0.3, 2.5)
            self._for(seconds, lambda: setattr(faults, "slow_s", 0.0))
            return
        setattr(faults, attribute, True)
        self._for(seconds, lambda: setattr(faults, attribute, False))

    def _overload(self, rng: random.Random) -> None:
        plant = self._world.field
        plant.factor = rng.uniform(1.3, 2.4)
        self._for(rng.uniform(30.0, 400.0), lambda: setattr(plant, "factor", 1.0))

    def _bus_dead(self, rng: random.Random) -> None:
        plant = self._world.field
        plant.advance()
        plant.bus_live = False

        def back() -> None:
            plant.advance()
            plant.bus_live = True

        self._for(rng.uniform(5.0, 120.0), back)

    def _hand(self, rng: random.Random) -> None:
        loads = [
            unit for name, unit in sorted(self._world.field.units.items()) if unit.spec.role is Role.LOAD and name != VITAL
        ]
        unit = rng.choice(loads)
        self._world.field.hand(unit)
        if not unit.closed and rng.random() < 0.7:
            self._for(rng.uniform(20.0, 300.0), lambda: None if unit.closed else self._world.field.hand(unit))

    def _line(self, seconds: float, **change: object) -> None:
        net = self._world.hub.net
        before = {name: getattr(net.line, name) for name in change}

        def set_to(values: dict[str, object]) -> None:
            for name, value in values.items():
                setattr(net.line, name, value)
            net.changed()

        set_to(change)
        restored = {name: {"up": True, "down": True, "twice": 0.0}.get(name, before[name]) for name in change}
        self._for(seconds, lambda: set_to(restored))

    def _link_cut(self, _rng: random.Random) -> None:
        self._world.hub.net.cut()

    def _link_black_hole(self, rng: random.Random) -> None:
        self._line(rng.uniform(2.0, 90.0), up=False, down=False)

    def _link_one_way(self, rng: random.Random) -> None:
        self._line(rng.uniform(5.0, 90.0), **{rng.choice(("up", "down")): False})

    def _link_refused(self, _rng: random.Random) -> None:
        self._world.hub.net.cut()

    def _duplicates(self, rng: random.Random) -> None:
        self._line(rng.uniform(30.0, 200.0), twice=0.5)

    def _disk_errors(self, rng: random.Random) -> None:
        disk = self._world.disk
        disk.refuses, disk.share = (errno.EIO, errno.ENOSPC), rng.choice((0.1, 0.5, 1.0))
        self._for(rng.uniform(5.0, 60.0), lambda: setattr(disk, "refuses", ()))

    def _disk_full(self, rng: random.Random) -> None:
        disk = self._world.disk
        disk.refuses, disk.share = (errno.ENOSPC,), 1.0
        self._for(rng.uniform(5.0, 60.0), lambda: setattr(disk, "refuses", ()))

    def _kill(self, _rng: random.Random) -> None:
        self._world.die(power_cut=False)

    def _power_cut(self, _rng: random.Random) -> None:
        self._world.die(power_cut=True)

    def _kill_at_work(self, rng: random.Random) -> None:
        self._world.kill_in = rng.randint(1, 12)

    def _freeze(self, rng: random.Random) -> None:
        """SIGSTOP and, later, SIGCONT."""
        world = self._world
        if world.up:
            # As every fault it ends when all is to be well, or hardly any time were left to come right in.
            seconds = min(rng.choice((3.0, 30.0, 300.0)), max(3.0, world.end_s - world.timeline.now_s))
            world.oracle.frozen(seconds)
            world.timeline.run_until(world.timeline.now_s + seconds)

    def _clock_step(self, rng: random.Random) -> None:
        clock = self._world.clock
        clock.wrong_by_s = rng.choice((-7200.0, -60.0, -2.0, 0.0, 2.0, 60.0, 7200.0))
        self._world.log("clock", f"{clock.wrong_by_s:+g}")
        self._world.oracle.clock_stepped()

    def all_is_well(self) -> None:
        """Every fault ends; from here on everything has to come right without a hand."""
        world = self._world
        self._well = True
        world.log("well")
        for unit in world.field.units.values():
            unit.faults.dead = unit.faults.lies = unit.faults.deaf = unit.faults.refuses = False
            unit.faults.stuck = unit.faults.nan = False
            unit.faults.slow_s = 0.0
        world.field.advance()
        world.field.factor, world.field.bus_live = 1.0, True
        world.disk.refuses = ()
        world.kill_in = None
        line = world.hub.net.line
        line.up = line.down = True
        line.refused, line.twice = False, 0.0
        world.hub.net.changed()
        if world.clock.wrong_by_s:
            world.clock.wrong_by_s = 0.0
            world.oracle.clock_stepped()
        self.orders.last_plan(timedelta(seconds=20))
        world.timeline.after(60.0, self.orders.last_commands)
