"""The small model of ``data`` (made by tests/cloud/forecasting/make_edge_model.py); nothing here needs a training library."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tieline_core.ids import PointId
from tieline_core.model_manifest import ModelManifest, sha256_hex

DATA = Path(__file__).parent / "data"


@dataclass(frozen=True)
class Parcel:
    """A model as it arrives: manifest bytes, file, seed and the hash of its envelope."""

    manifest: bytes
    onnx: bytes
    seed: bytes
    envelope: str = "e" * 64

    @property
    def read(self) -> ModelManifest:
        """The manifest."""
        return ModelManifest.from_bytes(self.manifest, "test")

    @property
    def point(self) -> PointId:
        """The point it forecasts."""
        return self.read.point

    def changed(self, **keys: Any) -> Parcel:
        """The same with manifest keys replaced."""
        fields = {**json.loads(self.manifest), **keys}
        return Parcel(json.dumps(fields).encode(), self.onnx, self.seed, self.envelope)

    def with_onnx(self, onnx: bytes) -> Parcel:
        """The same with another file, whose hash and size the manifest names."""
        fields = {**json.loads(self.manifest), "onnx_sha256": sha256_hex(onnx), "onnx_bytes": len(onnx)}
        return Parcel(json.dumps(fields).encode(), onnx, self.seed, self.envelope)


@pytest.fixture(scope="session")
def parcel() -> Parcel:
    """The small model."""
    manifest, onnx, seed = ((DATA / name).read_bytes() for name in ("manifest.json", "model.onnx", "seed.f32"))
    return Parcel(manifest, onnx, seed)
