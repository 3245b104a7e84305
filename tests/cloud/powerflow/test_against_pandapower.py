"""pandapower is the truth: same network file, same voltages, loadings, losses and exchange."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandapower as pp
import pandapower.networks as pn
import pytest

from tieline_cloud.gridmodel import GridModel, load_network
from tieline_cloud.powerflow import PowerFlow

VILLAGE = Path(__file__).parents[1] / "gridmodel" / "village.json"


def nominal(grid: GridModel) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    table = grid.injections
    return (
        np.bincount(table.bus, table.p_nom_w, len(grid.buses)),
        np.bincount(table.bus, table.q_nom_var, len(grid.buses)),
    )


def simbench_urban() -> Any:
    import simbench

    net = simbench.get_simbench_net("1-MV-urban--0-sw")
    net.profiles = {}
    return net


def village_with_taps() -> Any:
    net = pp.from_json(str(VILLAGE))
    net.trafo["tap_changer_type"] = ["Ratio", "Ratio"]
    net.trafo["tap_side"] = ["hv", "lv"]
    for column, values in (("tap_pos", [2.0, -1.0]), ("tap_neutral", [0.0, 0.0]), ("tap_step_percent", [2.5, 1.5])):
        net.trafo[column] = values
    net.trafo["tap_step_degree"] = 0.0
    net.trafo["parallel"] = [1, 2]
    net.line["parallel"] = [1, 2, 1, 1, 1, 1]
    net.line["df"] = 0.9
    return net


NETWORKS: dict[str, Callable[[], Any]] = {
    "village": lambda: pp.from_json(str(VILLAGE)),
    "village with taps": village_with_taps,
    "case33bw": pn.case33bw,
    "CIGRE MV with PV and wind": lambda: pn.create_cigre_network_mv(with_der="pv_wind"),
    "oberrhein, two sources": pn.mv_oberrhein,
    "SimBench 1-MV-urban": simbench_urban,
}


@pytest.mark.parametrize("name", NETWORKS)
def test_voltages_loadings_and_losses_agree(name: str) -> None:
    with warnings.catch_warnings():
        # pandas and numpy deprecations inside pandapower and simbench say nothing about our side.
        warnings.simplefilter("ignore")
        net = NETWORKS[name]()
        pp.runpp(net, lightsim2grid=False, numba=False, tolerance_mva=1e-10)
        grid = load_network(pp.to_json(net).encode())
    solved = PowerFlow(grid).solve(*nominal(grid))
    loading = np.concatenate([net.res_line.loading_percent.fillna(0.0), net.res_trafo.loading_percent.fillna(0.0)])
    np.testing.assert_allclose(solved.vm_pu, net.res_bus.vm_pu.fillna(0.0), atol=1e-6)
    np.testing.assert_allclose(solved.loading_pct, loading, atol=1e-4)
    losses_mw = net.res_line.pl_mw.sum() + net.res_trafo.pl_mw.sum()
    assert float(solved.losses_w) == pytest.approx(losses_mw * 1e6, abs=2.0)
    assert float(solved.source_p_w) == pytest.approx(net.res_ext_grid.p_mw.sum() * 1e6, abs=2.0)
    assert float(solved.source_q_var) == pytest.approx(net.res_ext_grid.q_mvar.sum() * 1e6, abs=20.0)


def test_case33bw_has_its_published_minimum_voltage() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as above
        grid = load_network(pp.to_json(pn.case33bw()).encode())
    solved = PowerFlow(grid).solve(*nominal(grid))
    assert float(solved.vm_pu.min()) == pytest.approx(0.91309048, abs=1e-6)
    assert int(solved.vm_pu.argmin()) == 17
    assert float(solved.losses_w) == pytest.approx(202677.13, abs=1.0)
