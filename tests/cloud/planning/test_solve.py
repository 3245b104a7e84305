"""The linear programme, its solver and the exclusion of charging and discharging at once."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from tieline_cloud.gridmodel import GridModel
from tieline_cloud.planning import Battery, CurtailablePv, Limits, PlanningProblem, PlanRefusedError, SiteForecast, solve
from tieline_cloud.planning.certify import site_plan_kw, solve_scenarios
from tieline_cloud.planning.control_tree import control_tree, linearise
from tieline_cloud.planning.day_ahead import idle_schedule
from tieline_cloud.planning.formulation import Term, formulate, schedule
from tieline_cloud.planning.linear import LinearDraft, LinearProgram
from tieline_cloud.planning.solve import solve_linear, solve_one_way
from tieline_cloud.planning.terms import energy, storage
from tieline_cloud.powerflow import PowerFlow

Build = Callable[..., PlanningProblem]


def program_of(
    grid: GridModel, problem: PlanningProblem, terms: tuple[Term, ...] | None = None, losses: bool = True
) -> LinearProgram:
    """The programme around doing nothing."""
    tree = control_tree(grid, problem)
    idle_kw = site_plan_kw(problem, idle_schedule(problem))
    solved = solve_scenarios(PowerFlow(grid), problem, idle_kw)
    base = linearise(grid, tree, solved, idle_kw, 1e-4)
    return formulate(problem, tree, base if losses else replace(base, loss_factor=0.0 * base.loss_factor), terms)


def two_steps(problem: Build, site: SiteForecast, battery: Battery, prices: list[float]) -> PlanningProblem:
    steps = len(prices)
    return problem(
        steps=steps,
        sites=(site,),
        batteries=(battery,),
        price_eur_per_mwh=np.array(prices),
        rest_p_w=np.zeros((steps, 9)),
        rest_q_var=np.zeros((steps, 9)),
    )


@pytest.mark.parametrize(
    ("eta", "saving"),
    # 45 kWh of room: lossless 45 (0.12 - 0.02 - 0.01); at 0.9 each way buy 50 kWh, sell 40.5: 40.5 * 0.11 - 50 * 0.02.
    [(1.0, 4.05), (0.9, 3.455)],
)
def test_a_hand_solved_day_of_two_hours(
    problem: Build, village: GridModel, make_site: Callable[..., SiteForecast], eta: float, saving: float
) -> None:
    battery = Battery("bat1", "harbour", 100e3, 100e3, 100e3, 50.0, 10.0, 95.0, 50.0, eta, eta, 10.0)
    small = two_steps(problem, make_site("harbour", 1e5, steps=2), battery, [20.0, 120.0])
    program = program_of(village, small, (storage.add, energy.add), losses=False)
    found = solve_one_way(program)
    assert found.objective == pytest.approx(program.offset - saving, abs=1e-9)
    assert found.bound == pytest.approx(found.objective, abs=1e-6)
    assert schedule(small, program, found.x).energy_kwh[0] == pytest.approx([95.0, 50.0])


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_random_programmes_agree_with_scipy(seed: int) -> None:
    rng = np.random.default_rng(seed)
    draft = LinearDraft(offset=3.0)
    x = draft.add_columns("x", (6,), 0.0, rng.uniform(1, 4, 6), rng.normal(size=6))
    rows = draft.add_rows("rows", (4,), upper=rng.uniform(2, 6, 4))
    coefficients = rng.normal(size=(4, 6))
    draft.put(rows[:, None], x[None, :], 0.5 * coefficients)
    draft.put(rows[:, None], x[None, :], 0.5 * coefficients)  # repeats add up
    draft.add_cost(x[:2], 0.25)
    program = draft.program()
    found = solve_linear(program)
    bounds = list(zip(program.lower, program.upper, strict=True))
    peer = linprog(program.cost, A_ub=coefficients, b_ub=program.row_upper, bounds=bounds)
    assert found.objective == pytest.approx(peer.fun + 3.0, abs=1e-7)
    assert found.bound == pytest.approx(found.objective, abs=1e-5)


def test_the_whole_programme_agrees_with_scipy(problem: Build, village: GridModel) -> None:
    program = program_of(village, problem())
    low, high = np.isfinite(program.row_lower), np.isfinite(program.row_upper)
    import scipy.sparse as sp

    rows = sp.vstack([program.matrix.tocsr()[high], -program.matrix.tocsr()[low]])
    limits = np.concatenate([program.row_upper[high], -program.row_lower[low]])
    bounds = np.stack([program.lower, program.upper], axis=1)
    peer = linprog(program.cost, A_ub=rows, b_ub=limits, bounds=bounds, method="highs-ipm")
    assert solve_linear(program).objective == pytest.approx(peer.fun + program.offset, rel=1e-7)


def brute_force(program: LinearProgram) -> float:
    """Best value over every choice of direction."""
    charge, discharge = program.columns["charge"], program.columns["discharge"]
    best = np.inf
    for choice in itertools.product((True, False), repeat=charge.size):
        upper = program.upper.copy()
        charging = np.array(choice).reshape(charge.shape)
        upper[discharge[charging]] = 0.0
        upper[charge[~charging]] = 0.0
        best = min(best, solve_linear(program.with_bounds(program.lower, upper)).objective)
    return best


@pytest.mark.parametrize("prices", [[-100.0] * 4, [-50.0, -200.0, 30.0, -120.0], [-80.0, 90.0, -300.0, -10.0]])
@pytest.mark.parametrize("soc_now", [10.0, 55.0, 95.0])
def test_at_negative_prices_nothing_charges_and_discharges_at_once(
    problem: Build, village: GridModel, make_site: Callable[..., SiteForecast], prices: list[float], soc_now: float
) -> None:
    battery = Battery("bat1", "harbour", 60e3, 60e3, 100e3, soc_now, wear_eur_per_mwh=5.0, eta_charge=0.85, eta_discharge=0.85)
    small = two_steps(problem, make_site("harbour", 1e5, steps=4), battery, prices)
    program = program_of(village, small, (storage.add, energy.add))
    found = solve_one_way(program)
    both = np.minimum(found.x[program.columns["charge"]], found.x[program.columns["discharge"]])
    assert both.max() <= 1e-6
    assert found.objective == pytest.approx(brute_force(program), abs=1e-4)
    assert found.bound <= found.objective


def test_the_plain_programme_would_burn_energy_so_the_exclusion_is_needed(
    problem: Build, village: GridModel, make_site: Callable[..., SiteForecast]
) -> None:
    battery = Battery("bat1", "harbour", 60e3, 60e3, 100e3, 95.0, wear_eur_per_mwh=5.0, eta_charge=0.85, eta_discharge=0.85)
    small = two_steps(problem, make_site("harbour", 1e5, steps=2), battery, [-100.0, -100.0])
    program = program_of(village, small, (storage.add, energy.add))
    relaxed, found = solve_linear(program), solve_one_way(program)
    both = np.minimum(relaxed.x[program.columns["charge"]], relaxed.x[program.columns["discharge"]])
    assert both.max() > 1.0
    assert relaxed.objective < found.objective - 1e-3


def test_without_time_for_the_search_the_fixed_plan_stands_with_an_honest_bound(
    problem: Build, village: GridModel, make_site: Callable[..., SiteForecast], monkeypatch: pytest.MonkeyPatch
) -> None:
    battery = Battery("bat1", "harbour", 60e3, 60e3, 100e3, 95.0, wear_eur_per_mwh=5.0, eta_charge=0.85, eta_discharge=0.85)
    small = two_steps(problem, make_site("harbour", 1e5, steps=4), battery, [-100.0] * 4)
    program = program_of(village, small, (storage.add, energy.add))
    quick = solve_one_way(program, integer_seconds=0.0)
    assert quick.bound < quick.objective
    plain = solve_linear

    def no_search(program: LinearProgram, integer: object = None, *_: object) -> solve.Solution:
        if integer is not None:
            raise PlanRefusedError("out of time")
        return plain(program)

    monkeypatch.setattr(solve, "solve_linear", no_search)
    assert solve_one_way(program).objective == pytest.approx(quick.objective)


def test_an_infeasible_programme_names_the_status(problem: Build, village: GridModel) -> None:
    program = program_of(village, problem())
    upper = program.upper.copy()
    upper[program.columns["energy"]] = 0.0
    with pytest.raises(PlanRefusedError, match="nfeasible"):
        solve_linear(program.with_bounds(np.zeros_like(upper), upper))


def test_a_programme_with_no_number_is_refused(problem: Build, village: GridModel) -> None:
    program = program_of(village, problem())
    matrix = program.matrix.copy()
    matrix.data[0] = np.nan
    with pytest.raises(PlanRefusedError, match="not a number"):
        solve_linear(replace(program, matrix=matrix))


def test_curtailment_at_negative_prices_is_total_and_exact(
    problem: Build, village: GridModel, make_site: Callable[..., SiteForecast]
) -> None:
    sites = (make_site("harbour", 1e5, -60e3, steps=2, spread=0.2),)
    rest = np.zeros((2, 9))
    day = problem(
        steps=2, sites=sites, batteries=(), pv=(CurtailablePv("pv1", "harbour", 0.5),),
        price_eur_per_mwh=np.array([-50.0, 50.0]), rest_p_w=rest, rest_q_var=rest, step=timedelta(hours=1), limits=Limits(),
    )  # fmt: skip
    program = program_of(village, day)
    found = schedule(day, program, solve_one_way(program).x)
    assert found.pv_limit_kw[0, 0] == pytest.approx(0.0, abs=1e-6)
    assert np.isinf(found.pv_limit_kw[0, 1])
    # P50 output is 30 kW: nothing left of it, and the modelled curtailment says the same.
    x = solve_one_way(program).x
    assert x[program.columns["curtail_p50"]][0] == pytest.approx([30.0, 0.0])
