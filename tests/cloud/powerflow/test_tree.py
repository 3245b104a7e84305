"""The radial tree."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tieline_cloud.gridmodel import GridModel
from tieline_cloud.powerflow import NotRadialError, radial_tree


def test_parents_come_before_children_and_the_tie_is_no_edge(village: GridModel) -> None:
    tree = radial_tree(village)
    seen = {tree.root}
    for node in tree.order[1:]:
        assert int(tree.parent[node]) in seen
        seen.add(int(node))
    assert len(seen) == village.n_nodes
    assert village.branch_index("tie") not in tree.branch


def test_subtree_sums_and_paths_follow_the_cables(village: GridModel) -> None:
    tree = radial_tree(village)
    node = village.buses.node
    ones = tree.accumulate(np.ones(village.n_nodes))
    assert ones[tree.root] == village.n_nodes
    assert ones[node[village.bus_index("n2")]] == 4  # n2, n3 and both LV busbars
    path = [int(node[village.bus_index(name)]) for name in ("mill/lv", "n3", "n2", "n1")]
    assert tree.path(path[0]) == path


def test_a_closed_tie_is_named_as_the_loop(village: GridModel) -> None:
    tie = village.branch_index("tie")
    closed = village.branches.to_closed.copy()
    closed[tie] = True
    ring = replace(village, branches=replace(village.branches, to_closed=closed))
    with pytest.raises(NotRadialError, match="loop") as caught:
        radial_tree(ring)
    assert caught.value.element in {"tie", "cable-n3", "cable-s2", "cable-n2", "cable-n1", "cable-s1"}


def test_two_feeding_nodes_are_refused(village: GridModel) -> None:
    sources = replace(
        village.sources,
        ids=("a", "b"),
        bus=np.array([0, 5]),
        vm_pu=np.array([1.0, 1.0]),
        angle_rad=np.zeros(2),
    )
    with pytest.raises(NotRadialError, match="found 2"):
        radial_tree(replace(village, sources=sources))


def test_dead_nodes_stand_outside_the_tree(village: GridModel) -> None:
    closed = village.branches.from_closed.copy()
    closed[village.branch_index("harbour/tr1")] = False
    tree = radial_tree(replace(village, branches=replace(village.branches, from_closed=closed)))
    lv = village.buses.node[village.bus_index("harbour/lv")]
    assert lv not in tree.order
    assert tree.path(int(lv)) == []
