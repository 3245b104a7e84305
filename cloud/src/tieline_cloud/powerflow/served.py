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


def _inside_limits(grid: GridModel, solved: PowerFlowResult, loading_max_pct: float) -> bool:
    live = solved.energised
    low, high = grid.buses.min_pu[live], grid.buses.max_pu[live]
    voltage = solved.vm_pu[live]
    return bool((solved.loading_pct <= loading_max_pct).all() and (voltage >= low).all() and (voltage <= high).all())


def served_load(grid: GridModel, p_w: FloatArray, q_var: FloatArray, outage: str, loading_max_pct: float = 100.0) -> ServedLoad:
    """Lose one branch, then try each open tie between what is live and what went dark.

    Args:
        grid: The network as operated.
        p_w, q_var: Power drawn at each bus [bus].
        outage: Id of the lost branch.
        loading_max_pct: A tie that loads any branch further is no help; neither is one that leaves a voltage band.

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
        if served > best and _inside_limits(switched, solved, loading_max_pct):
            best, tie = served, table.ids[candidate]
    return ServedLoad(outage, before, best, tie)
