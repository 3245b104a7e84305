"""The day plan end to end, judged by AC power flow."""

from __future__ import annotations

import multiprocessing
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandapower as pp
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tieline_cloud.gridmodel import GridModel
from tieline_cloud.planning import (
    Battery,
    CurtailablePv,
    FlexibleLoad,
    Limits,
    PlanningProblem,
    PlanRefusedError,
    SiteForecast,
)
from tieline_cloud.planning.certify import Costs, certify, site_plan_kw, solve_scenarios
from tieline_cloud.planning.day_ahead import idle_schedule, plan_day
from tieline_cloud.powerflow import PowerFlow, PowerFlowDivergedError
from tieline_core.messages.plan import PlanMode, Verdict

VILLAGE = Path(__file__).parents[1] / "gridmodel" / "village.json"
NOW = datetime(2016, 12, 7, 11, 58, tzinfo=UTC)
Build = Callable[..., PlanningProblem]
MakeSite = Callable[..., SiteForecast]


def test_the_evening_peak_is_at_least_five_points_lower_and_the_certificate_clean(problem: Build, village: GridModel) -> None:
    outcome = plan_day(problem(), village, NOW)
    assert outcome.certificate.verdict is Verdict.CLEAN
    assert outcome.slack == {}
    for edge in ("harbour", "mill"):
        for scenario in range(3):
            without = outcome.transformer_loading_without_pct[edge][scenario].max()
            assert outcome.transformer_loading_pct[edge][scenario].max() <= without - 5.0
    assert outcome.certificate.optimality_gap < 1e-3
    assert outcome.objective_eur < outcome.objective_without_eur
    assert outcome.certificate.max_loading_element in {"harbour/tr1", "mill/tr1"}
    assert outcome.certificate.max_loading_pct["p10"] < outcome.certificate.max_loading_pct["p90"] < 100.0


def test_pandapower_says_the_same_as_the_certificate(problem: Build, village: GridModel) -> None:
    day = problem()
    outcome = plan_day(day, village, NOW)
    loading = outcome.transformer_loading_pct["mill"][2]
    step = int(loading.argmax())
    with warnings.catch_warnings():
        # pandas deprecations inside pandapower say nothing about our side.
        warnings.simplefilter("ignore")
        net = pp.from_json(str(VILLAGE))
        net.load["p_mw"] = 0.0
        net.load["q_mvar"] = 0.0
        net.sgen["p_mw"] = 0.0
        for bus in range(len(village.buses)):
            pp.create_load(net, bus, day.rest_p_w[step, bus] / 1e6, day.rest_q_var[step, bus] / 1e6)
        for plan in outcome.plans:
            site, bus = day.site(plan.edge_id), village.substation(plan.edge_id).lv_bus
            pp.create_load(net, bus, site.load_p90_w[step] / 1e6, site.tan_phi * site.load_p90_w[step] / 1e6)
            for device in plan.devices:
                pp.create_storage(net, bus, (device.values_w[step] or 0.0) / 1e6, max_e_mwh=1.0)
        pp.runpp(net, lightsim2grid=False, numba=False, tolerance_mva=1e-10)
    assert net.res_trafo.loading_percent.max() == pytest.approx(outcome.certificate.max_loading_pct["p90"], abs=1e-3)


def test_plans_carry_setpoints_for_each_edge_with_the_certificate(problem: Build, village: GridModel) -> None:
    outcome = plan_day(problem(), village, NOW)
    assert [plan.edge_id for plan in outcome.plans] == ["harbour", "mill"]
    for plan in outcome.plans:
        assert plan.certificate == outcome.certificate
        assert plan.steps == 24
        assert plan.step_s == 3600
        assert [device.mode for device in plan.devices] == [PlanMode.SETPOINT_W] * 2
        assert all(value is not None and abs(value) <= 60e3 for device in plan.devices for value in device.values_w)
    assert outcome.plans[0].plan_id != outcome.plans[1].plan_id
    assert plan_day(problem(), village, NOW).plans == outcome.plans


def test_an_overload_that_cannot_be_avoided_gives_relief_with_the_violation_listed(
    problem: Build, village: GridModel, make_site: MakeSite, make_evening: Callable[..., Any]
) -> None:
    sites = (make_site("harbour", make_evening(760e3)), make_site("mill", make_evening(400e3)))
    outcome = plan_day(problem(sites=sites), village, NOW)
    certificate = outcome.certificate
    assert certificate.verdict is Verdict.RELIEF
    worst = certificate.violations[0]
    assert worst.element == "harbour/tr1"
    assert worst.quantity == "loading_pct"
    assert worst.value > worst.limit == 100.0
    assert worst.without_plan > worst.value
    # Both batteries together can give 120 kW: nothing more was possible at the worst instant.
    step = int(outcome.transformer_loading_pct["harbour"][2].argmax())
    harbour = [b for b, battery in enumerate(problem(sites=sites).batteries) if battery.edge_id == "harbour"]
    over = outcome.transformer_loading_pct["harbour"][2] > 100.05
    power = outcome.schedule.battery_kw[harbour].sum(axis=0)
    energy = outcome.schedule.energy_kwh[harbour].sum(axis=0)
    assert power[step] < -30.0
    assert (power[over] <= 1e-6).all()
    assert power[over].min() == pytest.approx(-120.0, abs=1e-3) or energy.min() == pytest.approx(30.0, abs=0.5)
    assert outcome.slack["overload_import"] > 0


def test_a_battery_that_suffices_ends_the_overload(
    problem: Build, village: GridModel, make_site: MakeSite, make_evening: Callable[..., Any]
) -> None:
    sites = (make_site("harbour", make_evening(620e3)),)
    strong = (Battery("bat1", "harbour", 150e3, 150e3, 900e3, 60.0),)
    outcome = plan_day(problem(sites=sites, batteries=strong), village, NOW)
    assert outcome.transformer_loading_without_pct["harbour"].max() > 100.0
    assert outcome.certificate.verdict is Verdict.CLEAN


@pytest.mark.parametrize(("vm_pu", "verdict"), [(1.047, Verdict.CLEAN), (1.02, Verdict.CLEAN)])
def test_overvoltage_is_met_by_charging_and_curtailing(
    problem: Build, village_fed_at: Callable[[float], GridModel], make_site: MakeSite, vm_pu: float, verdict: Verdict
) -> None:
    grid = village_fed_at(vm_pu)
    sun = -500e3 * np.maximum(np.sin((np.arange(24) - 2) / 6 * np.pi), 0.0) * (np.arange(24) < 9)
    day = problem(
        grid, sites=(make_site("mill", 50e3, sun),), pv=(CurtailablePv("pv1", "mill", 0.6),),
        rest_p_w=np.zeros((24, 9)), rest_q_var=np.zeros((24, 9)),
    )  # fmt: skip
    idle = solve_scenarios(PowerFlow(grid), day, site_plan_kw(day, idle_schedule(day)))
    outcome = plan_day(day, grid, NOW)
    assert outcome.certificate.verdict is verdict
    mv = grid.bus_index("n3")
    crossed = idle.vm_pu[:, mv].max() > grid.buses.max_pu[mv]
    assert crossed == (vm_pu > 1.04)
    limits = next(device for device in outcome.plans[0].devices if device.mode is PlanMode.GENERATION_LIMIT_W)
    assert any(value is not None for value in limits.values_w) == crossed
    assert all(value is None or -330e3 < value <= 0.0 for value in limits.values_w)


def test_undervoltage_that_no_battery_mends_is_relief(
    problem: Build, village_fed_at: Callable[[float], GridModel], make_site: MakeSite
) -> None:
    grid = village_fed_at(0.962)
    day = problem(grid, sites=(make_site("mill", 300e3),))
    outcome = plan_day(day, grid, NOW)
    assert outcome.certificate.verdict is Verdict.RELIEF
    assert {violation.quantity for violation in outcome.certificate.violations} == {"vm_pu"}
    assert outcome.certificate.violations[0].limit == pytest.approx(0.95)
    assert outcome.slack["voltage_low"] > 0


def test_a_flexible_load_moves_out_of_the_peak_and_gets_its_energy(problem: Build, village: GridModel) -> None:
    flexible = (FlexibleLoad("heat", "harbour", 50e3, 150e3, 4, 20),)
    day = problem(flexible=flexible, batteries=())
    outcome = plan_day(day, village, NOW)
    power = outcome.schedule.flexible_kw[0]
    assert power.sum() == pytest.approx(150.0)
    assert power[:4].sum() == pytest.approx(0.0)
    assert power[5:8].sum() == pytest.approx(0.0, abs=1e-6)
    assert outcome.transformer_loading_pct["harbour"].max() < outcome.transformer_loading_without_pct["harbour"].max() - 3
    (device,) = outcome.plans[0].devices
    assert device.mode is PlanMode.LOAD_LIMIT_W


def test_a_battery_outside_its_window_may_come_back_but_not_go_further(problem: Build, village: GridModel) -> None:
    low = (Battery("bat1", "harbour", 60e3, 60e3, 150e3, 4.0), Battery("bat2", "harbour", 60e3, 60e3, 150e3, 99.0))
    outcome = plan_day(problem(batteries=low), village, NOW)
    energy = outcome.schedule.energy_kwh
    assert energy[0].min() >= 0.04 * 150 - 1e-6
    assert energy[1].max() <= 0.99 * 150 + 1e-6
    assert outcome.certificate.verdict is Verdict.CLEAN


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    soc=st.floats(10, 95), peak=st.floats(100e3, 700e3), level=st.floats(-150, 150), swing=st.floats(-200, 200),
    eta=st.floats(0.8, 1.0),
)  # fmt: skip
def test_energy_is_conserved_inside_the_window_whatever_the_day(
    problem: Build, village: GridModel, make_site: MakeSite, make_evening: Callable[..., Any],
    soc: float, peak: float, level: float, swing: float, eta: float,
) -> None:  # fmt: skip
    battery = Battery("bat1", "harbour", 60e3, 50e3, 150e3, soc, eta_charge=eta, eta_discharge=eta)
    day = problem(
        sites=(make_site("harbour", make_evening(peak)),),
        batteries=(battery,),
        price_eur_per_mwh=level + swing * np.sin(np.arange(24) / 4),
    )
    found = plan_day(day, village, NOW).schedule
    before = np.concatenate([[soc * 1.5], found.energy_kwh[0, :-1]])
    np.testing.assert_allclose(found.energy_kwh[0], before + eta * found.charge_kw[0] - found.discharge_kw[0] / eta, atol=1e-5)
    assert found.energy_kwh.min() >= 15.0 - 1e-5
    assert found.energy_kwh.max() <= 142.5 + 1e-5
    assert np.minimum(found.charge_kw, found.discharge_kw).max() <= 1e-4
    assert found.battery_kw.max() <= 60.0 + 1e-6
    assert found.battery_kw.min() >= -50.0 - 1e-6


def test_a_plan_worse_than_nothing_is_refused_with_the_element_named(
    problem: Build, village: GridModel, village_fed_at: Callable[[float], GridModel]
) -> None:
    day = problem()
    idle_kw = site_plan_kw(day, idle_schedule(day))
    costs = Costs(1.0, 2.0, 1.0, 1)
    engine = PowerFlow(village)
    idle, mad = solve_scenarios(engine, day, idle_kw), solve_scenarios(engine, day, idle_kw + 120.0)
    with pytest.raises(PlanRefusedError, match=r"mill/tr1 would stand at .* further out than doing nothing"):
        certify(village, day, (mad, idle), costs, "test", NOW)
    assert certify(village, day, (idle, mad), costs, "test", NOW).verdict is Verdict.CLEAN
    sagging = village_fed_at(0.96)
    low, idle = (solve_scenarios(PowerFlow(grid), day, idle_kw - 200.0) for grid in (sagging, village))
    with pytest.raises(PlanRefusedError, match="vm_pu"):
        certify(sagging, day, (low, idle), costs, "test", NOW)


def test_a_substation_that_is_cut_off_is_said_clearly(problem: Build, village: GridModel) -> None:
    open_end = village.branches.from_closed.copy()
    open_end[village.branch_index("harbour/tr1")] = False
    cut = replace(village, branches=replace(village.branches, from_closed=open_end))
    with pytest.raises(PlanRefusedError, match="harbour/tr1 is not connected"):
        plan_day(problem(), cut, NOW)


def test_the_gap_is_a_share_of_what_the_plan_saves() -> None:
    assert Costs(90.0, 100.0, 89.0, 1).gap == pytest.approx(0.1)
    assert Costs(100.0, 100.0, 99.5, 1).gap == pytest.approx(0.5)
    assert Costs(90.0, 100.0, 91.0, 1).gap == 0.0


def test_a_scenario_without_solution_is_said_clearly(problem: Build, village: GridModel, make_site: MakeSite) -> None:
    with pytest.raises(PowerFlowDivergedError):
        plan_day(problem(sites=(make_site("mill", 40e6),)), village, NOW)


def test_without_a_worth_of_the_peak_and_ageing_the_plan_follows_the_price_alone(problem: Build, village: GridModel) -> None:
    flat = np.full(24, 60.0)
    idle = plan_day(problem(price_eur_per_mwh=flat, limits=Limits(ageing=(), peak_eur_per_kw=0.0)), village, NOW)
    # 60 % of charge, 50 % wanted at the end: selling the difference once is all there is.
    assert idle.schedule.charge_kw.sum() == pytest.approx(0.0, abs=1e-6)
    assert idle.schedule.discharge_kw.sum() == pytest.approx(4 * 15.0 * 0.96, abs=1e-3)


def test_a_plan_is_the_same_in_a_spawned_process(problem: Build, village: GridModel) -> None:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        there = pool.submit(plan_day, problem(), village, NOW).result(timeout=60)
    assert there.plans == plan_day(problem(), village, NOW).plans
