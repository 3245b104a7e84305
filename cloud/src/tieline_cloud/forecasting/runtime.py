"""ONNX Runtime on the hub: one thread, no arena."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Session = Any  # onnxruntime ships no annotations


def session(model: bytes) -> Session:
    """Open a model on one thread; warnings of the runtime are errors of ours, so only errors are logged."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.enable_cpu_mem_arena = False
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def run(opened: Session, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
    """All outputs by name."""
    names = [output.name for output in opened.get_outputs()]
    return dict(zip(names, opened.run(names, dict(inputs)), strict=True))
