"""The table of limits and sensitivities that travels with an edge's plan, so that it respects the network without the hub."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

import numpy as np

from tieline_cloud.gridmodel.model import BoolArray, FloatArray, GridModel, Substation
from tieline_cloud.planning.certify import scenario_powers, site_plan_kw
from tieline_cloud.planning.control_tree import P50
from tieline_cloud.planning.formulation import Schedule
from tieline_cloud.planning.problem import PlanningProblem
from tieline_cloud.powerflow.sensitivity import Sensitivity, sensitivity
from tieline_cloud.powerflow.solver import PowerFlow, PowerFlowResult
from tieline_cloud.powerflow.tree import radial_tree
from tieline_core.ids import DeviceId
from tieline_core.messages.network import Measured, NetworkElement, NetworkTable
from tieline_core.messages.network import Sensitivity as DeviceSensitivity

#: Branches above the site that are told, the most loaded ones.
BRANCHES: Final = 4
Powers = dict[DeviceId, tuple[float, ...]]


def network_tables(
    engine: PowerFlow, problem: PlanningProblem, schedule: Schedule, solved: PowerFlowResult
) -> dict[str, NetworkTable]:
    """One table an edge, linearised around the plan at P50.

    What the edge measures itself is told with its expected value at P50; of what it cannot see, the worst of the three
    scenarios is expected.

    Args:
        engine: The network.
        problem, schedule: What was planned.
        solved: AC solution of the plan, scenario-major [3 T, ...].

    Raises:
        NotRadialError: When the network is operated with a loop.
        PowerFlowDivergedError: When a state beside an operating point has no solution.
    """
    p_w, q_var = scenario_powers(engine.grid, problem, site_plan_kw(problem, schedule))
    middle = slice(P50 * problem.steps, (P50 + 1) * problem.steps)
    tables = {}
    for site in problem.sites:
        substation = engine.grid.substation(site.edge_id)
        moved = sensitivity(engine, p_w[middle], q_var[middle], substation.lv_bus)
        powers = _powers(problem, schedule, site.edge_id)
        tables[site.edge_id] = NetworkTable(
            start=problem.start,
            step_s=int(problem.step.total_seconds()),
            topology_hash=engine.grid.topology_hash,
            p_w=powers,
            elements=tuple(_elements(engine.grid, problem, substation, solved, moved, tuple(powers))),
        )
    return tables


def _powers(problem: PlanningProblem, schedule: Schedule, edge_id: str) -> Powers:
    """What each device draws at P50 [W], one number a step."""
    found: dict[str, FloatArray] = {}
    for b, battery in enumerate(problem.batteries):
        if battery.edge_id == edge_id:
            found[battery.device_id] = schedule.battery_kw[b] * 1e3
    for p, plant in enumerate(problem.pv):
        if plant.edge_id == edge_id:
            free = plant.share * problem.site(edge_id).pv_p50_w
            found[plant.device_id] = np.maximum(free, -schedule.pv_limit_kw[p] * 1e3)
    for f, load in enumerate(problem.flexible):
        if load.edge_id == edge_id:
            found[load.device_id] = schedule.flexible_kw[f] * 1e3
    return {DeviceId(name): _rounded(values, 0) for name, values in found.items()}


def _elements(
    grid: GridModel,
    problem: PlanningProblem,
    substation: Substation,
    solved: PowerFlowResult,
    moved: Sensitivity,
    devices: Sequence[DeviceId],
) -> list[NetworkElement]:
    steps, most = problem.steps, problem.limits.loading_max_pct
    loading = solved.loading_pct.reshape(3, steps, -1)
    vm = solved.vm_pu.reshape(3, steps, -1)
    transformer = DeviceId(substation.transformer.split("/", 1)[1])

    def element(
        name: str,
        quantity: Literal["loading_pct", "vm_pu"],
        limits: tuple[float | None, float | None],
        value: FloatArray,
        rows: tuple[FloatArray, FloatArray],
        measured: Measured | None = None,
    ) -> NetworkElement:
        digits = 3 if quantity == "loading_pct" else 6
        per_mw, per_mvar = (_rounded(row, digits) for row in rows)
        return NetworkElement(
            element=name,
            quantity=quantity,
            low=limits[0],
            high=limits[1],
            value=_rounded(value, digits),
            measured=measured,
            sensitivities=tuple(DeviceSensitivity(device_id=one, per_mw=per_mw, per_mvar=per_mvar) for one in devices),
        )

    found = []
    for branch in _branches(grid, substation, loading):
        own = branch == substation.branch
        value = loading[P50, :, branch] if own else loading[:, :, branch].max(axis=0)
        rows = moved.loading_per_mw[:, branch], moved.loading_per_mvar[:, branch]
        measured = Measured(device_id=transformer, quantity="loading_pct") if own else None
        found.append(element(grid.branches.ids[branch], "loading_pct", (None, most), value, rows, measured))

    def voltage(bus: int, low: float | None, high: float | None, value: FloatArray, measured: Measured | None = None) -> None:
        rows = moved.vm_per_mw[:, bus], moved.vm_per_mvar[:, bus]
        found.append(element(grid.buses.ids[bus], "vm_pu", (low, high), value, rows, measured))

    own_bus, buses = substation.lv_bus, grid.buses
    # The bay's meter shows the voltage between two phases.
    here = Measured(device_id=transformer, quantity="v_v", scale=1.0 / (1e3 * float(buses.kv[own_bus])))
    voltage(own_bus, float(buses.min_pu[own_bus]), float(buses.max_pu[own_bus]), vm[P50, :, own_bus], here)
    live = solved.energised.all(axis=0) & (np.abs(moved.vm_per_mw).max(axis=0) > 0)
    live[own_bus] = False
    if live.any():
        lowest = _worst(live, (vm - buses.min_pu).min(axis=(0, 1)))
        highest = _worst(live, (buses.max_pu - vm).min(axis=(0, 1)))
        voltage(lowest, float(buses.min_pu[lowest]), None, vm[:, :, lowest].min(axis=0))
        voltage(highest, None, float(buses.max_pu[highest]), vm[:, :, highest].max(axis=0))
    return found


def _worst(live: BoolArray, margins: FloatArray) -> int:
    """The live bus with the least margin."""
    return int(np.where(live, margins, np.inf).argmin())


def _branches(grid: GridModel, substation: Substation, loading: FloatArray) -> list[int]:
    """The site's transformer and the most loaded branches between it and the source."""
    tree = radial_tree(grid)
    path = [int(tree.branch[node]) for node in tree.path(int(grid.buses.node[substation.lv_bus]))]
    above = sorted((b for b in path if b != substation.branch), key=lambda branch: -float(loading[:, :, branch].max()))
    return [substation.branch, *above[:BRANCHES]]


def _rounded(values: FloatArray, digits: int) -> tuple[float, ...]:
    return tuple(float(value) + 0.0 for value in np.round(values, digits))
