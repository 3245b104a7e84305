"""Each term of the programme on its own, against numbers worked out by hand."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from tieline_cloud.gridmodel import GridModel
from tieline_cloud.planning import Battery, CurtailablePv, Limits, PlanningProblem, SiteForecast
from tieline_cloud.planning.certify import site_plan_kw, solve_scenarios
from tieline_cloud.planning.control_tree import P90, ControlTree, Linearisation, control_tree, linearise
from tieline_cloud.planning.day_ahead import idle_schedule
from tieline_cloud.planning.formulation import Formulation, formulate
from tieline_cloud.planning.solve import solve_linear
from tieline_cloud.planning.terms import TERMS, ageing, curtailment, energy, network, peak, storage
from tieline_cloud.powerflow import PowerFlow

Build = Callable[..., PlanningProblem]
MakeSite = Callable[..., SiteForecast]


def around_idle(grid: GridModel, problem: PlanningProblem) -> tuple[ControlTree, Linearisation]:
    tree = control_tree(grid, problem)
    idle_kw = site_plan_kw(problem, idle_schedule(problem))
    solved = solve_scenarios(PowerFlow(grid), problem, idle_kw)
    return tree, linearise(grid, tree, solved, idle_kw, 0.0)


def one_hour(problem: Build, site: SiteForecast, **changes: object) -> PlanningProblem:
    zeros = np.zeros((1, 9))
    fields = {"steps": 1, "sites": (site,), "batteries": (), "price_eur_per_mwh": np.array([50.0])}
    return problem(**(fields | {"rest_p_w": zeros, "rest_q_var": zeros} | changes))


def test_ageing_is_paid_segment_by_segment(problem: Build, village: GridModel, make_site: MakeSite) -> None:
    day = one_hour(problem, make_site("harbour", 540e3, steps=1, spread=0.0), limits=Limits(peak_eur_per_kw=0.0))
    tree, base = around_idle(village, day)
    program = formulate(day, tree, base, (network.add, ageing.add))
    at = int(np.flatnonzero(tree.substation == 0)[0])
    flow = base.flow_kw[P90, at, 0]
    edges = [float(base.limit_kw(P90, at, 630.0, loading)[0]) for loading in (80.0, 85.0, 90.0)]
    assert edges[1] < flow < edges[2]
    expected = 20.0 * (edges[1] - edges[0]) / 1e3 + 60.0 * (flow - edges[1]) / 1e3
    assert solve_linear(program).objective == pytest.approx(expected, rel=1e-9)


def test_the_peak_is_paid_above_its_floor_only(problem: Build, village: GridModel, make_site: MakeSite) -> None:
    for load_w, paid in ((540e3, True), (200e3, False)):
        day = one_hour(problem, make_site("harbour", load_w, steps=1, spread=0.0))
        tree, base = around_idle(village, day)
        at = int(np.flatnonzero(tree.substation == 0)[0])
        floor = float(base.limit_kw(P90, at, 630.0, 60.0)[0])
        expected = 0.5 * (base.flow_kw[P90, at, 0] - floor) if paid else 0.0
        assert solve_linear(formulate(day, tree, base, (network.add, peak.add))).objective == pytest.approx(expected)


def test_limits_out_of_reach_get_no_row(problem: Build, village: GridModel, make_site: MakeSite) -> None:
    small = (Battery("bat1", "harbour", 10e3, 10e3, 20e3, 50.0),)
    day = one_hour(problem, make_site("harbour", 100e3, steps=1), batteries=small)
    tree, base = around_idle(village, day)
    program = formulate(day, tree, base, (storage.add, energy.add, network.add))
    assert program.columns["overload_import"].size == 0
    assert program.columns["overload_export"].size == 0
    assert "voltage_low" not in program.columns


def test_the_linear_model_predicts_the_ac_solution(problem: Build, village: GridModel) -> None:
    day = problem()
    tree, base = around_idle(village, day)
    plan_kw = np.full((3, 2, 24), -80.0)
    solved = solve_scenarios(PowerFlow(village), day, plan_kw)
    again = linearise(village, tree, solved, plan_kw, 0.0)
    # Taking 2 x 80 kW out again gives the network without it. Flows differ by the losses of thin cables (5 %), which
    # the next round corrects; the exchange, with marginal losses, by their curvature only; voltages by 1.5e-3 pu^2.
    np.testing.assert_allclose(again.flow_kw, base.flow_kw, atol=10.0)
    np.testing.assert_allclose(again.import_kw, base.import_kw, atol=1.5)
    np.testing.assert_allclose(again.low_margin, base.low_margin, atol=1.5)


def test_curtailment_at_p50_stays_in_the_hull_of_what_the_limit_takes(
    problem: Build, village: GridModel, make_site: MakeSite
) -> None:
    day = one_hour(problem, make_site("harbour", 0.0, -100e3, steps=1, spread=0.2), pv=(CurtailablePv("pv1", "harbour", 1.0),))
    tree, base = around_idle(village, day)
    program = formulate(day, tree, base, (curtailment.add, energy.add, network.add))
    for taken, least in ((10.0, 0.0), (50.0, 30.0), (120.0, 100.0)):
        lower, upper = program.lower.copy(), program.upper.copy()
        lower[program.columns["curtail_p10"]] = upper[program.columns["curtail_p10"]] = taken
        x = solve_linear(program.with_bounds(lower, upper)).x
        # Most generation 120 kW, expected 100 kW: a limit that takes c of 120 takes c - 20 of 100.
        assert x[program.columns["curtail_p50"]][0, 0] == pytest.approx(least)


def test_a_term_of_ones_own_is_one_function(problem: Build, village: GridModel) -> None:
    day = problem()
    tree, base = around_idle(village, day)

    def no_discharging(formulation: Formulation) -> None:
        rows = formulation.draft.add_rows("no_discharging", (1,), upper=0.0)
        formulation.draft.put(rows[:, None, None], formulation.draft.columns["discharge"], 1.0)

    program = formulate(day, tree, base, (*TERMS, no_discharging))
    found = solve_linear(program)
    assert found.x[program.columns["discharge"]].max() <= 1e-9
    assert found.objective > solve_linear(formulate(day, tree, base)).objective
