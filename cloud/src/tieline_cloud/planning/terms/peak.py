"""A price of the highest P90 flow through each substation's transformer over the horizon: flat evenings are worth money."""

from __future__ import annotations

import numpy as np

from tieline_cloud.planning.control_tree import P90
from tieline_cloud.planning.formulation import Formulation


def add(formulation: Formulation) -> None:
    """Add the peak [site transformer]; below ``peak_from_pct`` it costs nothing more to be lower."""
    problem, tree, base, draft = formulation.problem, formulation.tree, formulation.base, formulation.draft
    limits = problem.limits
    at = np.flatnonzero(tree.substation >= 0)
    if not limits.peak_eur_per_kw:
        return
    floor = [base.limit_kw(P90, int(n), tree.rating_kva[n], limits.peak_from_pct).min() for n in at]
    peak = draft.add_columns("peak", (len(at),), floor, cost=limits.peak_eur_per_kw)
    draft.offset -= float(limits.peak_eur_per_kw * np.sum(floor))
    rows = draft.add_rows("peak", (len(at), problem.steps), upper=-base.flow_kw[P90, at])
    draft.put(rows, draft.columns["flow_p90"][at], 1.0)
    draft.put(rows, peak[:, None], -1.0)
