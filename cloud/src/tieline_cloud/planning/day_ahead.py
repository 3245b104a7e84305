"""The day plan from end to end: formulate, solve, check by AC power flow, correct, certify."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np

from tieline_cloud.gridmodel.model import FloatArray, GridModel
from tieline_cloud.planning.certify import Costs, certify, excess, site_plan_kw, solve_scenarios
from tieline_cloud.planning.control_tree import P50, ControlTree, control_tree, linearise
from tieline_cloud.planning.errors import PlanRefusedError
from tieline_cloud.planning.formulation import Schedule, formulate, schedule
from tieline_cloud.planning.linear import LinearProgram
from tieline_cloud.planning.network_table import network_tables
from tieline_cloud.planning.plans import plans_of
from tieline_cloud.planning.problem import PlanningProblem
from tieline_cloud.planning.solve import SOLVER, solve_linear, solve_one_way
from tieline_cloud.powerflow.solver import PowerFlow, PowerFlowResult
from tieline_core.messages.plan import Certificate, Plan

#: Rounds of plan and AC correction at most.
MAX_ROUNDS = 4
#: Loadings of two rounds this close mean that the linear model has settled [percentage points].
SETTLED_PCT = 0.25


@dataclass(frozen=True, slots=True)
class PlanningOutcome:
    """Everything a plan is published and drawn from; picklable.

    Attributes:
        plans: One message for each edge.
        certificate: What the AC check says.
        start, step_s, steps: The horizon.
        schedule: Powers and energies of the devices.
        transformer_loading_pct, transformer_loading_without_pct: By edge and scenario [edge][3, T] (P10, P50, P90).
        cost_eur, cost_without_eur: Energy from upstream at P50 incl. losses at the day-ahead price, plus wear.
        objective_eur, objective_without_eur: The optimiser's value incl. ageing, peak and slack prices.
        slack: Labelled slack used, empty when every wish is met.
    """

    plans: tuple[Plan, ...]
    certificate: Certificate
    start: datetime
    step_s: float
    steps: int
    schedule: Schedule
    transformer_loading_pct: Mapping[str, FloatArray]
    transformer_loading_without_pct: Mapping[str, FloatArray]
    cost_eur: float
    cost_without_eur: float
    objective_eur: float
    objective_without_eur: float
    slack: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class _Round:
    """One solved and AC-checked plan."""

    schedule: Schedule
    plan_kw: FloatArray
    solved: PowerFlowResult
    objective_eur: float
    bound_eur: float

    def crossing_pct(self, grid: GridModel, loading_max_pct: float) -> float:
        """Worst crossing of a hard limit; 1 % of voltage counts as 1 % of loading."""
        loading, voltage = excess(grid, self.solved, loading_max_pct).worst
        return round(max(loading, 100.0 * voltage), 3)


def plan_day(problem: PlanningProblem, grid: GridModel, now: datetime) -> PlanningOutcome:
    """Plan the substations' devices.

    Args:
        problem: What is known and wanted.
        grid: The network, radial as operated.
        now: Instant of issue, aware UTC.

    Raises:
        BadInputError: When the problem does not fit the network.
        NotRadialError: When the network is operated with a loop.
        PowerFlowDivergedError: When a scenario has no AC solution.
        PlanRefusedError: When no plan can be vouched for.
    """
    problem.check_against(grid)
    tree = control_tree(grid, problem)
    engine = PowerFlow(grid)
    idle_plan = idle_schedule(problem)
    idle_kw = site_plan_kw(problem, idle_plan)
    idle = solve_scenarios(engine, problem, idle_kw)
    without_eur, rounds = _iterate(engine, problem, tree, idle, idle_kw)
    # Of equally safe rounds the last one: its linear model, and so its money, is the most exact.
    best = min(reversed(rounds), key=lambda one: one.crossing_pct(grid, problem.limits.loading_max_pct))
    costs = Costs(best.objective_eur, without_eur, best.bound_eur, len(rounds))
    certificate = certify(grid, problem, (best.solved, idle), costs, SOLVER, now)
    return PlanningOutcome(
        plans=plans_of(problem, best.schedule, certificate, now, network_tables(engine, problem, best.schedule, best.solved)),
        certificate=certificate,
        start=problem.start,
        step_s=problem.step.total_seconds(),
        steps=problem.steps,
        schedule=best.schedule,
        transformer_loading_pct=_site_loading(grid, problem, best.solved),
        transformer_loading_without_pct=_site_loading(grid, problem, idle),
        cost_eur=_energy_cost(problem, best.solved) + _wear(problem, best.schedule),
        cost_without_eur=_energy_cost(problem, idle),
        objective_eur=best.objective_eur,
        objective_without_eur=without_eur,
        slack=best.schedule.slack,
    )


def _iterate(
    engine: PowerFlow, problem: PlanningProblem, tree: ControlTree, idle: PowerFlowResult, idle_kw: FloatArray
) -> tuple[float, list[_Round]]:
    """Solve around the last AC solution until limits hold and nothing moves; also the value of doing nothing."""
    solved, plan_kw = idle, idle_kw
    without_eur = 0.0
    rounds: list[_Round] = []
    for count in range(MAX_ROUNDS):
        base = linearise(engine.grid, tree, solved, plan_kw, problem.limits.voltage_margin_pu)
        program = formulate(problem, tree, base)
        if count == 0:
            without_eur = solve_linear(_idle_program(problem, program)).objective
        solution = solve_one_way(program)
        found = schedule(problem, program, solution.x)
        plan_kw = site_plan_kw(problem, found)
        before, solved = solved, solve_scenarios(engine, problem, plan_kw)
        rounds.append(_Round(found, plan_kw, solved, solution.objective, solution.bound))
        moved = float(np.abs(solved.loading_pct[:, tree.branch] - before.loading_pct[:, tree.branch]).max())
        clean = rounds[-1].crossing_pct(engine.grid, problem.limits.loading_max_pct) == 0.0
        if count and (clean or moved <= SETTLED_PCT):
            break
    return without_eur, rounds


def idle_schedule(problem: PlanningProblem) -> Schedule:
    """Doing nothing: batteries rest, PV runs free, flexible loads run as soon as they may."""
    still = np.zeros((len(problem.batteries), problem.steps))
    full = np.array([[b.energy_wh / 1e3 * b.soc_now_pct / 100.0] for b in problem.batteries])
    return Schedule(
        charge_kw=still,
        discharge_kw=still,
        energy_kwh=still + full.reshape(-1, 1),
        pv_limit_kw=np.full((len(problem.pv), problem.steps), np.inf),
        flexible_kw=_eager(problem),
        slack={},
    )


def _eager(problem: PlanningProblem) -> FloatArray:
    out = np.zeros((len(problem.flexible), problem.steps))
    for f, load in enumerate(problem.flexible):
        left = load.energy_wh / 1e3 / problem.hours
        for step in range(load.first_step, load.last_step + 1):
            out[f, step] = min(load.p_max_w / 1e3, left)
            left -= out[f, step]
    return out


def _idle_program(problem: PlanningProblem, program: LinearProgram) -> LinearProgram:
    """The same programme with every device held at doing nothing."""
    lower, upper = program.lower.copy(), program.upper.copy()
    for name in ("charge", "discharge", "curtail_p10", "curtail_p50", "curtail_p90"):
        if name in program.columns:
            lower[program.columns[name]] = upper[program.columns[name]] = 0.0
    if "flexible" in program.columns:
        lower[program.columns["flexible"]] = upper[program.columns["flexible"]] = _eager(problem)
    return replace(program, lower=lower, upper=upper)


def _site_loading(grid: GridModel, problem: PlanningProblem, solved: PowerFlowResult) -> dict[str, FloatArray]:
    return {
        site.edge_id: solved.loading_pct[:, grid.substation(site.edge_id).branch].reshape(3, problem.steps)
        for site in problem.sites
    }


def _energy_cost(problem: PlanningProblem, solved: PowerFlowResult) -> float:
    imported_mwh = solved.source_p_w.reshape(3, problem.steps)[P50] / 1e6 * problem.hours
    return float(problem.price_eur_per_mwh @ imported_mwh)


def _wear(problem: PlanningProblem, found: Schedule) -> float:
    discharged_mwh = found.discharge_kw.sum(axis=1) / 1e3 * problem.hours
    return float(sum(battery.wear_eur_per_mwh * mwh for battery, mwh in zip(problem.batteries, discharged_mwh, strict=True)))


__all__ = ["PlanRefusedError", "PlanningOutcome", "idle_schedule", "plan_day"]
