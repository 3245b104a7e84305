"""The experts of a load model. A new one is one file, one row of :data:`TABLE` and one test.

Rows name modules, not functions, so that heavy libraries load only when an expert is fitted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from tieline_cloud.forecasting.graph import FeatureNames, GraphBuilder

Floats32 = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Rows:
    """Feature rows as the feature graph gave them, float32.

    Attributes:
        columns: For trees [n, features].
        design: For linear experts [n, terms].
        deviations: Typical levels and deviations from them, fading with the lead [n, terms].
        lags: Smoothed lags [n, 18].
        lags_raw: Lags [n, 18].
    """

    columns: Floats32
    design: Floats32
    deviations: Floats32
    lags: Floats32
    lags_raw: Floats32


@dataclass(frozen=True, slots=True)
class FitParams:
    """Sizes of the fit.

    Attributes:
        trees: Boosted trees.
        leaves: Leaves a tree.
        learning_rate: Shrinkage of each tree.
        ridge: Penalty a row on standardised terms.
        rows_an_issue: Leads sampled from each training issue.
        issue_stride: Quarter hours between training issues; coprime to 96, so that every time of day is met.
        seed: Of the sampling.
    """

    trees: int = 150
    leaves: int = 16
    learning_rate: float = 0.06
    ridge: float = 1e-3
    rows_an_issue: int = 32
    issue_stride: int = 31
    seed: int = 1


class FittedExpert(Protocol):
    """A fitted expert: predicts natively, and writes itself into a graph."""

    def predict(self, rows: Rows) -> NDArray[np.float64]:
        """Forecast over the level [n] from feature rows."""
        ...

    def emit(self, graph: GraphBuilder, features: FeatureNames) -> str:
        """Add the same as nodes; returns the tensor [192, 1]."""
        ...


class FitExpert(Protocol):
    """Fits an expert; ``earlier`` holds those of the rows above it."""

    def __call__(
        self, rows: Rows, target: NDArray[np.float64], params: FitParams, earlier: Mapping[str, FittedExpert], /
    ) -> FittedExpert:
        """Fit on feature rows and level-normalised targets [n]."""
        ...


#: name -> module with a function ``fit`` of the form :class:`FitExpert`; fitted in this order.
TABLE: Final = MappingProxyType(
    {
        "weekly": "tieline_cloud.forecasting.experts.weekly",
        "alike_days": "tieline_cloud.forecasting.experts.alike_days",
        "ridge": "tieline_cloud.forecasting.experts.ridge",
        "deviation": "tieline_cloud.forecasting.experts.deviation",
        "boosted": "tieline_cloud.forecasting.experts.boosted",
    }
)


def fit_all(rows: Rows, target: NDArray[np.float64], params: FitParams) -> dict[str, FittedExpert]:
    """Fit every expert of the table, in its order."""
    fitted: dict[str, FittedExpert] = {}
    for name, module in TABLE.items():
        fit: FitExpert = import_module(module).fit
        fitted[name] = fit(rows, target, params, fitted)
    return fitted
