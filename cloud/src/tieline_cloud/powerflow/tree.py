"""The energised network as a tree from its source: what LinDistFlow and load allocation walk on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tieline_cloud.gridmodel.model import BoolArray, FloatArray, GridModel, IntArray
from tieline_cloud.powerflow.errors import NotRadialError


@dataclass(frozen=True, slots=True)
class RadialTree:
    """Nodes and the branches to their parents.

    Attributes:
        root: Node of the source.
        parent: Parent of each node [node], -1 for the root and for dead nodes.
        branch: Branch to the parent [node], -1 likewise.
        downward: True where that branch's *from* end is at the parent [node].
        order: Live nodes, parents before children.
    """

    root: int
    parent: IntArray
    branch: IntArray
    downward: BoolArray
    order: IntArray

    def accumulate(self, values: FloatArray) -> FloatArray:
        """Sum of each node's subtree; values are [node, ...]."""
        out = np.array(values, dtype=np.float64)
        for node in self.order[:0:-1]:
            out[self.parent[node]] += out[node]
        return out

    def path(self, node: int) -> list[int]:
        """Nodes from the given one up to, not including, the root."""
        out = []
        while self.parent[node] >= 0:
            out.append(node)
            node = int(self.parent[node])
        return out


def radial_tree(grid: GridModel) -> RadialTree:
    """Walk the closed branches from the source.

    Raises:
        NotRadialError: When a closed branch makes a loop, or two sources feed different nodes.
    """
    node_of = grid.buses.node
    roots = {int(node_of[bus]) for bus in grid.sources.bus if node_of[bus] >= 0}
    if len(roots) != 1:
        raise NotRadialError(", ".join(grid.sources.ids), f"expected one feeding node in service, found {len(roots)}")
    root = roots.pop()
    neighbours: list[list[tuple[int, int, bool]]] = [[] for _ in range(grid.n_nodes)]
    table = grid.branches
    for branch in np.flatnonzero(table.closed).tolist():
        start, end = int(node_of[table.from_bus[branch]]), int(node_of[table.to_bus[branch]])
        if start >= 0 and end >= 0:
            neighbours[start].append((end, branch, True))
            neighbours[end].append((start, branch, False))
    parent, via = np.full(grid.n_nodes, -1), np.full(grid.n_nodes, -1)
    downward = np.zeros(grid.n_nodes, dtype=np.bool_)
    order = [root]
    reached = {root}
    for node in order:
        for child, branch, down in neighbours[node]:
            if branch == via[node]:
                continue
            if child in reached:
                raise NotRadialError(table.ids[branch], "closes a loop; planning needs an open tie in every ring")
            reached.add(child)
            parent[child], via[child], downward[child] = node, branch, down
            order.append(child)
    return RadialTree(root, parent, via, downward, np.array(order, dtype=np.int64))
