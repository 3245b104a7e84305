"""Batteries: recursive state of charge, wear on what is discharged, a state of charge to end with."""

from __future__ import annotations

import numpy as np

from tieline_cloud.planning.formulation import Draw, Formulation


def add(formulation: Formulation) -> None:
    """Add charge, discharge, energy [battery, T] and the shortfall at the end [battery].

    A battery that stands outside its window keeps the step it stands on as its bound, so that the programme is feasible;
    it may come back but not go further.
    """
    problem, draft = formulation.problem, formulation.draft
    batteries, steps = problem.batteries, problem.steps
    if not batteries:
        return
    shape = (len(batteries), steps)
    hours = problem.hours

    def per_battery(values: list[float]) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
        return np.array(values)[:, None]

    p_charge = per_battery([b.p_charge_max_w / 1e3 for b in batteries])
    p_discharge = per_battery([b.p_discharge_max_w / 1e3 for b in batteries])
    full = per_battery([b.energy_wh / 1e3 for b in batteries])
    now = full * per_battery([b.soc_now_pct / 100 for b in batteries])
    floor = np.minimum(full * per_battery([b.soc_min_pct / 100 for b in batteries]), now)
    ceiling = np.maximum(full * per_battery([b.soc_max_pct / 100 for b in batteries]), now)
    wear = per_battery([formulation.eur_per_kw_step(b.wear_eur_per_mwh) for b in batteries])
    charge = draft.add_columns("charge", shape, 0.0, p_charge)
    discharge = draft.add_columns("discharge", shape, 0.0, p_discharge, wear)
    energy = draft.add_columns("energy", shape, floor, ceiling)
    initial = np.zeros(shape)
    initial[:, :1] = now
    recursion = draft.add_rows("soc", shape, initial, initial)
    draft.put(recursion, energy, 1.0)
    draft.put(recursion[:, 1:], energy[:, :-1], -1.0)
    draft.put(recursion, charge, -hours * per_battery([b.eta_charge for b in batteries]))
    draft.put(recursion, discharge, hours / per_battery([b.eta_discharge for b in batteries]))
    one_way = draft.add_rows("one_way", shape, upper=1.0)
    draft.put(one_way, charge, 1.0 / p_charge)
    draft.put(one_way, discharge, 1.0 / p_discharge)
    price = problem.limits.soc_shortfall_eur_per_mwh / 1e3
    shortfall = draft.add_columns("soc_shortfall", (len(batteries),), cost=price)
    target = np.minimum(full[:, 0] * np.array([b.soc_end_pct / 100 for b in batteries]), ceiling[:, 0])
    end = draft.add_rows("soc_end", (len(batteries),), lower=target)
    draft.put(end, energy[:, -1], 1.0)
    draft.put(end, shortfall, 1.0)
    for b, battery in enumerate(batteries):
        site = formulation.site_index(battery.edge_id)
        formulation.announce(Draw(site, charge[b], 1.0), float(p_charge[b, 0]))
        formulation.announce(Draw(site, discharge[b], -1.0), float(p_discharge[b, 0]))
