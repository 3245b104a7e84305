"""Ridge regression on the calendar and lag design with time-of-day interactions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tieline_cloud.forecasting.experts import FitParams, FittedExpert, Rows
from tieline_cloud.forecasting.graph import FeatureNames, GraphBuilder


@dataclass(frozen=True, slots=True)
class Ridge:
    """Coefficients on the plain design, rounded to float32 as they are shipped."""

    coefficients: NDArray[np.float32]
    intercept: np.float32

    def predict(self, rows: Rows) -> NDArray[np.float64]:
        """Design times coefficients."""
        total: NDArray[np.float64] = (rows.design @ self.coefficients).astype(np.float64) + float(self.intercept)
        return total

    def emit(self, graph: GraphBuilder, features: FeatureNames) -> str:
        """One Gemm."""
        column = graph.const(self.coefficients[:, None])
        return graph.op("Gemm", features.design, column, graph.const([self.intercept]))


def fit(rows: Rows, target: NDArray[np.float64], params: FitParams, _earlier: Mapping[str, FittedExpert], /) -> Ridge:
    """Solve on the design."""
    return Ridge(*solve(rows.design, target, params.ridge))


def solve(design: NDArray[np.float32], target: NDArray[np.float64], penalty: float) -> tuple[NDArray[np.float32], np.float32]:
    """Coefficients and intercept: the normal equations of the standardised design; constant terms get zero."""
    mean = design.mean(axis=0, dtype=np.float64)
    # float32 is enough: the spread only scales the penalty.
    spread = design.std(axis=0).astype(np.float64)
    live = spread > 1e-7
    scaled = (design[:, live] - mean[live].astype(np.float32)) / spread[live].astype(np.float32)
    gram = (scaled.T @ scaled).astype(np.float64)
    gram[np.diag_indices_from(gram)] += penalty * len(target)
    centre = float(target.mean())
    moment = scaled.T.astype(np.float64) @ (target - centre)
    coefficients = np.zeros(len(mean))
    coefficients[live] = np.linalg.solve(gram, moment) / spread[live]
    return coefficients.astype(np.float32), np.float32(centre - coefficients @ mean)
