"""Issuing on the hub: the same file, inputs, gate and bands as on the edge."""

from __future__ import annotations

from datetime import datetime

import numpy as np

from tieline_cloud.forecasting.runtime import run, session
from tieline_core.errors import BadInputError
from tieline_core.forecast_gate import ScoreBook, band_offsets, gate_weights, spread_inputs, to_issued
from tieline_core.forecast_inputs import LoadHistory, model_inputs
from tieline_core.messages.telemetry import IssuedForecast
from tieline_core.model_manifest import ModelManifest, sha256_hex


def forecast(
    manifest: ModelManifest, onnx: bytes, history: LoadHistory, issue: datetime, state: ScoreBook | None = None
) -> IssuedForecast:
    """Forecast 48 hours from an issue instant on.

    Args:
        manifest: Of the model.
        onnx: The file the manifest names.
        history: Filled history that reaches to the issue.
        issue: On the quarter hour, aware UTC.
        state: Scores of earlier issues, for gate and bands; None takes the manifest's.

    Raises:
        BadInputError: When the file is not the manifest's.
        NotEnoughHistoryError: When the history does not cover the window.
    """
    if sha256_hex(onnx) != manifest.onnx_sha256:
        raise BadInputError("model", "onnx_sha256", sha256_hex(onnx), f"the manifest names {manifest.onnx_sha256}")
    inputs = model_inputs(history, issue, manifest.zone, manifest.holidays)
    own = (None, None) if state is None else (gate_weights(state), band_offsets(state))
    weights = np.array(manifest.weights) if own[0] is None else own[0]
    offsets = np.array(manifest.offsets) if own[1] is None else own[1]
    tables = spread_inputs(weights, offsets, np.asarray(inputs["quarter"], dtype=np.int64))
    quantiles = run(session(onnx), {**inputs, **tables})["quantiles"].astype(np.float64)
    return to_issued(manifest.point, manifest.model_id, issue, quantiles)
