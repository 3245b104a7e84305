"""The weekly naive as an expert: the same quarter hour seven days before."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from tieline_cloud.forecasting.experts import FitParams, FittedExpert, Rows
from tieline_cloud.forecasting.graph import FeatureNames, GraphBuilder
from tieline_core.forecast_inputs import LAGS

_PLACE = LAGS.index("w1")


class Weekly:
    """Needs no fit."""

    def predict(self, rows: Rows) -> NDArray[np.float64]:
        """The raw lag."""
        return rows.lags_raw[:, _PLACE].astype(np.float64)

    def emit(self, graph: GraphBuilder, features: FeatureNames) -> str:
        """One slice."""
        return graph.part(features.lags_raw, _PLACE, _PLACE + 1, 1)


def fit(_rows: Rows, _target: NDArray[np.float64], _params: FitParams, _earlier: Mapping[str, FittedExpert], /) -> FittedExpert:
    """Nothing to fit."""
    return Weekly()
