"""The yardstick for flying blind: the same time once more, with batteries that knew every load of it beforehand.

Nobody is switched off in this replay. The loads of the true world are looked up in advance, a linear programme finds the
battery powers with the least energy above the rating (then the lowest peak, then the least throughput), and the AC power flow
says for how long limits were violated all the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from tieline_sim.devices.battery import Battery
from tieline_sim.network import Floats, load_base
from tieline_sim.scenario import Scenario
from tieline_sim.violations import Minutes
from tieline_sim.world import World

STEP_S: Final = 900.0
#: Loads flutter within a quarter-hour; the schedule leaves this much of the rating to them.
_MARGIN: Final = 0.985
_LOOKS_A_STEP: Final = 2
#: Weights: a watt above the rating for a step, a watt of peak, a watt of throughput for a step.
_EXCESS, _PEAK, _THROUGHPUT = 1e3, 1.0, 1e-3


@dataclass
class Driven:
    """A battery that does what a schedule says, in the place of one that listens to registers."""

    battery: Battery
    power_w: float = 0.0

    def target_w(self) -> float:
        """The schedule's power, charging positive."""
        return self.power_w


@dataclass(frozen=True, slots=True)
class Demanded:
    """What a substation draws without batteries, by step: power at the busbar, and how much of it the rating allows."""

    p_w: Floats
    allowed_w: Floats


def _world(scenario: Scenario, cache: Path | None) -> tuple[World, Callable[[float], None]]:
    """A world of its own and how to move it; nothing it does is logged."""
    now = [scenario.epoch_unix_s]

    def ignore(_name: str, _details: Mapping[str, Any]) -> None:
        return

    world = World(load_base(scenario.network.simbench_code, cache), scenario, lambda: now[0], lambda: 0.0, ignore)

    def move(instant: float) -> None:
        now[0] = instant
        world.tick(instant)

    return world, move


def demanded(scenario: Scenario, begin: float, end: float, cache: Path | None = None) -> dict[str, Demanded]:
    """Look ahead: what each substation will draw in each step of a time."""
    world, move = _world(scenario, cache)
    steps = int((end - begin) // STEP_S)
    rows: dict[str, list[tuple[float, float]]] = {name: [] for name in world.substations}
    for step in range(steps):
        looks: dict[str, list[tuple[float, float]]] = {name: [] for name in world.substations}
        for look in range(_LOOKS_A_STEP):
            move(begin + (step + (look + 0.5) / _LOOKS_A_STEP) * STEP_S)
            for name, station in world.substations.items():
                busbar = station.free_busbar
                full_va = np.hypot(busbar.p_w, busbar.q_var) * 100.0 / busbar.loading_pct if busbar.loading_pct > 0 else 0.0
                looks[name].append((busbar.p_w, float(np.sqrt(max(0.0, (_MARGIN * full_va) ** 2 - busbar.q_var**2)))))
        for name, found in looks.items():
            rows[name].append((float(np.mean([one[0] for one in found])), min(one[1] for one in found)))
    return {
        name: Demanded(np.array([one[0] for one in found]), np.array([one[1] for one in found])) for name, found in rows.items()
    }


def schedule(need: Demanded, batteries: Mapping[str, Battery]) -> dict[str, Floats]:
    """Battery powers by step, charging positive [W]: least excess first, then the lowest peak, then the least throughput."""
    from scipy.optimize import linprog
    from scipy.sparse import csr_matrix, eye, hstack, lil_matrix, vstack

    steps, hours = len(need.p_w), STEP_S / 3600.0
    names = list(batteries)
    # Columns: charge, discharge and content of each battery by step, then the excess by step, then the peak.
    width = 3 * len(names) * steps + steps + 1
    balance, content = lil_matrix((len(names) * steps, width)), np.zeros(len(names) * steps)
    bounds: list[tuple[float, float | None]] = []
    cost = np.zeros(width)
    draws = []
    for number, name in enumerate(names):
        battery = batteries[name]
        one = 3 * number * steps
        eta = battery.spec.efficiency
        for step in range(steps):
            row = number * steps + step
            balance[row, one + step], balance[row, one + steps + step] = -eta * hours, hours / eta
            balance[row, one + 2 * steps + step] = 1.0
            if step:
                balance[row, one + 2 * steps + step - 1] = -1.0
            else:
                content[row] = battery.soc_wh
        low, high = (battery.capacity_wh * part / 100 for part in (battery.spec.soc_min_pct, battery.spec.soc_max_pct))
        bounds += [(0.0, battery.rating_w)] * (2 * steps) + [(min(low, battery.soc_wh), max(high, battery.soc_wh))] * steps
        cost[one : one + 2 * steps] = _THROUGHPUT
        draws.append(hstack([eye(steps), -eye(steps), csr_matrix((steps, steps))]))
    bounds += [(0.0, None)] * (steps + 1)
    cost[-steps - 1 : -1], cost[-1] = _EXCESS, _PEAK
    drawn = hstack(draws)
    over = hstack([drawn, -eye(steps), csr_matrix((steps, 1))])
    peak = hstack([drawn, csr_matrix((steps, steps)), csr_matrix(-np.ones((steps, 1)))])
    solved = linprog(
        cost,
        A_ub=vstack([over, peak]).tocsr(),
        b_ub=np.concatenate([need.allowed_w - need.p_w, -need.p_w]),
        A_eq=balance.tocsr(),
        b_eq=content,
        bounds=bounds,
        method="highs",
    )
    if solved.x is None:
        raise RuntimeError(f"the schedule with foresight was not found: {solved.message}")
    powers = solved.x
    return {
        name: powers[3 * n * steps : (3 * n + 1) * steps] - powers[(3 * n + 1) * steps : (3 * n + 2) * steps]
        for n, name in enumerate(names)
    }


def replay(
    scenario: Scenario, begin: float, end: float, tick_s: float, content_pct: Mapping[str, float], cache: Path | None = None
) -> dict[str, Minutes]:
    """Violations of the same time with perfect foresight, by substation.

    Args:
        scenario: The world.
        begin: First simulated instant [s since 1970].
        end: Last one.
        tick_s: Distance of power flows [simulated s]; that of the run it is compared with.
        content_pct: State of charge at the beginning, by ``<substation>.<battery>``.
        cache: Folder for converted SimBench data.
    """
    need = demanded(scenario, begin, end, cache)
    world, move = _world(scenario, cache)
    driven: dict[str, dict[str, Driven]] = {}
    plans: dict[str, dict[str, Floats]] = {}
    for name, station in world.substations.items():
        driven[name] = {device: Driven(face.battery) for device, face in station.batteries.items()}
        for device, one in driven[name].items():
            one.battery.soc_wh = one.battery.capacity_wh * content_pct[f"{name}.{device}"] / 100.0
        station.batteries = dict(driven[name])  # type: ignore[arg-type]  # only power and setpoint of a battery are asked for here
        plans[name] = schedule(need[name], {device: one.battery for device, one in driven[name].items()})
    found = {name: Minutes() for name in world.substations}
    for instant in np.arange(begin, end - tick_s, tick_s).tolist():
        step = min(int((instant - begin) // STEP_S), len(next(iter(need.values())).p_w) - 1)
        for name, devices in driven.items():
            for device, one in devices.items():
                one.power_w = float(plans[name][device][step])
        move(instant)
        for name, station in world.substations.items():
            found[name].add(tick_s, station.busbar.loading_pct, station.busbar.vm_pu)
    return found
