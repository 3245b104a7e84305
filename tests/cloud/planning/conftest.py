"""A small planning problem on the village network, to be varied by each test."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tieline_cloud.gridmodel import GridModel, load_network
from tieline_cloud.gridmodel.allocation import allocate
from tieline_cloud.planning import Battery, PlanningProblem, SiteForecast

VILLAGE = Path(__file__).parents[1] / "gridmodel" / "village.json"
START = datetime(2016, 12, 7, 12, 0, tzinfo=UTC)


@pytest.fixture(scope="session")
def village() -> GridModel:
    """The network of ``tests/cloud/gridmodel/make_village.py``."""
    return load_network(VILLAGE)


@pytest.fixture(scope="session")
def village_fed_at() -> Callable[[float], GridModel]:
    """The village with another voltage at its upstream connection [pu]."""

    def build(vm_pu: float) -> GridModel:
        document: dict[str, Any] = json.loads(VILLAGE.read_bytes())
        frame = json.loads(document["_object"]["ext_grid"]["_object"])
        frame["data"][0][frame["columns"].index("vm_pu")] = vm_pu
        document["_object"]["ext_grid"]["_object"] = json.dumps(frame)
        return load_network(json.dumps(document).encode())

    return build


def site(edge_id: str, load_w: Any, pv_w: Any = 0.0, steps: int = 24, spread: float = 0.05) -> SiteForecast:
    """A site whose P10 and P90 lie ``spread`` around the given P50."""
    load = np.broadcast_to(np.asarray(load_w, dtype=np.float64), (steps,)).copy()
    pv = np.broadcast_to(np.asarray(pv_w, dtype=np.float64), (steps,)).copy()
    low, high = 1.0 - spread, 1.0 + spread
    return SiteForecast(edge_id, low * load, load, high * load, high * pv, pv, low * pv)


def evening(peak_w: float, steps: int = 24) -> Any:
    """An hourly load that starts at noon and peaks at 18:00 (step 6)."""
    hour = np.arange(steps)
    return peak_w * (0.55 + 0.45 * np.exp(-(((hour - 6) / 2.0) ** 2)))


@pytest.fixture
def problem(village: GridModel) -> Callable[..., PlanningProblem]:
    """Both substations at an evening peak of 560 kW, two batteries each; keywords replace fields."""

    def build(grid: GridModel = village, **changes: Any) -> PlanningProblem:
        sites = changes.pop("sites", (site("harbour", evening(560e3)), site("mill", evening(560e3))))
        steps = changes.pop("steps", 24)
        rest = allocate(grid, {}, {}).rest(grid)
        hour = np.arange(steps)
        fields: dict[str, Any] = {
            "start": START,
            "step": timedelta(hours=1),
            "price_eur_per_mwh": 60.0 + 40.0 * np.exp(-(((hour - 6) / 2.0) ** 2)),
            "sites": sites,
            "rest_p_w": np.tile(rest.p_w, (steps, 1)),
            "rest_q_var": np.tile(rest.q_var, (steps, 1)),
            "batteries": tuple(
                Battery(f"bat{k}", edge, 60e3, 60e3, 150e3, 60.0) for edge in {s.edge_id: 0 for s in sites} for k in (1, 2)
            ),
        }
        return PlanningProblem(**(fields | changes))

    return build


@pytest.fixture
def make_site() -> Callable[..., SiteForecast]:
    """:func:`site` for test modules."""
    return site


@pytest.fixture
def make_evening() -> Callable[..., Any]:
    """:func:`evening` for test modules."""
    return evening
