"""Input checks of a planning problem."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pytest

from tieline_cloud.gridmodel import GridModel
from tieline_cloud.planning import Battery, CurtailablePv, FlexibleLoad, Limits, PlanningProblem, SiteForecast
from tieline_core.errors import BadInputError

Build = Callable[..., PlanningProblem]
BATTERY = Battery("bat1", "harbour", 60e3, 60e3, 150e3, 60.0)


@pytest.mark.parametrize(
    ("changes", "key", "reason"),
    [
        ({"start": datetime(2016, 12, 7)}, "start", "time zone"),  # noqa: DTZ001 - the naive instant is the point
        ({"step": timedelta(0)}, "step", "positive"),
        ({"price_eur_per_mwh": np.zeros(0)}, "price_eur_per_mwh", "1 to 192"),
        ({"price_eur_per_mwh": np.zeros(193)}, "price_eur_per_mwh", "1 to 192"),
        ({"price_eur_per_mwh": np.full(24, np.nan)}, "price_eur_per_mwh", "finite"),
        ({"rest_p_w": np.zeros((23, 9))}, "rest_p_w", "24 steps"),
        ({"rest_q_var": np.zeros((24, 3))}, "rest_q_var", "shape of rest_p_w"),
        ({"sites": ()}, "sites", "at least one"),
        ({"batteries": (replace(BATTERY, edge_id="nowhere"),)}, "batteries.nowhere/bat1", "no site"),
        ({"batteries": (BATTERY, BATTERY)}, "batteries.harbour/bat1", "once"),
        ({"batteries": (replace(BATTERY, energy_wh=0.0),)}, "batteries.harbour/bat1.energy_wh", "positive"),
        ({"batteries": (replace(BATTERY, p_charge_max_w=float("nan")),)}, "batteries.harbour/bat1.p_charge_max_w", "positive"),
        ({"batteries": (replace(BATTERY, energy_wh=float("inf")),)}, "batteries.harbour/bat1.energy_wh", "finite"),
        ({"batteries": (replace(BATTERY, eta_charge=1.2),)}, "batteries.harbour/bat1.eta_charge", "(0, 1]"),
        ({"batteries": (replace(BATTERY, soc_min_pct=96.0),)}, "batteries.harbour/bat1.soc_min_pct", "soc_min_pct <"),
        ({"batteries": (replace(BATTERY, soc_now_pct=101.0),)}, "batteries.harbour/bat1.soc_now_pct", "0 and 100"),
        ({"batteries": (replace(BATTERY, wear_eur_per_mwh=-1.0),)}, "batteries.harbour/bat1.wear_eur_per_mwh", "negative"),
        (
            {"pv": (CurtailablePv("pv1", "harbour", 0.7), CurtailablePv("pv2", "harbour", 0.7))},
            "pv.harbour/pv1.share",
            "at most 1",
        ),
        ({"flexible": (FlexibleLoad("ev", "mill", 1e4, 1e4, 5, 24),)}, "flexible.mill/ev.first_step", "0..23"),
        ({"flexible": (FlexibleLoad("ev", "mill", 0.0, 1e4, 5, 8),)}, "flexible.mill/ev.p_max_w", "positive"),
        ({"flexible": (FlexibleLoad("ev", "mill", 1e4, 5e4, 5, 8),)}, "flexible.mill/ev.energy_wh", "40000"),
        ({"limits": Limits(ageing=((80.0, 20.0), (75.0, 30.0)))}, "limits.ageing", "rise"),
        ({"limits": Limits(ageing=((80.0, 20.0), (85.0, 10.0)))}, "limits.ageing", "prices must rise"),
        ({"limits": Limits(peak_eur_per_kw=-1.0)}, "limits.peak_eur_per_kw", "negative"),
    ],
)
def test_a_wrong_input_is_named(problem: Build, changes: dict[str, Any], key: str, reason: str) -> None:
    with pytest.raises(BadInputError) as caught:
        problem(**changes)
    assert caught.value.key == key
    assert reason in str(caught.value)


def test_crossing_quantiles_and_positive_pv_are_refused(problem: Build, make_site: Callable[..., SiteForecast]) -> None:
    good = make_site("harbour", 1e5)
    with pytest.raises(BadInputError, match="must not cross"):
        problem(sites=(replace(good, load_p10_w=good.load_p90_w, load_p90_w=good.load_p10_w),))
    with pytest.raises(BadInputError, match="load convention"):
        problem(sites=(replace(good, pv_p90_w=np.full(24, 1.0)),))
    with pytest.raises(BadInputError, match="tan_phi"):
        problem(sites=(replace(good, tan_phi=float("inf")),))
    with pytest.raises(BadInputError, match="once"):
        problem(sites=(good, good), batteries=())


def test_a_problem_of_another_network_is_refused(
    problem: Build, village: GridModel, make_site: Callable[..., SiteForecast]
) -> None:
    with pytest.raises(BadInputError, match="has substations"):
        problem(sites=(make_site("market", 1e5),), batteries=()).check_against(village)
    narrow = problem(rest_p_w=np.zeros((24, 3)), rest_q_var=np.zeros((24, 3)))
    with pytest.raises(BadInputError, match="one column for each of 9"):
        narrow.check_against(village)


def test_hashes_name_the_input_that_changed(problem: Build, village: GridModel) -> None:
    one, other = problem(), problem(price_eur_per_mwh=np.full(24, 50.0))
    changed = {key for key, value in one.input_sha256(village).items() if value != other.input_sha256(village)[key]}
    assert changed == {"prices"}
    assert one.input_sha256(village) == problem().input_sha256(village)
