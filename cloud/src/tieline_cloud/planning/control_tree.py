"""The part of the tree a plan can move, and the AC solution it is linearised around.

Only branches between the source and a substation with devices carry different power under a plan; every other node's
voltage moves with the last such node above it. So the linear model is written on these few nodes and stays exact.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tieline_cloud.gridmodel.model import BoolArray, FloatArray, GridModel, IntArray
from tieline_cloud.planning.errors import PlanRefusedError
from tieline_cloud.planning.problem import PlanningProblem
from tieline_cloud.powerflow.solver import PowerFlowResult
from tieline_cloud.powerflow.tree import radial_tree

#: Scenario axis of every AC result here.
P10, P50, P90 = 0, 1, 2


@dataclass(frozen=True, slots=True)
class ControlTree:
    """Movable nodes, parents before children; position n stands for the node and for the branch above it.

    Attributes:
        parent: Position of the parent [n], -1 when it is the source's node.
        branch: Branch above [n].
        downward: True where the branch's *from* end is the upper one [n].
        r_pu_per_mw: Resistance on a base of 1 MVA [n]; the plan moves active power only, so no reactance is needed.
        gain: Squared voltage below over above through the branch's ratio [n].
        site: Position of each site's LV node [site].
        group: Position each bus moves with [bus], -1 when it does not move.
        rating_kva: Rating of the branch [n].
        substation: Position in problem.sites when the branch is a site's transformer, else -1 [n].
    """

    parent: IntArray
    branch: IntArray
    downward: BoolArray
    r_pu_per_mw: FloatArray
    gain: FloatArray
    site: IntArray
    group: IntArray
    rating_kva: FloatArray
    substation: IntArray

    def __len__(self) -> int:
        return len(self.parent)

    def subtree_sum(self, at_nodes: FloatArray) -> FloatArray:
        """Flow through each branch [n, T] from what is drawn at the nodes [n, T]."""
        out = at_nodes.copy()
        for n in range(len(self) - 1, -1, -1):
            if self.parent[n] >= 0:
                out[self.parent[n]] += out[n]
        return out

    def voltage_change(self, flow_kw: FloatArray) -> FloatArray:
        """Change of the squared voltage [1e-3 pu^2] at each node [n, T] from a change of flow [n, T]."""
        out = np.zeros_like(flow_kw)
        for n in range(len(self)):
            above = out[self.parent[n]] if self.parent[n] >= 0 else 0.0
            out[n] = self.gain[n] * above - 2.0 * self.r_pu_per_mw[n] * flow_kw[n]
        return out


def control_tree(grid: GridModel, problem: PlanningProblem) -> ControlTree:
    """Find the movable part.

    Raises:
        NotRadialError: When the energised network is no tree.
        KeyError: When a site's edge has no substation in the network.
        PlanRefusedError: When a site is cut off from the source.
    """
    tree = radial_tree(grid)
    substations = [grid.substation(site.edge_id) for site in problem.sites]
    movable: set[int] = set()
    for substation in substations:
        path = tree.path(int(grid.buses.node[substation.lv_bus]))
        if not path:
            raise PlanRefusedError(f"{substation.transformer} is not connected to the source, there is nothing to plan")
        movable.update(path)
    nodes = [int(node) for node in tree.order if int(node) in movable]
    position = {node: n for n, node in enumerate(nodes)}
    group_of_node = np.full(grid.n_nodes, -1)
    for node in tree.order:
        above = tree.parent[node]
        group_of_node[node] = position.get(int(node), group_of_node[above] if above >= 0 else -1)
    branch, downward = tree.branch[nodes], tree.downward[nodes]
    table = grid.branches
    kv_to = grid.buses.kv[table.to_bus[branch]]
    squared = table.ratio[branch] ** 2
    by_branch = {substation.branch: s for s, substation in enumerate(substations)}
    return ControlTree(
        parent=np.array([position.get(int(tree.parent[node]), -1) for node in nodes], dtype=np.int64),
        branch=branch,
        downward=downward,
        r_pu_per_mw=table.r_ohm[branch] / kv_to**2,
        gain=np.where(downward, 1.0 / squared, squared),
        site=np.array([position[int(grid.buses.node[sub.lv_bus])] for sub in substations], dtype=np.int64),
        group=np.where(grid.buses.node >= 0, group_of_node[grid.buses.node], -1),
        rating_kva=table.rating_va[branch] / 1e3,
        substation=np.array([by_branch.get(int(b), -1) for b in branch], dtype=np.int64),
    )


@dataclass(frozen=True, slots=True)
class Linearisation:
    """The network without the plan, as the linear model sees it: AC solution minus the plan's linear part.

    Scenario axis first (P10, P50, P90).

    Attributes:
        flow_kw: Active power entering each movable branch from above [3, n, T], losses included.
        reactive_kva2: Square of what the loading holds beyond active power [3, n, T].
        low_margin, high_margin: Least distance of any bus of the group to its limits, squared voltage in
            1e-3 pu^2 [n, T]; low at P90, high at P10.
        import_kw: Drawn from upstream at P50 [T].
        loss_factor: Further losses of each further unit drawn at a site, at P50 [site, T].
    """

    flow_kw: FloatArray
    reactive_kva2: FloatArray
    low_margin: FloatArray
    high_margin: FloatArray
    import_kw: FloatArray
    loss_factor: FloatArray

    def limit_kw(self, scenario: int, n: int, rating_kva: float, loading_pct: float) -> FloatArray:
        """Active power [T] at which branch n reaches a loading, reactive power and voltage as they are."""
        squared = (loading_pct / 100.0 * rating_kva) ** 2 - self.reactive_kva2[scenario, n]
        limit: FloatArray = np.sqrt(np.maximum(squared, 0.0))
        return limit


def linearise(
    grid: GridModel, tree: ControlTree, solved: PowerFlowResult, plan_kw: FloatArray, margin_pu: float
) -> Linearisation:
    """Take the plan's linear effect out of an AC solution.

    Args:
        grid: The network.
        tree: Its movable part.
        solved: AC batch, scenario-major: [3 T, ...].
        plan_kw: What the plan drew at each site in each scenario when ``solved`` was made [3, site, T].
        margin_pu: Kept free at both voltage limits.
    """
    steps = plan_kw.shape[2]

    def shaped(values: FloatArray) -> FloatArray:
        return np.moveaxis(values.reshape(3, steps, -1), 1, 2)

    upper = np.where(tree.downward, solved.p_from_w[:, tree.branch], solved.p_to_w[:, tree.branch])
    flow = shaped(upper) / 1e3
    carried = shaped(solved.loading_pct[:, tree.branch]) / 100.0 * tree.rating_kva[:, None]
    change = np.stack([tree.subtree_sum(_at_nodes(tree, plan)) for plan in plan_kw])
    shift = np.stack([tree.voltage_change(part) for part in change])
    squared = shaped(solved.vm_pu) ** 2
    buses, live = grid.buses, shaped(solved.energised.astype(np.float64))[P50] > 0
    low = np.full((len(tree), steps), np.inf)
    high = np.full((len(tree), steps), np.inf)
    for bus in np.flatnonzero((tree.group >= 0) & live.all(axis=1)):
        n = tree.group[bus]
        low[n] = np.minimum(low[n], 1e3 * (squared[P90, bus] - (buses.min_pu[bus] + margin_pu) ** 2))
        high[n] = np.minimum(high[n], 1e3 * ((buses.max_pu[bus] - margin_pu) ** 2 - squared[P10, bus]))
    drawn = solved.source_p_w.reshape(3, steps)[P50] / 1e3
    loss_factor = _loss_factor(tree, flow[P50])
    return Linearisation(
        flow_kw=flow - change,
        reactive_kva2=carried**2 - flow**2,
        low_margin=low - shift[P90],
        high_margin=high + shift[P10],
        import_kw=drawn - ((1.0 + loss_factor) * plan_kw[P50]).sum(axis=0),
        loss_factor=loss_factor,
    )


def _loss_factor(tree: ControlTree, flow_kw: FloatArray) -> FloatArray:
    """Slope of the losses ``r P^2`` along each site's path, at 1 pu [site, T]."""
    slope = 2.0 * tree.r_pu_per_mw[:, None] * flow_kw / 1e3
    for n in range(len(tree)):
        if tree.parent[n] >= 0:
            slope[n] += slope[tree.parent[n]]
    return slope[tree.site]


def _at_nodes(tree: ControlTree, plan_kw: FloatArray) -> FloatArray:
    out = np.zeros((len(tree), plan_kw.shape[1]))
    np.add.at(out, tree.site, plan_kw)
    return out
