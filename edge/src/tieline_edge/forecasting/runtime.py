"""ONNX Runtime on the edge: one thread, no arena, and a check of what comes out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from tieline_core.forecast_inputs import Floats, Floats32, ModelInputs
from tieline_core.model_manifest import ModelManifest
from tieline_edge.forecasting.graph_check import ModelRefusedError

#: A forecast beyond this many times the largest load of the window is taken for a broken model.
_PLAUSIBLE_FACTOR: Final = 10.0
#: A load that varies by less than this share may be forecast as a constant.
_FLAT_SHARE: Final = 0.05


@dataclass(frozen=True, slots=True)
class Outputs:
    """What one run gave.

    Attributes:
        quantiles: Sorted [192, 5], in the point's unit.
        experts: Each expert's forecast over the level [192, experts].
        level: Level at issue, in the point's unit.
    """

    quantiles: Floats
    experts: Floats32
    level: float


class LoadModel:
    """An opened model.

    Args:
        manifest: Its manifest.
        onnx: The file's bytes, already checked against the manifest's hash.

    Raises:
        ModelRefusedError: When ONNX Runtime cannot open it, or its inputs are not those of the manifest.
    """

    def __init__(self, manifest: ModelManifest, onnx: bytes) -> None:
        import onnxruntime

        self.manifest = manifest
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.enable_cpu_mem_arena = False
        options.enable_mem_pattern = False
        options.log_severity_level = 4
        try:
            self._session = onnxruntime.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise ModelRefusedError("graph", f"ONNX Runtime cannot open it: {_first_line(error)}") from error
        self._check_borders()

    def _check_borders(self) -> None:
        kinds = {"float32": "tensor(float)", "int64": "tensor(int64)"}
        for side, specs, found in (
            ("input", self.manifest.inputs, self._session.get_inputs()),
            ("output", self.manifest.outputs, self._session.get_outputs()),
        ):
            declared = {spec.name: (list(spec.shape), kinds[spec.dtype]) for spec in specs}
            actual = {tensor.name: (list(tensor.shape), tensor.type) for tensor in found}
            if declared != actual:
                odd = sorted(set(declared) ^ set(actual)) or [name for name in declared if declared[name] != actual[name]]
                raise ModelRefusedError("inputs", f"{side} {odd[0]!r} of the file is not what the manifest declares")

    def run(self, inputs: ModelInputs) -> Outputs:
        """One forecast.

        Raises:
            ModelRefusedError: When the run fails, or gives anything but finite, ordered, plausible numbers.
        """
        names = [spec.name for spec in self.manifest.outputs]
        try:
            raw: dict[str, NDArray[Any]] = dict(zip(names, self._session.run(names, dict(inputs)), strict=True))
        except Exception as error:
            raise ModelRefusedError("run", f"the run failed: {_first_line(error)}") from error
        for spec in self.manifest.outputs:
            if raw[spec.name].shape != spec.shape:
                raise ModelRefusedError("run", f"{spec.name} has shape {raw[spec.name].shape}, declared {spec.shape}")
            if not np.isfinite(raw[spec.name]).all():
                raise ModelRefusedError("run", f"{spec.name} holds NaN or infinity")
        quantiles = raw["quantiles"].astype(np.float64)
        if (np.diff(quantiles, axis=1) < 0).any():
            raise ModelRefusedError("run", "the quantiles are not in ascending order")
        limit = _PLAUSIBLE_FACTOR * max(float(np.abs(inputs["history"]).max()), 1.0)
        if np.abs(quantiles).max() > limit:
            highest = np.abs(quantiles).max()
            raise ModelRefusedError("run", f"a forecast of {highest:.0f} is beyond {limit:.0f}, ten times the load seen")
        if np.ptp(quantiles[:, 2]) == 0 and np.ptp(inputs["history"]) > _FLAT_SHARE * np.abs(inputs["history"]).max():
            raise ModelRefusedError("run", "the forecast is one constant, while the load was not")
        return Outputs(quantiles, raw["expert_forecasts"].astype(np.float32), float(raw["level"][0]))


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
