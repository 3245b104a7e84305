"""Makes the small model that the edge's tests run without any training library; run it after a change of the inputs.

.venv/bin/python -m tests.cloud.forecasting.make_edge_model
"""

from __future__ import annotations

from pathlib import Path

from tests.cloud.forecasting.synthetic import small_request
from tieline_cloud.forecasting.train import fit

FOLDER = Path(__file__).parents[2] / "edge" / "forecasting" / "data"


def main() -> None:
    """Write manifest.json, model.onnx and seed.f32."""
    model = fit(small_request())
    (FOLDER / "manifest.json").write_bytes(model.manifest.to_bytes())
    (FOLDER / "model.onnx").write_bytes(model.onnx)
    (FOLDER / "seed.f32").write_bytes(model.seed)


if __name__ == "__main__":
    main()
