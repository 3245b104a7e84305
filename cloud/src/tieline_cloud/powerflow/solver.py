"""The power flow people call: powers per bus in, voltages and loadings per bus and branch out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from power_grid_model import ComponentType, DatasetType, PowerGridModel, initialize_array
from power_grid_model.errors import PowerGridBatchError, PowerGridError

from tieline_cloud.gridmodel.model import BoolArray, FloatArray, GridModel
from tieline_cloud.powerflow import engine_input as mapper
from tieline_cloud.powerflow.errors import PowerFlowDivergedError


@dataclass(frozen=True, slots=True)
class PowerFlowResult:
    """Solved state; arrays are [bus] or [branch], with a leading time axis from :meth:`PowerFlow.batch`.

    Attributes:
        vm_pu: Voltage magnitude of each bus, 0 where it is dead.
        energised: True where the bus is connected to a source.
        loading_pct: Larger of both end currents over its rating, pandapower's definition; 0 for a dead branch.
        p_from_w, p_to_w: Active power into the branch at each end.
        source_p_w, source_q_var: Drawn from upstream, all sources together [scalar or T].
        losses_w: Active losses of all branches [scalar or T].
    """

    vm_pu: FloatArray
    energised: BoolArray
    loading_pct: FloatArray
    p_from_w: FloatArray
    p_to_w: FloatArray
    source_p_w: FloatArray
    source_q_var: FloatArray
    losses_w: FloatArray


class PowerFlow:
    """Newton-Raphson AC power flow over one grid; building it once and solving often is the fast way.

    Args:
        grid: The network. It holds constant-power injections only: PV buses are refused at import.
        tolerance: Largest voltage change of the last iteration [pu].
        max_iterations: More means there is no solution.
    """

    def __init__(self, grid: GridModel, tolerance: float = 1e-9, max_iterations: int = 30) -> None:
        self.grid = grid
        self._tolerance = tolerance
        self._max_iterations = max_iterations
        self._input = mapper.engine_input(grid)
        self._rows = mapper.live_branches(grid)
        self._model = PowerGridModel(self._input)

    def solve(self, p_w: FloatArray, q_var: FloatArray) -> PowerFlowResult:
        """Solve one state.

        Args:
            p_w, q_var: Power drawn at each bus [bus], load convention.

        Raises:
            PowerFlowDivergedError: When there is no solution.
            ValueError: When a shape is wrong or a number is not finite.
        """
        batch = self.batch(np.asarray(p_w)[None, :], np.asarray(q_var)[None, :])
        return PowerFlowResult(*(getattr(batch, name)[0] for name in PowerFlowResult.__slots__))

    def batch(self, p_w: FloatArray, q_var: FloatArray) -> PowerFlowResult:
        """Solve many independent states of the same topology.

        Args:
            p_w, q_var: Power drawn at each bus [T, bus], load convention.

        Raises:
            PowerFlowDivergedError: Naming the steps without a solution.
            ValueError: When a shape is wrong or a number is not finite.
        """
        p_node, q_node = self._to_nodes(p_w), self._to_nodes(q_var)
        if p_node.shape != q_node.shape:
            raise ValueError(f"p_w has {len(p_node)} steps and q_var {len(q_node)}")
        loads = self._input[ComponentType.sym_load]
        update = initialize_array(DatasetType.update, ComponentType.sym_load, p_node.shape)
        update["id"] = loads["id"]
        update["p_specified"], update["q_specified"] = p_node, q_node
        return self._result(self._run({ComponentType.sym_load: update}, len(p_node)))

    def _to_nodes(self, power: FloatArray) -> FloatArray:
        """Sum buses into their nodes; power at a bus out of service is drawn by nobody."""
        values = np.asarray(power, dtype=np.float64)
        node = self.grid.buses.node
        if values.ndim != 2 or values.shape[1] != len(node):
            raise ValueError(f"expected powers of shape [T, {len(node)}], got {values.shape}")
        if not np.isfinite(values).all():
            raise ValueError("a power is not a finite number")
        out = np.zeros((self.grid.n_nodes, len(values)))
        live = node >= 0
        np.add.at(out, node[live], values.T[live])
        return out.T

    def _run(self, update: dict[ComponentType, Any], steps: int) -> Any:
        try:
            return self._model.calculate_power_flow(
                update_data=update,
                symmetric=True,
                error_tolerance=self._tolerance,
                max_iterations=self._max_iterations,
                threading=-1,
                output_component_types=[ComponentType.node, ComponentType.generic_branch, ComponentType.source],
            )
        except PowerGridBatchError as error:
            failed = tuple(int(step) for step in error.failed_scenarios)
            reason = str(error.error_messages[0]).splitlines()[0] if error.error_messages else str(error)
            raise PowerFlowDivergedError(reason, failed if steps > 1 else ()) from error
        except PowerGridError as error:
            raise PowerFlowDivergedError(str(error).splitlines()[0]) from error

    def _result(self, output: Any) -> PowerFlowResult:
        grid, table = self.grid, self.grid.branches
        node_out, branch_out = output[ComponentType.node], output[ComponentType.generic_branch]
        source_out = output[ComponentType.source]
        steps = len(node_out)
        live = grid.buses.node >= 0
        energised = np.zeros((steps, len(grid.buses)), dtype=np.bool_)
        energised[:, live] = node_out["energized"][:, grid.buses.node[live]] == 1
        vm_pu = np.zeros(energised.shape)
        vm_pu[:, live] = node_out["u_pu"][:, grid.buses.node[live]]
        vm_pu = np.where(energised, vm_pu, 0.0)

        def spread(name: str) -> FloatArray:
            out = np.zeros((steps, len(table)))
            out[:, self._rows] = np.nan_to_num(branch_out[name])
            return out

        p_from, p_to = spread("p_from"), spread("p_to")
        loading = 100.0 * np.maximum(spread("i_from") / table.i_max_from_a, spread("i_to") / table.i_max_to_a)
        return PowerFlowResult(
            vm_pu=vm_pu,
            energised=energised,
            loading_pct=loading,
            p_from_w=p_from,
            p_to_w=p_to,
            source_p_w=source_out["p"].sum(axis=1),
            source_q_var=source_out["q"].sum(axis=1),
            losses_w=(p_from + p_to).sum(axis=1),
        )
