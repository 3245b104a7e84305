"""LightGBM to ONNX: one TreeEnsembleRegressor whose float32 thresholds decide exactly as the float64 ones do."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from tieline_core.errors import PermanentError

_NODE_KEYS: Final = (
    "nodes_treeids",
    "nodes_nodeids",
    "nodes_featureids",
    "nodes_modes",
    "nodes_values",
    "nodes_truenodeids",
    "nodes_falsenodeids",
    "nodes_missing_value_tracks_true",
)
_TARGET_KEYS: Final = ("target_treeids", "target_nodeids", "target_ids", "target_weights")


class ConversionError(PermanentError):
    """A fitted model that cannot be written as ONNX faithfully."""


def floor32(threshold: float) -> float:
    """Largest float32 not above the threshold: for float32 x, ``x <= threshold`` exactly when ``x <= floor32(threshold)``."""
    near = np.float32(threshold)
    return float(np.nextafter(near, np.float32(-np.inf)) if float(near) > threshold else near)


def tree_attributes(dump: dict[str, Any]) -> dict[str, list[Any]]:
    """Attributes of a TreeEnsembleRegressor from ``Booster.dump_model()``.

    Raises:
        ConversionError: On a categorical split, which this emitter does not write.
    """
    rows: dict[str, list[Any]] = {key: [] for key in (*_NODE_KEYS, *_TARGET_KEYS)}
    for tree, info in enumerate(dump["tree_info"]):
        _emit(info["tree_structure"], tree, rows)
    return rows


def _emit(root: dict[str, Any], tree: int, rows: dict[str, list[Any]]) -> None:
    waiting: list[dict[str, Any]] = [root]
    place = 0
    while place < len(waiting):
        node = waiting[place]
        leaf = "split_feature" not in node
        children = (0, 0)
        if leaf:
            values = (0, "LEAF", 0.0, 0)
            rows["target_treeids"].append(tree)
            rows["target_nodeids"].append(place)
            rows["target_ids"].append(0)
            rows["target_weights"].append(float(node["leaf_value"]))
        else:
            if node["decision_type"] != "<=":
                raise ConversionError(f"tree {tree}, node {place}: split {node['decision_type']!r} is not '<='")
            tracks = node["default_left"] if node["missing_type"] == "NaN" else node["threshold"] >= 0.0
            values = (int(node["split_feature"]), "BRANCH_LEQ", floor32(node["threshold"]), int(tracks))
            children = (len(waiting), len(waiting) + 1)
            waiting += [node["left_child"], node["right_child"]]
        feature, mode, threshold, missing = values
        for key, value in zip(_NODE_KEYS, (tree, place, feature, mode, threshold, *children, missing), strict=True):
            rows[key].append(value)
        place += 1
