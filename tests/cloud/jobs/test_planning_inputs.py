"""From stored history to a planning problem, and to a plan."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from tests.cloud.rooms import NOW
from tieline_cloud.dispatch.documents import Price
from tieline_cloud.gridmodel import GridModel, load_network
from tieline_cloud.jobs.planning_inputs import (
    FALLBACK_PRICE,
    PlanningInputs,
    feeder_forecasts,
    newest_soc,
    plan_from,
    planning_problem,
    price_steps,
    pv_quantiles,
)
from tieline_cloud.settings import EdgeAssets, PlanningSettings
from tieline_core.forecast_inputs import LoadHistory, NotEnoughHistoryError
from tieline_core.ids import EdgeId, PointId
from tieline_core.messages.plan import Verdict

VILLAGE = Path(__file__).parents[1] / "gridmodel" / "village.json"
QUARTER = timedelta(minutes=15)
DAYS = 40
ASSETS = EdgeAssets.model_validate(
    {
        "rated_va": 630e3,
        "batteries": {"bat1": {"p_charge_max_w": 60e3, "p_discharge_max_w": 60e3, "energy_wh": 150e3}},
        "pv": {"pv1": {"p_rated_w": 30e3}, "pv2": {"p_rated_w": 10e3, "curtailable": False}},
    }
)


@pytest.fixture(scope="module")
def village() -> GridModel:
    return load_network(VILLAGE)


def history(shape: Callable[[np.ndarray[tuple[int], np.dtype[np.float64]]], object]) -> LoadHistory:
    """Forty days up to now; the shape is a function of the hour of the day (UTC)."""
    start = NOW - timedelta(days=DAYS)
    hour = (np.arange(DAYS * 96) / 4 + start.hour + start.minute / 60) % 24
    return LoadHistory(start, np.asarray(shape(hour), dtype=np.float64), np.zeros(DAYS * 96, dtype=bool))


def inputs(**changes: object) -> PlanningInputs:
    fields: dict[str, object] = {
        "start": NOW,
        "steps": 96,
        "prices": [Price(NOW - timedelta(hours=1) + timedelta(hours=h), 40.0 + h) for h in range(30)],
        "histories": {
            PointId("harbour/site/load_w"): history(lambda hour: 300e3 + 200e3 * np.exp(-(((hour - 18) / 2) ** 2))),
            PointId("harbour/site/pv_w"): history(lambda hour: -20e3 * np.maximum(0, 1 - ((hour - 12) / 4) ** 2)),
        },
        "models": {},
        "soc_pct": {PointId("harbour/bat1/soc_pct"): 70.0},
        "assets": {EdgeId("harbour"): ASSETS},
        "planning": PlanningSettings(),
    }
    return PlanningInputs(**(fields | changes))  # type: ignore[arg-type]  # the fields are those above


def test_a_price_holds_until_the_next_one_starts() -> None:
    hours = [Price(NOW + timedelta(hours=h, minutes=-30), float(h)) for h in range(3)]
    prices, note = price_steps(hours, NOW, 8)
    assert prices.tolist() == [0.0, 0.0, 1.0, 1.0, 1.0, 1.0, 2.0, 2.0]
    assert note is None


def test_beyond_the_known_prices_the_day_before_stands_in_and_is_said() -> None:
    known = [Price(NOW - timedelta(hours=24) + timedelta(hours=h), float(h)) for h in range(26)]
    prices, note = price_steps(known, NOW, 16)
    assert prices.tolist() == [24.0] * 4 + [25.0] * 4 + [2.0] * 4 + [3.0] * 4
    assert note is not None
    assert note.startswith("8 of 16 prices are not known")


def test_without_prices_a_flat_one_is_assumed_and_said() -> None:
    prices, note = price_steps([], NOW, 4)
    assert prices.tolist() == [FALLBACK_PRICE] * 4
    assert note is not None


def test_pv_quantiles_are_those_of_the_same_quarter_hour_and_never_positive() -> None:
    days = np.arange(DAYS)[:, None]
    values = (-100.0 * days * np.ones((1, 96))).ravel()
    values[5::96] = 7.0  # a meter's own draw at night
    start = NOW - timedelta(days=DAYS)
    p10, p50, p90 = pv_quantiles(LoadHistory(start, values, np.zeros(DAYS * 96, dtype=bool)), NOW + QUARTER, 96)
    last = -100.0 * np.arange(DAYS - 14, DAYS)
    assert p50[0] == pytest.approx(np.median(last))
    assert (p10[0], p90[0]) == (pytest.approx(np.quantile(last, 0.1)), pytest.approx(np.quantile(last, 0.9)))
    assert p10[4] == p50[4] == p90[4] == 0.0


def test_two_days_are_too_few_for_quantiles() -> None:
    short = LoadHistory(NOW - timedelta(days=2), np.zeros(192), np.zeros(192, dtype=bool))
    with pytest.raises(NotEnoughHistoryError, match="at least three days"):
        pv_quantiles(short, NOW, 4)


@pytest.mark.parametrize(
    ("age", "value", "expected"),
    [
        (timedelta(minutes=5), 55.0, 55.0),
        (timedelta(hours=3), 55.0, None),
        (timedelta(0), None, None),
        (timedelta(0), 101.0, None),
    ],
)
def test_a_state_of_charge_is_planned_with_only_while_it_is_fresh_and_possible(
    age: timedelta, value: float | None, expected: float | None
) -> None:
    assert newest_soc(NOW - age, NOW, value) == expected


def test_every_stand_in_is_named(village: GridModel) -> None:
    given = inputs(soc_pct={}, prices=[], assets={EdgeId("harbour"): ASSETS, EdgeId("atlantis"): ASSETS})
    problem, notes = planning_problem(given, village, {})
    text = "\n".join(notes)
    for part in (
        "harbour/site/load_w: there is no model",
        "harbour/bat1: no state of charge",
        "no prices are known",
        "atlantis: the network has no such substation",
    ):
        assert part in text
    assert [battery.soc_now_pct for battery in problem.batteries] == [50.0]
    assert [(plant.device_id, plant.share) for plant in problem.pv] == [("pv1", 0.75)]


def test_an_edge_without_history_cannot_be_planned(village: GridModel) -> None:
    with pytest.raises(NotEnoughHistoryError, match="import its history first"):
        planning_problem(inputs(histories={}), village, {})


def test_a_whole_plan_comes_out_certified_with_curves(village: GridModel) -> None:
    now: datetime = NOW + timedelta(minutes=3)
    work = plan_from(inputs(), village, now)
    (plan,) = work.outcome.plans
    assert (plan.edge_id, plan.start, plan.steps, plan.step_s) == ("harbour", NOW, 96, 900)
    assert plan.certificate.verdict is Verdict.CLEAN
    curves = work.curves[EdgeId("harbour")]
    assert max(curves.loading_with_pct) < max(curves.loading_without_pct)
    assert len(curves.load_p50_w) == len(curves.price_eur_per_mwh) == 96
    assert min(curves.soc_pct.popitem()[1]) >= 10.0 - 1e-6


def test_feeders_with_history_shape_the_rest_of_the_network(village: GridModel) -> None:
    feeder = next(area for area in village.buses.area if area is not None)
    point = PointId.of("primary", feeder, "p_w")
    given = inputs()
    given = inputs(histories={**given.histories, point: history(lambda hour: 1e6 + 0 * hour)})
    expected = feeder_forecasts(given, village)
    assert list(expected) == [point]
    assert expected[point] == pytest.approx(np.full(96, 1e6))
    with_feeder, _ = planning_problem(given, village, expected)
    without, _ = planning_problem(given, village, {})
    assert with_feeder.rest_p_w.sum() != pytest.approx(without.rest_p_w.sum())
