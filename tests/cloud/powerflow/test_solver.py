"""Batches, dead parts and refusals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tieline_cloud.gridmodel import GridModel, load_network
from tieline_cloud.powerflow import PowerFlow, PowerFlowDivergedError, PowerFlowResult

VILLAGE = Path(__file__).parents[1] / "gridmodel" / "village.json"


def with_cell(table: str, column: str, row: int, value: object) -> GridModel:
    document: dict[str, Any] = json.loads(VILLAGE.read_bytes())
    frame = json.loads(document["_object"][table]["_object"])
    frame["data"][row][frame["columns"].index(column)] = value
    document["_object"][table]["_object"] = json.dumps(frame)
    return load_network(json.dumps(document).encode())


def test_a_batch_is_its_single_solves(village: GridModel) -> None:
    rng = np.random.default_rng(1)
    p_w = rng.uniform(0, 4e5, (5, len(village.buses)))
    engine = PowerFlow(village)
    batch = engine.batch(p_w, 0.3 * p_w)
    for step in range(5):
        single = engine.solve(p_w[step], 0.3 * p_w[step])
        for name in PowerFlowResult.__slots__:
            np.testing.assert_allclose(getattr(batch, name)[step], getattr(single, name), rtol=1e-9, atol=1e-9)


def test_power_is_conserved(village: GridModel) -> None:
    p_w = np.full((1, len(village.buses)), 1e5)
    solved = PowerFlow(village).batch(p_w, 0.0 * p_w)
    assert solved.source_p_w[0] == pytest.approx(p_w.sum() + solved.losses_w[0], rel=1e-9)
    assert solved.losses_w[0] > 0


def test_generation_turns_the_flow_round(village: GridModel) -> None:
    p_w = np.zeros(len(village.buses))
    p_w[village.bus_index("harbour/lv")] = -200e3
    solved = PowerFlow(village).solve(p_w, 0.0 * p_w)
    assert solved.p_from_w[village.branch_index("harbour/tr1")] < -190e3
    assert float(solved.source_p_w) < 0


def test_a_dead_part_has_no_voltage_and_no_loading() -> None:
    grid = with_cell("line", "in_service", 4, False)
    solved = PowerFlow(grid).solve(np.full(len(grid.buses), 1e4), np.zeros(len(grid.buses)))
    dead = grid.bus_index("s2")
    assert not solved.energised[dead]
    assert solved.vm_pu[dead] == 0.0
    assert solved.loading_pct[4] == 0.0
    assert solved.energised[grid.bus_index("s1")]


def test_a_bus_out_of_service_draws_nothing() -> None:
    grid = with_cell("bus", "in_service", 6, False)
    p_w = np.zeros(len(grid.buses))
    p_w[6] = 1e6
    solved = PowerFlow(grid).solve(p_w, np.zeros(len(grid.buses)))
    assert float(solved.source_p_w) < 1e4
    assert solved.vm_pu[6] == 0.0


def test_a_collapse_names_its_steps(village: GridModel) -> None:
    p_w = np.zeros((3, len(village.buses)))
    p_w[1, village.bus_index("mill/lv")] = 50e6
    with pytest.raises(PowerFlowDivergedError, match=r"step\(s\) 1") as caught:
        PowerFlow(village).batch(p_w, 0.0 * p_w)
    assert caught.value.steps == (1,)
    with pytest.raises(PowerFlowDivergedError, match="did not converge: "):
        PowerFlow(village).solve(p_w[1], 0.0 * p_w[1])


def test_wrong_shapes_and_numbers_are_refused(village: GridModel) -> None:
    engine = PowerFlow(village)
    fits = np.zeros((2, len(village.buses)))
    with pytest.raises(ValueError, match="shape"):
        engine.batch(np.zeros((2, 3)), np.zeros((2, 3)))
    with pytest.raises(ValueError, match="steps"):
        engine.batch(fits, fits[:1])
    with pytest.raises(ValueError, match="finite"):
        engine.batch(np.full_like(fits, np.nan), fits)


def test_other_engine_errors_are_named_too(village: GridModel, monkeypatch: pytest.MonkeyPatch) -> None:
    from power_grid_model.errors import PowerGridError

    class Broken:
        def calculate_power_flow(self, **_: object) -> None:
            raise PowerGridError("sparse matrix\nsingular")

    engine = PowerFlow(village)
    monkeypatch.setattr(engine, "_model", Broken())
    with pytest.raises(PowerFlowDivergedError, match=r"sparse matrix$"):
        engine.solve(np.zeros(len(village.buses)), np.zeros(len(village.buses)))
