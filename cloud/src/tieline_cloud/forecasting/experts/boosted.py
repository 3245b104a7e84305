"""LightGBM on what the ridge leaves over."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tieline_cloud.forecasting.experts import FitParams, FittedExpert, Rows
from tieline_cloud.forecasting.graph import FeatureNames, GraphBuilder
from tieline_cloud.forecasting.trees import tree_attributes


@dataclass(frozen=True, slots=True)
class BoostedRidge:
    """The ridge plus boosted trees on its residual."""

    ridge: FittedExpert
    booster: Any  # lightgbm ships no annotations

    def predict(self, rows: Rows) -> NDArray[np.float64]:
        """Ridge plus trees."""
        residual: NDArray[np.float64] = self.booster.predict(rows.columns, num_threads=1)
        return self.ridge.predict(rows) + residual

    def emit(self, graph: GraphBuilder, features: FeatureNames) -> str:
        """The ridge's nodes and one TreeEnsembleRegressor."""
        trees = graph.op(
            "TreeEnsembleRegressor",
            features.columns,
            domain="ai.onnx.ml",
            n_targets=1,
            aggregate_function="SUM",
            post_transform="NONE",
            **tree_attributes(self.booster.dump_model()),
        )
        return graph.op("Add", self.ridge.emit(graph, features), trees)


def fit(rows: Rows, target: NDArray[np.float64], params: FitParams, earlier: Mapping[str, FittedExpert], /) -> BoostedRidge:
    """Boost on the residual of the ridge, on one thread."""
    import lightgbm

    settings = {
        "objective": "regression",
        "learning_rate": params.learning_rate,
        "num_leaves": params.leaves,
        "min_data_in_leaf": 60,
        "feature_fraction": 0.7,
        "bagging_fraction": 0.7,
        "bagging_freq": 1,
        "lambda_l2": 5.0,
        "num_threads": 1,
        "seed": params.seed,
        "deterministic": True,
        "force_row_wise": True,
        "verbose": -1,
    }
    left = target - earlier["ridge"].predict(rows)
    data = lightgbm.Dataset(rows.columns, left, params={"verbose": -1})
    return BoostedRidge(earlier["ridge"], lightgbm.train(settings, data, params.trees))
