"""Typical level plus how far the last quarter hour, hours and day stood from it, fading with the lead.

A small linear model: the first hours ahead are ruled by what just deviated, and few terms learn that from little data.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tieline_cloud.forecasting.experts import FitParams, FittedExpert, Rows
from tieline_cloud.forecasting.experts.ridge import solve
from tieline_cloud.forecasting.graph import FeatureNames, GraphBuilder


@dataclass(frozen=True, slots=True)
class Deviation:
    """Coefficients, rounded to float32 as they are shipped."""

    coefficients: NDArray[np.float32]
    intercept: np.float32

    def predict(self, rows: Rows) -> NDArray[np.float64]:
        """Terms times coefficients."""
        total: NDArray[np.float64] = (rows.deviations @ self.coefficients).astype(np.float64) + float(self.intercept)
        return total

    def emit(self, graph: GraphBuilder, features: FeatureNames) -> str:
        """One Gemm."""
        return graph.op("Gemm", features.deviations, graph.const(self.coefficients[:, None]), graph.const([self.intercept]))


def fit(rows: Rows, target: NDArray[np.float64], params: FitParams, _earlier: Mapping[str, FittedExpert], /) -> Deviation:
    """Solve on the deviations."""
    return Deviation(*solve(rows.deviations, target, params.ridge))
