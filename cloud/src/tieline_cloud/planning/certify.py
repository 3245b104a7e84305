"""The AC check of a schedule, and the certificate a plan is published on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import numpy as np

from tieline_cloud.gridmodel.model import BoolArray, FloatArray, GridModel
from tieline_cloud.planning.control_tree import P10, P50, P90
from tieline_cloud.planning.errors import PlanRefusedError
from tieline_cloud.planning.formulation import Schedule
from tieline_cloud.planning.problem import PlanningProblem, SiteForecast
from tieline_cloud.powerflow.solver import PowerFlow, PowerFlowResult
from tieline_core.messages.plan import Certificate, Verdict, Violation

SCENARIOS: tuple[tuple[int, str], ...] = ((P10, "p10"), (P50, "p50"), (P90, "p90"))
MAX_VIOLATIONS = 50
#: What an AC solution may be off; "not above doing nothing" is meant up to this.
TOLERANCE_PCT, TOLERANCE_PU = 0.02, 5e-5


def site_plan_kw(problem: PlanningProblem, plan: Schedule) -> FloatArray:
    """What the schedule draws at each site beyond load and uncurtailed PV [3, site, T]."""
    out = np.zeros((3, len(problem.sites), problem.steps))
    position = {site.edge_id: s for s, site in enumerate(problem.sites)}
    for b, battery in enumerate(problem.batteries):
        out[:, position[battery.edge_id]] += plan.battery_kw[b]
    for f, load in enumerate(problem.flexible):
        out[:, position[load.edge_id]] += plan.flexible_kw[f]
    for p, plant in enumerate(problem.pv):
        site = problem.site(plant.edge_id)
        for scenario, name in SCENARIOS:
            generated = plant.share * -getattr(site, f"pv_{name}_w") / 1e3
            out[scenario, position[plant.edge_id]] += np.maximum(generated - plan.pv_limit_kw[p], 0.0)
    return out


def _site_load(site: SiteForecast, level: str) -> tuple[FloatArray, FloatArray]:
    load = getattr(site, f"load_{level}_w")
    return load + getattr(site, f"pv_{level}_w"), site.tan_phi * load


def scenario_powers(grid: GridModel, problem: PlanningProblem, plan_kw: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Power drawn at each bus in every step of every scenario, scenario-major [3 T, bus]: active [W] and reactive [var]."""
    p_w = np.tile(problem.rest_p_w, (3, 1))
    q_var = np.tile(problem.rest_q_var, (3, 1))
    for s, site in enumerate(problem.sites):
        bus = grid.substation(site.edge_id).lv_bus
        for scenario, level in SCENARIOS:
            rows = slice(scenario * problem.steps, (scenario + 1) * problem.steps)
            active, reactive = _site_load(site, level)
            p_w[rows, bus] += active + 1e3 * plan_kw[scenario, s]
            q_var[rows, bus] += reactive
    return p_w, q_var


def solve_scenarios(engine: PowerFlow, problem: PlanningProblem, plan_kw: FloatArray) -> PowerFlowResult:
    """AC power flow of every step in every scenario, scenario-major [3 T, ...].

    Raises:
        PowerFlowDivergedError: When a step has no solution.
    """
    return engine.batch(*scenario_powers(engine.grid, problem, plan_kw))


@dataclass(frozen=True, slots=True)
class Excess:
    """Crossings of hard limits, one cell each: how far, scenario-major [3 T, branch] and [3 T, bus]; 0 = inside."""

    loading_pct: FloatArray
    vm_pu: FloatArray

    @property
    def worst(self) -> tuple[float, float]:
        """Largest crossing of loading [percentage points] and voltage [pu]."""
        return float(self.loading_pct.max(initial=0.0)), float(self.vm_pu.max(initial=0.0))


def excess(grid: GridModel, solved: PowerFlowResult, loading_max_pct: float) -> Excess:
    """How far a solution is outside the hard limits; dead buses have no voltage to judge."""
    outside = np.maximum(grid.buses.min_pu - solved.vm_pu, solved.vm_pu - grid.buses.max_pu)
    return Excess(
        loading_pct=np.maximum(solved.loading_pct - loading_max_pct, 0.0),
        vm_pu=np.where(solved.energised, np.maximum(outside, 0.0), 0.0),
    )


def _worst_cells(values: FloatArray) -> list[tuple[int, int]]:
    """The worst row of each column that has any, worst column first."""
    rows = values.argmax(axis=0)
    worst = values[rows, np.arange(values.shape[1])]
    return [(int(rows[column]), int(column)) for column in np.argsort(-worst, kind="stable") if worst[column] > 0]


def _violations(
    grid: GridModel, problem: PlanningProblem, planned: PowerFlowResult, idle: PowerFlowResult
) -> tuple[Violation, ...]:
    """The worst instant of each element that crosses a limit."""
    most = problem.limits.loading_max_pct
    over = excess(grid, planned, most)
    found: list[Violation] = []

    def add(element: str, row: int, quantity: Literal["loading_pct", "vm_pu"], numbers: tuple[float, float, float]) -> None:
        at = problem.start + problem.step * (row % problem.steps)
        value, limit, without = (float(number) for number in numbers)
        found.append(Violation(element=element, at=at, quantity=quantity, value=value, limit=limit, without_plan=without))

    for row, branch in _worst_cells(over.loading_pct):
        values = (planned.loading_pct[row, branch], most, idle.loading_pct[row, branch])
        add(grid.branches.ids[branch], row, "loading_pct", values)
    for row, bus in _worst_cells(over.vm_pu):
        low = planned.vm_pu[row, bus] < grid.buses.min_pu[bus]
        limit = (grid.buses.min_pu if low else grid.buses.max_pu)[bus]
        add(grid.buses.ids[bus], row, "vm_pu", (planned.vm_pu[row, bus], limit, idle.vm_pu[row, bus]))
    return tuple(found[:MAX_VIOLATIONS])


@dataclass(frozen=True, slots=True)
class Costs:
    """What the optimiser says: value of the plan, of doing nothing, a lower bound [EUR], and how many rounds it took."""

    objective_eur: float
    without_eur: float
    bound_eur: float
    iterations: int

    @property
    def gap(self) -> float:
        """Distance to the bound as a share of what the plan saves (at least 1 EUR)."""
        saved = max(1.0, self.without_eur - self.objective_eur)
        return max(0.0, self.objective_eur - self.bound_eur) / saved


def certify(
    grid: GridModel,
    problem: PlanningProblem,
    solved: tuple[PowerFlowResult, PowerFlowResult],
    costs: Costs,
    solver: str,
    now: datetime,
) -> Certificate:
    """Vouch for a plan, or refuse.

    Args:
        grid, problem: What was planned.
        solved: AC results with the plan and without it.
        costs: What the optimiser says.
        solver: Its name and version.
        now: Instant of the check.

    Raises:
        PlanRefusedError: When a limit is crossed further than by doing nothing.
    """
    planned, idle = solved
    violations = _violations(grid, problem, planned, idle)
    most = problem.limits.loading_max_pct
    with_plan, without = excess(grid, planned, most).worst, excess(grid, idle, most).worst
    if with_plan[0] > without[0] + TOLERANCE_PCT or with_plan[1] > without[1] + TOLERANCE_PU:
        worst = next(v for v in violations if v.quantity == ("loading_pct" if with_plan[0] > without[0] else "vm_pu"))
        raise PlanRefusedError(
            f"{worst.element} would stand at {worst.value:.4g} {worst.quantity} at {worst.at.isoformat()} (limit "
            f"{worst.limit:.4g}), further out than doing nothing"
        )
    by_scenario = planned.loading_pct.reshape(3, problem.steps, -1)
    live: BoolArray = planned.energised
    levels: Mapping[Literal["p10", "p50", "p90"], float] = {
        "p10": float(by_scenario[P10].max()),
        "p50": float(by_scenario[P50].max()),
        "p90": float(by_scenario[P90].max()),
    }
    return Certificate(
        verdict=Verdict.RELIEF if violations else Verdict.CLEAN,
        max_loading_pct=dict(levels),
        max_loading_element=grid.branches.ids[int(by_scenario[P90].max(axis=0).argmax())],
        min_vm_pu=float(planned.vm_pu[live].min()),
        max_vm_pu=float(planned.vm_pu[live].max()),
        violations=violations,
        optimality_gap=costs.gap,
        objective_eur=costs.objective_eur,
        objective_without_eur=costs.without_eur,
        iterations=costs.iterations,
        input_sha256=problem.input_sha256(grid),
        solver=solver,
        checked_at=now,
    )
