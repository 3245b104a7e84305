"""Served load after the loss of one branch: what stays on, and what one tie can bring back inside the limits.

On a radial network an outage does not overload its neighbours, it puts customers in the dark; the margin that counts
is the share of load that is on again after switching.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from tieline_cloud.gridmodel.model import FloatArray, GridModel
from tieline_cloud.powerflow.errors import PowerFlowDivergedError
from tieline_cloud.powerflow.solver import PowerFlow, PowerFlowResult

#: A violation that was there before may move this much and is no new one.
LOADING_NOISE_PCT, VOLTAGE_NOISE_PU = 0.1, 1e-4


@dataclass(frozen=True, slots=True)
class ServedLoad:
    """Share of the load that is served after an outage.

    Attributes:
        outage: The lost branch.
        before_pct: Served without any switching.
        after_pct: Served with the best tie closed.
        tie: That tie; None when none helps inside the limits.
    """

    outage: str
    before_pct: float
    after_pct: float
    tie: str | None


def _with_branch(grid: GridModel, branch: int, closed: bool) -> GridModel:
    ends = {}
    for name in ("from_closed", "to_closed"):
        values = getattr(grid.branches, name).copy()
        values[branch] = closed
        ends[name] = values
    return replace(grid, branches=replace(grid.branches, **ends))


def _served_pct(solved: PowerFlowResult, load_w: FloatArray) -> float:
    total = float(load_w.sum())
    return 100.0 if total == 0.0 else 100.0 * float(load_w[solved.energised].sum()) / total


def _adds_no_violation(grid: GridModel, solved: PowerFlowResult, before: PowerFlowResult, loading_max_pct: float) -> bool:
    """True when nothing is outside its limits that was not further outside before switching."""
    loading_ok = solved.loading_pct <= np.maximum(loading_max_pct, before.loading_pct + LOADING_NOISE_PCT)
    known = before.energised
    low = np.where(known, np.minimum(grid.buses.min_pu, before.vm_pu - VOLTAGE_NOISE_PU), grid.buses.min_pu)
    high = np.where(known, np.maximum(grid.buses.max_pu, before.vm_pu + VOLTAGE_NOISE_PU), grid.buses.max_pu)
    voltage_ok = ~solved.energised | ((solved.vm_pu >= low) & (solved.vm_pu <= high))
    return bool(loading_ok.all() and voltage_ok.all())


def served_load(grid: GridModel, p_w: FloatArray, q_var: FloatArray, outage: str, loading_max_pct: float = 100.0) -> ServedLoad:
    """Lose one branch, then try each open tie between what is live and what went dark.

    Args:
        grid: The network as operated.
        p_w, q_var: Power drawn at each bus [bus].
        outage: Id of the lost branch.
        loading_max_pct: A tie that loads any branch further is no help; neither is one that leaves a voltage band.
            What was outside its limits before switching is not held against a tie.

    Raises:
        KeyError: When there is no such branch.
        PowerFlowDivergedError: When the network cannot even carry what stays on.
    """
    lost = grid.branch_index(outage)
    broken = _with_branch(grid, lost, closed=False)
    remaining = PowerFlow(broken).solve(p_w, q_var)
    load_w = np.maximum(p_w, 0.0)
    before = _served_pct(remaining, load_w)
    best, tie = before, None
    table, live = grid.branches, remaining.energised
    bridges = ~table.closed & (live[table.from_bus] != live[table.to_bus])
    bridges[lost] = False
    for candidate in np.flatnonzero(bridges).tolist():
        switched = _with_branch(broken, candidate, closed=True)
        try:
            solved = PowerFlow(switched).solve(p_w, q_var)
        except PowerFlowDivergedError:
            continue
        served = _served_pct(solved, load_w)
        if served > best and _adds_no_violation(switched, solved, remaining, loading_max_pct):
            best, tie = served, table.ids[candidate]
    return ServedLoad(outage, before, best, tie)
