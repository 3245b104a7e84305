"""Energy drawn from upstream at the day-ahead price, at P50 with marginal losses; what the plan leaves alone is the offset."""

from __future__ import annotations

from tieline_cloud.planning.control_tree import P50
from tieline_cloud.planning.formulation import Formulation


def add(formulation: Formulation) -> None:
    """Price every announced draw."""
    problem = formulation.problem
    price = problem.price_eur_per_mwh * problem.hours / 1e3
    formulation.draft.offset += float(price @ formulation.base.import_kw)
    for draw in formulation.draws:
        if P50 in draw.scenarios:
            formulation.draft.add_cost(draw.columns, draw.sign * price * (1.0 + formulation.base.loss_factor[draw.site]))
