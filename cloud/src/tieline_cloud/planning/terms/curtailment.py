"""PV curtailment by a generation limit, the same limit in every scenario.

The variable is what the limit takes off the P10 output (most generation). What it takes off the P50 and P90 output is
``max(0, c - difference)``: its convex hull is written, whose lower edge is what is used at positive prices and whose
upper end (everything curtailed) is what is used at negative ones; both ends are exact.
"""

from __future__ import annotations

import numpy as np

from tieline_cloud.gridmodel.model import FloatArray
from tieline_cloud.planning.control_tree import P10, P50, P90
from tieline_cloud.planning.formulation import Draw, Formulation

#: Breaks ties towards not curtailing [EUR per MWh].
TIE_EUR_PER_MWH = 0.01


def add(formulation: Formulation) -> None:
    """Add the curtailed power [pv, T] of each scenario."""
    problem, draft = formulation.problem, formulation.draft
    if not problem.pv:
        return
    shape = (len(problem.pv), problem.steps)
    outputs: dict[int, FloatArray] = {}
    for scenario, name in ((P10, "pv_p10_w"), (P50, "pv_p50_w"), (P90, "pv_p90_w")):
        outputs[scenario] = np.array([plant.share * -getattr(problem.site(plant.edge_id), name) / 1e3 for plant in problem.pv])
    costs = {P10: TIE_EUR_PER_MWH, P50: problem.limits.curtailment_eur_per_mwh, P90: 0.0}
    names = {P10: "curtail_p10", P50: "curtail_p50", P90: "curtail_p90"}
    columns = {
        scenario: draft.add_columns(names[scenario], shape, 0.0, output, formulation.eur_per_kw_step(costs[scenario]))
        for scenario, output in outputs.items()
    }
    for scenario in (P50, P90):
        lower_edge = draft.add_rows(f"{names[scenario]}_least", shape, lower=outputs[scenario] - outputs[P10])
        draft.put(lower_edge, columns[scenario], 1.0)
        draft.put(lower_edge, columns[P10], -1.0)
        upper_edge = draft.add_rows(f"{names[scenario]}_most", shape, upper=0.0)
        draft.put(upper_edge, columns[scenario], outputs[P10])
        draft.put(upper_edge, columns[P10], -outputs[scenario])
    for p, plant in enumerate(problem.pv):
        site = formulation.site_index(plant.edge_id)
        for scenario, block in columns.items():
            reach = float(outputs[P10][p].max()) if scenario == P10 else 0.0
            formulation.announce(Draw(site, block[p], 1.0, (scenario,)), reach)
