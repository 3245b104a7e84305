"""From fitted experts to one ONNX file, and the gate no conversion passes unproven."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tieline_cloud.forecasting.dataset import Problem
from tieline_cloud.forecasting.experts import FittedExpert, Rows
from tieline_cloud.forecasting.graph import GraphBuilder, add_blend, add_features, finish_model
from tieline_cloud.forecasting.runtime import Session, run, session
from tieline_cloud.forecasting.training import Parity
from tieline_core.errors import PermanentError
from tieline_core.forecast_gate import LEAD_GROUPS, spread_inputs
from tieline_core.forecast_inputs import FEATURE_VERSION, HORIZON_STEPS, QUANTILES, Floats, ModelInputs

#: Largest relative difference between ONNX and native experts that passes.
PARITY_LIMIT: Final = 1e-4
PARITY_MIN_ROWS: Final = 1000


class ParityError(PermanentError):
    """The ONNX graph does not compute what was fitted.

    Attributes:
        difference: Largest relative difference found.
    """

    def __init__(self, difference: float, reason: str) -> None:
        self.difference = difference
        super().__init__(f"parity gate: {reason}")


def to_onnx(fitted: Mapping[str, FittedExpert], point: str) -> bytes:
    """One ONNX file: features, experts, gate and bands."""
    graph = GraphBuilder()
    features = add_features(graph)
    columns = [expert.emit(graph, features) for expert in fitted.values()]
    add_blend(graph, features, columns)
    return finish_model(graph, len(columns), {"point": point, "feature_version": str(FEATURE_VERSION)})


def check_parity(onnx: bytes, problem: Problem, fitted: Mapping[str, FittedExpert], issues: Sequence[int]) -> Parity:
    """Run the file end to end and compare every expert, the blend and the order of the bands with the native experts.

    Beside the given issues, the first one is tried with edge values: its smallest and largest load alternating, and a
    dead (zero) load.

    Args:
        onnx: The file.
        problem: Where the inputs come from.
        fitted: What was fitted.
        issues: Positions of issues to compare on, at least 1000 rows (192 an issue).

    Raises:
        ParityError: When fewer rows are given, or any relative difference reaches 1e-4 (of the value, at least of a tenth of
            the level).
    """
    if len(issues) * HORIZON_STEPS < PARITY_MIN_ROWS:
        raise ParityError(float("nan"), f"{len(issues) * HORIZON_STEPS} rows, at least {PARITY_MIN_ROWS} are needed")
    opened = session(onnx)
    trials = [problem.inputs(at) for at in issues]
    window = trials[0]["history"]
    extremes = np.where(np.arange(len(window)) % 2 == 0, window.min(), window.max()).astype(np.float32)
    trials += [{**trials[0], "history": history} for history in (extremes, np.zeros_like(extremes))]
    worst = max(_difference(opened, problem, fitted, inputs) for inputs in trials)
    if not worst < PARITY_LIMIT:
        raise ParityError(worst, f"relative difference {worst:.2e} between ONNX and native, allowed is {PARITY_LIMIT:.0e}")
    return Parity(worst, len(trials) * HORIZON_STEPS)


def _difference(opened: Session, problem: Problem, fitted: Mapping[str, FittedExpert], inputs: ModelInputs) -> float:
    count = len(fitted)
    flat = np.zeros((len(LEAD_GROUPS), 24, len(QUANTILES)))
    tables = spread_inputs(np.full((len(LEAD_GROUPS), 24, count), 1.0 / count), flat, inputs["quarter"].astype(np.int64))
    shipped = run(opened, {**inputs, **tables})
    features = run(problem.features, inputs)
    rows = Rows(features["columns"], features["design"], features["deviations"], features["lags"], features["lags_raw"])
    native = np.stack([expert.predict(rows) for expert in fitted.values()], 1)
    worst = _relative(shipped["expert_forecasts"], native)
    for column in shipped["quantiles"].T:
        worst = max(worst, _relative(column / float(shipped["level"][0]), native.mean(axis=1)))
    return worst


def _relative(shipped: NDArray[np.float32], native: Floats) -> float:
    return float((np.abs(shipped - native) / np.maximum(np.abs(native), 0.1)).max())
