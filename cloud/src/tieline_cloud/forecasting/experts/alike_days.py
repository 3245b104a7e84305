"""Mean of the eight latest known days of the same type, smoothed over 75 minutes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from tieline_cloud.forecasting.experts import FitParams, FittedExpert, Rows
from tieline_cloud.forecasting.graph import FeatureNames, GraphBuilder
from tieline_core.forecast_inputs import LAGS

_FIRST, _LAST = LAGS.index("s1"), LAGS.index("s8") + 1


class AlikeDays:
    """Needs no fit."""

    def predict(self, rows: Rows) -> NDArray[np.float64]:
        """Mean over the lags s1 to s8."""
        mean: NDArray[np.float64] = rows.lags[:, _FIRST:_LAST].astype(np.float64).mean(axis=1)
        return mean

    def emit(self, graph: GraphBuilder, features: FeatureNames) -> str:
        """The same mean."""
        return graph.op("ReduceMean", graph.part(features.lags, _FIRST, _LAST, 1), graph.const([1], np.int64), keepdims=1)


def fit(_rows: Rows, _target: NDArray[np.float64], _params: FitParams, _earlier: Mapping[str, FittedExpert], /) -> FittedExpert:
    """Nothing to fit."""
    return AlikeDays()
