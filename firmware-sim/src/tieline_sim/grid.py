"""One AC power flow of the whole network (pandapower), and what it says about each substation."""

from __future__ import annotations

import copy
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np

from tieline_sim.errors import PowerFlowError
from tieline_sim.network import LV_KV, Floats, feeder_heads
from tieline_sim.scenario import Scenario


@dataclass(frozen=True, slots=True)
class BusbarState:
    """What stands at a substation's low-voltage busbar; power positive from the transformer to the busbar."""

    vm_pu: float
    p_w: float
    q_var: float
    i_a: float
    loading_pct: float

    @property
    def line_v(self) -> float:
        """Line-to-line voltage."""
        return self.vm_pu * LV_KV * 1e3

    @property
    def phase_v(self) -> float:
        """Phase-to-neutral voltage."""
        return self.line_v / float(np.sqrt(3))


@dataclass(frozen=True, slots=True)
class GridState:
    """Result of one power flow."""

    busbars: dict[str, BusbarState]
    vm_min_pu: float
    vm_max_pu: float
    worst_line_pct: float
    import_w: float


class Grid:
    """A network with its own copy of everything that changes.

    Args:
        net: pandapower net with the substations added; copied.
        scenario: Gives the substations.
        busbars: Bus of each substation.
    """

    def __init__(self, net: Any, scenario: Scenario, busbars: dict[str, int]) -> None:
        import pandapower as pp

        self._net = copy.deepcopy(net)
        self._ids = [spec.id for spec in scenario.substations]
        self._loads = len(self._net.load)
        for name in self._ids:
            pp.create_load(self._net, busbars[name], p_mw=0.0, q_mvar=0.0, name=f"{name}/der")
        self._net.load["scaling"] = 1.0
        self._net.sgen["scaling"] = 1.0
        positions = {name: row for row, name in enumerate(self._net.trafo.name)}
        self._trafos = [positions[f"{name}/tr1"] for name in self._ids]
        self._bus_rows = [int(self._net.bus.index.get_loc(busbars[name])) for name in self._ids]
        self._line_rows = {name: index for index, name in zip(self._net.line.index, self._net.line.name, strict=True)}
        self._out: frozenset[str] = frozenset()
        self._stale = True
        self.heads = feeder_heads(self._net)

    def has_line(self, name: str) -> bool:
        """True when the network has a line of that name."""
        return name in self._line_rows

    def take_out(self, lines: frozenset[str]) -> None:
        """Have exactly these lines out of service."""
        if lines != self._out:
            for name in lines ^ self._out:
                self._net.line.loc[self._line_rows[name], "in_service"] = name not in lines
            self._out, self._stale = lines, True

    def solve(self, load_p_w: Floats, load_q_var: Floats, generators_w: Floats, der_w: Floats, der_var: Floats) -> GridState:
        """Solve with these powers (loads and storage positive from the grid, generators positive into it).

        Args:
            load_p_w: Active power of the network's loads, shape (loads,).
            load_q_var: Reactive power of them.
            generators_w: Power of the network's generators, shape (sgens,).
            der_w: Everything else at each busbar: batteries, PV (negative), back-feed; shape (substations,).
            der_var: Its reactive power.

        Raises:
            PowerFlowError: When it does not converge.
        """
        import pandapower as pp
        from pandapower.powerflow import LoadflowNotConverged

        net = self._net
        net.load["p_mw"] = np.concatenate([load_p_w, der_w]) / 1e6
        net.load["q_mvar"] = np.concatenate([load_q_var, der_var]) / 1e6
        net.sgen["p_mw"] = generators_w / 1e6
        # With an unchanged network only the injections are read again: a third faster.
        recycle = None if self._stale else {"bus_pq": True, "trafo": False, "gen": False}
        start = "auto" if self._stale else "results"
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # numpy and pandas on de-energised buses
                pp.runpp(net, numba=False, lightsim2grid=False, init=start, recycle=recycle, trafo_loading="current")
        except LoadflowNotConverged as error:
            self._stale = True
            raise PowerFlowError("the power flow did not converge; the last solution stays") from error
        self._stale = False
        return self._result()

    def _result(self) -> GridState:
        net = self._net
        columns = {
            name: net.res_trafo[name].to_numpy()[self._trafos]
            for name in ("loading_percent", "p_lv_mw", "q_lv_mvar", "i_lv_ka")
        }
        volts = net.res_bus.vm_pu.to_numpy()
        busbars = {
            name: BusbarState(
                vm_pu=_number(volts[bus]),
                p_w=-_number(columns["p_lv_mw"][row]) * 1e6,
                q_var=-_number(columns["q_lv_mvar"][row]) * 1e6,
                i_a=_number(columns["i_lv_ka"][row]) * 1e3,
                loading_pct=_number(columns["loading_percent"][row]),
            )
            for row, (name, bus) in enumerate(zip(self._ids, self._bus_rows, strict=True))
        }
        return GridState(
            busbars=busbars,
            vm_min_pu=float(np.nanmin(volts)),
            vm_max_pu=float(np.nanmax(volts)),
            worst_line_pct=float(np.nanmax(net.res_line.loading_percent.to_numpy())),
            import_w=float(net.res_ext_grid.p_mw.sum()) * 1e6,
        )

    def feeder_powers(self) -> dict[str, tuple[float, float]]:
        """Active (W) and reactive power (var) into each feeder at the last solution."""
        result = {}
        for feeder, (line, side) in self.heads.items():
            row = self._net.res_line.loc[line]
            result[feeder] = _number(row[f"p_{side}_mw"]) * 1e6, _number(row[f"q_{side}_mvar"]) * 1e6
        return result


def _number(value: float) -> float:
    """A de-energised element has no result: it carries nothing."""
    return 0.0 if np.isnan(value) else float(value)
