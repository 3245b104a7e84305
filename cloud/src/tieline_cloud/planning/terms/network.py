"""The network: LinDistFlow on the movable tree, loading and voltage limits with labelled slack.

Loading is limited towards the substation at the high end of demand (P90) and away from it at the low end (P10);
undervoltage is looked at in the first, overvoltage in the second. Limits that no device can reach get no row.
"""

from __future__ import annotations

import numpy as np

from tieline_cloud.gridmodel.model import FloatArray, IntArray
from tieline_cloud.planning.control_tree import P10, P90
from tieline_cloud.planning.formulation import Formulation

#: 1 % of voltage is this much squared voltage [1e-3 pu^2] near 1 pu.
MILLI_PU2_PER_PCT = 20.0


def add(formulation: Formulation) -> None:
    """Add the plan's flow through each movable branch [n, T] in both scenarios, then limits."""
    at_sites = np.zeros((len(formulation.tree), 1))
    np.add.at(at_sites[:, 0], formulation.tree.site, formulation.reach_kw)
    reach = formulation.tree.subtree_sum(at_sites)[:, 0]
    flows = {P90: _flow(formulation, "flow_p90", P90, reach), P10: _flow(formulation, "flow_p10", P10, reach)}
    _limit_loading(formulation, flows, reach)
    _limit_voltage(formulation, flows, reach)


def _flow(formulation: Formulation, name: str, scenario: int, reach: FloatArray) -> IntArray:
    """Kirchhoff: what enters a branch leaves to the branches and devices below it."""
    draft, tree, shape = formulation.draft, formulation.tree, formulation.shape
    flow = draft.add_columns(name, shape, -reach[:, None], reach[:, None])
    balance = draft.add_rows(f"{name}_balance", shape, 0.0, 0.0)
    draft.put(balance, flow, 1.0)
    child = np.flatnonzero(tree.parent >= 0)
    draft.put(balance[tree.parent[child]], flow[child], -1.0)
    for draw in formulation.draws:
        if scenario in draw.scenarios:
            draft.put(balance[tree.site[draw.site]], draw.columns, -draw.sign)
    return flow


def _limit_loading(formulation: Formulation, flows: dict[int, IntArray], reach: FloatArray) -> None:
    draft, tree, base, limits = formulation.draft, formulation.tree, formulation.base, formulation.problem.limits
    cost = formulation.eur_per_kw_step(limits.overload_eur_per_mwh)
    most = limits.loading_max_pct - limits.loading_margin_pct
    for name, scenario, sign in (("overload_import", P90, 1.0), ("overload_export", P10, -1.0)):
        rooms = np.array([base.limit_kw(scenario, n, tree.rating_kva[n], most) for n in range(len(tree))])
        rooms = rooms.reshape(formulation.shape) - sign * base.flow_kw[scenario]
        reached = np.flatnonzero((rooms < reach[:, None]).any(axis=1))
        shape = (len(reached), formulation.problem.steps)
        slack = draft.add_columns(name, shape, cost=cost)
        rows = draft.add_rows(f"{name}_limit", shape, upper=rooms[reached])
        draft.put(rows, flows[scenario][reached], sign)
        draft.put(rows, slack, -1.0)


def _limit_voltage(formulation: Formulation, flows: dict[int, IntArray], reach: FloatArray) -> None:
    draft, tree, base, problem = formulation.draft, formulation.tree, formulation.base, formulation.problem
    cost = problem.limits.voltage_eur_per_pct_h * problem.hours / MILLI_PU2_PER_PCT
    swing = np.abs(tree.voltage_change(np.repeat(reach[:, None], 1, axis=1)))
    for name, scenario, sign, margin in (("low", P90, 1.0, base.low_margin), ("high", P10, -1.0, base.high_margin)):
        reached = np.flatnonzero((margin < swing).any(axis=1))
        if not len(reached):
            continue
        change = draft.add_columns(f"voltage_change_{name}", formulation.shape, -np.inf)
        drop = draft.add_rows(f"voltage_drop_{name}", formulation.shape, 0.0, 0.0)
        draft.put(drop, change, 1.0)
        draft.put(drop, flows[scenario], 2.0 * tree.r_pu_per_mw[:, None])
        child = np.flatnonzero(tree.parent >= 0)
        draft.put(drop[child], change[tree.parent[child]], -tree.gain[child][:, None])
        slack = draft.add_columns(f"voltage_{name}", (len(reached), problem.steps), cost=cost)
        rows = draft.add_rows(f"voltage_{name}_limit", (len(reached), problem.steps), lower=-margin[reached])
        draft.put(rows, change[reached], sign)
        draft.put(rows, slack, 1.0)
