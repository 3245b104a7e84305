"""Grid model -> power-grid-model input arrays, one function per component.

Ids are positions: nodes first, then branches, loads, sources. Every branch is a ``generic_branch`` (an exact pi model
with a ratio), so that lines, transformers and one-sided open cables take the same road.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from power_grid_model import ComponentType, DatasetType, LoadGenType, initialize_array

from tieline_cloud.gridmodel.model import GridModel

#: Short-circuit power of the upstream connection [VA]: so stiff that the source bus holds its voltage, as in pandapower.
STIFF_VA = 1e15


def node_kv(grid: GridModel) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Rated voltage of each node [kV]."""
    kv = np.empty(grid.n_nodes)
    live = grid.buses.node >= 0
    kv[grid.buses.node[live]] = grid.buses.kv[live]
    return kv


def nodes(grid: GridModel) -> Any:
    """Component ``node``."""
    out = initialize_array(DatasetType.input, ComponentType.node, grid.n_nodes)
    out["id"] = np.arange(grid.n_nodes)
    out["u_rated"] = node_kv(grid) * 1e3
    return out


def live_branches(grid: GridModel) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Positions of branches with both buses in service; the others do not exist for the engine."""
    node = grid.buses.node
    return np.flatnonzero((node[grid.branches.from_bus] >= 0) & (node[grid.branches.to_bus] >= 0))


def generic_branches(grid: GridModel) -> Any:
    """Component ``generic_branch``, in the order of :func:`live_branches`."""
    rows = live_branches(grid)
    table = grid.branches
    out = initialize_array(DatasetType.input, ComponentType.generic_branch, len(rows))
    out["id"] = grid.n_nodes + rows
    out["from_node"] = grid.buses.node[table.from_bus[rows]]
    out["to_node"] = grid.buses.node[table.to_bus[rows]]
    out["from_status"] = table.from_closed[rows]
    out["to_status"] = table.to_closed[rows]
    out["r1"], out["x1"] = table.r_ohm[rows], table.x_ohm[rows]
    out["g1"], out["b1"] = table.g_s[rows], table.b_s[rows]
    out["k"], out["theta"] = table.ratio[rows], table.shift_rad[rows]
    out["sn"] = table.rating_va[rows]
    return out


def loads(grid: GridModel) -> Any:
    """Component ``sym_load``: one constant-power load a node, zero until updated."""
    out = initialize_array(DatasetType.input, ComponentType.sym_load, grid.n_nodes)
    out["id"] = grid.n_nodes + len(grid.branches) + np.arange(grid.n_nodes)
    out["node"] = np.arange(grid.n_nodes)
    out["status"] = 1
    out["type"] = LoadGenType.const_power
    out["p_specified"] = 0.0
    out["q_specified"] = 0.0
    return out


def sources(grid: GridModel) -> Any:
    """Component ``source``."""
    node = grid.buses.node[grid.sources.bus]
    rows = np.flatnonzero(node >= 0)
    out = initialize_array(DatasetType.input, ComponentType.source, len(rows))
    out["id"] = 2 * grid.n_nodes + len(grid.branches) + rows
    out["node"] = node[rows]
    out["status"] = 1
    out["u_ref"] = grid.sources.vm_pu[rows]
    out["u_ref_angle"] = grid.sources.angle_rad[rows]
    out["sk"] = STIFF_VA
    out["rx_ratio"] = 0.1
    return out


def engine_input(grid: GridModel) -> dict[ComponentType, Any]:
    """The complete input of the engine."""
    return {
        ComponentType.node: nodes(grid),
        ComponentType.generic_branch: generic_branches(grid),
        ComponentType.sym_load: loads(grid),
        ComponentType.source: sources(grid),
    }
