"""A rising price of high transformer loading at P90: the piecewise-linear stand-in for winding ageing (IEC 60076-7)."""

from __future__ import annotations

import numpy as np

from tieline_cloud.planning.control_tree import P90
from tieline_cloud.planning.formulation import Formulation


def add(formulation: Formulation) -> None:
    """Add the power above each priced loading [site transformer, segment, T]."""
    problem, tree, base, draft = formulation.problem, formulation.tree, formulation.base, formulation.draft
    ageing = problem.limits.ageing
    at = np.flatnonzero(tree.substation >= 0)
    if not ageing or not len(at):
        return
    edges = np.array([[base.limit_kw(P90, int(n), tree.rating_kva[n], loading) for loading, _ in ageing] for n in at])
    widths = np.full(edges.shape, np.inf)
    widths[:, :-1] = np.diff(edges, axis=1)
    prices = np.array([formulation.eur_per_kw_step(price) for _, price in ageing])
    above = draft.add_columns("ageing", edges.shape, 0.0, widths, prices[None, :, None])
    rows = draft.add_rows("ageing", (len(at), problem.steps), upper=edges[:, 0] - base.flow_kw[P90, at])
    draft.put(rows, draft.columns["flow_p90"][at], 1.0)
    draft.put(rows[:, None, :], above, -1.0)
