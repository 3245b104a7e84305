"""The table an edge gets of its network, against the AC power flow it was linearised from."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from tieline_cloud.gridmodel import GridModel
from tieline_cloud.planning import CurtailablePv, PlanningProblem
from tieline_cloud.planning.certify import scenario_powers, site_plan_kw
from tieline_cloud.planning.control_tree import P50
from tieline_cloud.planning.day_ahead import PlanningOutcome, plan_day
from tieline_cloud.powerflow import PowerFlow
from tieline_cloud.powerflow.sensitivity import sensitivity
from tieline_core.messages.network import NetworkTable
from tieline_core.messages.plan import Plan

NOW = datetime(2016, 12, 7, 11, 58, tzinfo=UTC)
Build = Callable[..., PlanningProblem]


@pytest.fixture(scope="module")
def kept() -> dict[str, Any]:
    return {}


@pytest.fixture
def day(problem: Build, village: GridModel, kept: dict[str, Any]) -> tuple[PlanningProblem, PlanningOutcome]:
    if "day" not in kept:
        made = problem(pv=(CurtailablePv("pv1", "harbour", 1.0),))
        kept["day"] = made, plan_day(made, village, NOW)
    found: tuple[PlanningProblem, PlanningOutcome] = kept["day"]
    return found


def table_of(outcome: PlanningOutcome, edge: str) -> NetworkTable:
    plan = next(plan for plan in outcome.plans if plan.edge_id == edge)
    assert plan.network is not None
    return plan.network


def test_each_plan_brings_the_limits_around_its_site_and_the_known_prices(
    day: tuple[PlanningProblem, PlanningOutcome], village: GridModel
) -> None:
    made, outcome = day
    table = table_of(outcome, "harbour")
    assert table.topology_hash == village.topology_hash
    assert set(table.p_w) == {"bat1", "bat2", "pv1"}
    own = table.elements[0]
    assert (own.element, own.high, own.low) == ("harbour/tr1", made.limits.loading_max_pct, None)
    assert own.measured is not None
    assert own.measured.quantity == "loading_pct"
    assert {one.quantity for one in table.elements} == {"loading_pct", "vm_pu"}
    plan = outcome.plans[0]
    assert plan.prices is not None
    assert plan.prices.eur_per_mwh == pytest.approx(made.price_eur_per_mwh, abs=1e-4)
    assert Plan.from_bytes(plan.to_bytes(), "plan") == plan
    assert len(plan.to_bytes()) < 64 * 1024


def test_the_prediction_of_a_site_that_does_otherwise_is_within_its_margins(
    day: tuple[PlanningProblem, PlanningOutcome], village: GridModel
) -> None:
    """Up to 120 kW either way on a 630 kVA transformer: at most half a point of loading and a thousandth of voltage off."""
    made, outcome = day
    engine, rng = PowerFlow(village), np.random.default_rng(20161207)
    p_w, q_var = scenario_powers(village, made, site_plan_kw(made, outcome.schedule))
    rows = slice(P50 * made.steps, (P50 + 1) * made.steps)
    for edge in ("harbour", "mill"):
        more_w = rng.uniform(-120e3, 120e3, made.steps)
        moved = p_w[rows].copy()
        moved[:, village.substation(edge).lv_bus] += more_w
        truth = engine.batch(moved, q_var[rows])
        expected = engine.batch(p_w[rows], q_var[rows])
        for element in table_of(outcome, edge).elements:
            slope = np.array(element.sensitivities[0].per_mw)
            if element.quantity == "loading_pct":
                branch = village.branch_index(element.element)
                error = expected.loading_pct[:, branch] + slope * more_w / 1e6 - truth.loading_pct[:, branch]
                assert np.abs(error).max() < 0.5, element.element
            else:
                bus = village.bus_index(element.element)
                error = expected.vm_pu[:, bus] + slope * more_w / 1e6 - truth.vm_pu[:, bus]
                assert np.abs(error).max() < 1e-3, element.element


def test_sensitivities_are_those_of_the_power_flow(village: GridModel) -> None:
    """A kilowatt and a kilovar more, by hand, against the slopes; drawing more lowers the voltage and loads the transformer."""
    engine = PowerFlow(village)
    substation = village.substation("harbour")
    p_w = np.zeros((1, len(village.buses)))
    p_w[:, substation.lv_bus] = 300e3
    q_var = 0.25 * p_w
    found = sensitivity(engine, p_w, q_var, substation.lv_bus)
    base = engine.batch(p_w, q_var)
    for per_p, changed in ((True, p_w), (False, q_var)):
        more = changed.copy()
        more[:, substation.lv_bus] += 1e3
        other = engine.batch(more, q_var) if per_p else engine.batch(p_w, more)
        vm = found.vm_per_mw if per_p else found.vm_per_mvar
        loading = found.loading_per_mw if per_p else found.loading_per_mvar
        assert (other.vm_pu - base.vm_pu) * 1e3 == pytest.approx(vm, abs=2e-4)
        assert (other.loading_pct - base.loading_pct) * 1e3 == pytest.approx(loading, abs=0.3)
        assert vm[0, substation.lv_bus] < 0.0 < loading[0, substation.branch]
