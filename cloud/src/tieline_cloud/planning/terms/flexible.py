"""Flexible loads: an energy to be served inside a window, at most at full power."""

from __future__ import annotations

import numpy as np

from tieline_cloud.planning.formulation import Draw, Formulation


def add(formulation: Formulation) -> None:
    """Add the power of each load [flexible, T] and the energy not served [flexible]."""
    problem, draft = formulation.problem, formulation.draft
    loads = problem.flexible
    if not loads:
        return
    shape = (len(loads), problem.steps)
    step = np.arange(problem.steps)
    upper = np.array([np.where((step >= f.first_step) & (step <= f.last_step), f.p_max_w / 1e3, 0.0) for f in loads])
    power = draft.add_columns("flexible", shape, 0.0, upper)
    unserved = draft.add_columns("unserved", (len(loads),), cost=problem.limits.unserved_eur_per_mwh / 1e3)
    wanted = np.array([f.energy_wh / 1e3 for f in loads])
    served = draft.add_rows("served", (len(loads),), wanted, wanted)
    draft.put(served[:, None], power, problem.hours)
    draft.put(served, unserved, 1.0)
    for f, load in enumerate(loads):
        formulation.announce(Draw(formulation.site_index(load.edge_id), power[f], 1.0), load.p_max_w / 1e3)
