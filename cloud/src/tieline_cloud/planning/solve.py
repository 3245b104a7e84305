"""The rim to HiGHS, and the exact exclusion of charging and discharging at once.

The plain programme may do both in a step when burning energy pays (negative prices, a binding curtailment). Where it
does, one direction is fixed and the programme solved again: that is a plan, and the plain programme's value is a bound
for it. Only when the two differ by more than the tolerance is a small integer programme asked, over those cells alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import highspy
import numpy as np

from tieline_cloud.gridmodel.model import BoolArray, FloatArray, IntArray
from tieline_cloud.planning.errors import PlanRefusedError
from tieline_cloud.planning.linear import LinearProgram

SOLVER = f"HiGHS {highspy.Highs().version()}"
#: Both directions above this in one step is doing both [kW].
BOTH_FROM_KW = 1e-4
#: A fixed-direction plan this close to its bound [share of the objective's size, EUR] needs no integer programme.
CLOSE_ENOUGH = 1e-4
INTEGER_SECONDS = 3.0
LINEAR_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Solution:
    """A feasible point, its value, and a lower bound of the best value [EUR]."""

    x: FloatArray
    objective: float
    bound: float


def _load(solver: Any, program: LinearProgram, integer: IntArray | None) -> None:
    model = highspy.HighsLp()
    model.num_col_, model.num_row_ = len(program.cost), len(program.row_lower)
    model.col_cost_, model.offset_ = program.cost, program.offset
    model.col_lower_, model.col_upper_ = program.lower, program.upper
    model.row_lower_, model.row_upper_ = program.row_lower, program.row_upper
    model.a_matrix_.format_ = highspy.MatrixFormat.kColwise
    model.a_matrix_.start_ = program.matrix.indptr
    model.a_matrix_.index_ = program.matrix.indices
    model.a_matrix_.value_ = program.matrix.data
    if integer is not None:
        kinds = np.full(len(program.cost), highspy.HighsVarType.kContinuous)
        kinds[integer] = highspy.HighsVarType.kInteger
        model.integrality_ = list(kinds)
    # HiGHS takes NaN without a word, so we look ourselves.
    finite = all(np.isfinite(values).all() for values in (program.cost, program.matrix.data))
    if not finite or solver.passModel(model) == highspy.HighsStatus.kError:
        raise PlanRefusedError("a coefficient of the programme is not a number")


def solve_linear(
    program: LinearProgram, integer: IntArray | None = None, start: FloatArray | None = None, seconds: float = LINEAR_SECONDS
) -> Solution:
    """Solve one programme on one thread.

    Args:
        program: What to solve.
        integer: Columns that must be whole numbers.
        start: A feasible point to start the integer search from.
        seconds: Limit; an integer programme returns its best point then.

    Raises:
        PlanRefusedError: When there is no solution, with the solver's status.
    """
    solver = highspy.Highs()
    for option, value in (("output_flag", False), ("threads", 1), ("time_limit", seconds), ("random_seed", 0)):
        solver.setOptionValue(option, value)
    _load(solver, program, integer)
    if start is not None:
        warm = highspy.HighsSolution()
        warm.col_value = list(start)
        solver.setSolution(warm)
    solver.run()
    info, status = solver.getInfo(), solver.getModelStatus()
    solved = status == highspy.HighsModelStatus.kOptimal
    stopped_with_point = integer is not None and status == highspy.HighsModelStatus.kTimeLimit and np.isfinite(info.mip_gap)
    if not solved and not stopped_with_point:
        raise PlanRefusedError(f"the solver ended with status {solver.modelStatusToString(status)!r}")
    objective = float(info.objective_function_value)
    if integer is not None:
        bound = float(info.mip_dual_bound)
    else:
        bound = objective - abs(float(info.primal_dual_objective_error)) * (1.0 + abs(objective))
    return Solution(np.array(solver.getSolution().col_value), objective, bound)


def _both(program: LinearProgram, x: FloatArray) -> BoolArray:
    """Cells [battery, T] that charge and discharge."""
    both: BoolArray = np.minimum(x[program.columns["charge"]], x[program.columns["discharge"]]) > BOTH_FROM_KW
    return both


def _fix_directions(program: LinearProgram, x: FloatArray, cells: BoolArray) -> LinearProgram:
    """Close the direction against the cell's net effect on the stored energy."""
    charge, discharge, energy = (program.columns[name] for name in ("charge", "discharge", "energy"))
    level = x[energy]
    before = np.concatenate([program.row_lower[program.rows["soc"][:, :1]], level[:, :-1]], axis=1)
    rising = level >= before
    upper = program.upper.copy()
    upper[discharge[cells & rising]] = 0.0
    upper[charge[cells & ~rising]] = 0.0
    return program.with_bounds(program.lower, upper)


def _with_directions(program: LinearProgram, cells: BoolArray) -> tuple[LinearProgram, IntArray]:
    """Add one binary for each cell: 1 = may charge, 0 = may discharge."""
    import scipy.sparse as sp

    charge, discharge = program.columns["charge"][cells], program.columns["discharge"][cells]
    count, width = len(charge), len(program.cost)
    binary, row = width + np.arange(count), np.arange(count)
    p_charge, p_discharge = program.upper[charge], program.upper[discharge]
    extra = sp.csr_matrix(
        (
            np.concatenate([np.ones(count), -p_charge, np.ones(count), p_discharge]),
            (np.concatenate([row, row, count + row, count + row]), np.concatenate([charge, binary, discharge, binary])),
        ),
        shape=(2 * count, width + count),
    )
    padded = sp.hstack([program.matrix, sp.csc_matrix((program.matrix.shape[0], count))])
    return (
        LinearProgram(
            cost=np.concatenate([program.cost, np.zeros(count)]),
            offset=program.offset,
            lower=np.concatenate([program.lower, np.zeros(count)]),
            upper=np.concatenate([program.upper, np.ones(count)]),
            row_lower=np.concatenate([program.row_lower, np.full(2 * count, -np.inf)]),
            row_upper=np.concatenate([program.row_upper, np.zeros(count), p_discharge]),
            matrix=sp.csc_matrix(sp.vstack([padded, extra])),
            columns=program.columns,
            rows=program.rows,
        ),
        binary,
    )


def solve_one_way(program: LinearProgram, integer_seconds: float = INTEGER_SECONDS) -> Solution:
    """Solve such that no battery charges and discharges in one step.

    Raises:
        PlanRefusedError: When there is no solution.
    """
    relaxed = solve_linear(program)
    if "charge" not in program.columns:
        return relaxed
    touched = cells = _both(program, relaxed.x)
    best, fixed = relaxed, program
    while cells.any():
        # Fixed cells stay fixed, so each round has fewer free ones and the loop ends.
        fixed = _fix_directions(fixed, best.x, cells)
        best = solve_linear(fixed)
        cells = _both(program, best.x)
        touched = touched | cells
    bound = min(relaxed.bound, best.objective)
    if best.objective - bound > CLOSE_ENOUGH * max(1.0, abs(best.objective)) and integer_seconds > 0:
        better = _search_directions(program, touched, best, integer_seconds)
        if better is not None:
            bound = max(bound, better.bound)
            if better.objective < best.objective and not _both(program, better.x).any():
                best = better
    return Solution(best.x, best.objective, min(bound, best.objective))


def _search_directions(program: LinearProgram, cells: BoolArray, best: Solution, seconds: float) -> Solution | None:
    """Integer search over the directions of some cells; None when the time was too short for a point."""
    extended, binary = _with_directions(program, cells)
    charging = best.x[program.columns["charge"][cells]] > BOTH_FROM_KW
    start = np.concatenate([best.x, charging.astype(np.float64)])
    try:
        found = solve_linear(extended, binary, start, seconds)
    except PlanRefusedError:
        return None
    return Solution(found.x[: len(program.cost)], found.objective, found.bound)
