"""The manifest of a load model: what it refuses, and the seed blob."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from tieline_core.errors import BadInputError
from tieline_core.forecast_inputs import FEATURE_VERSION, QUANTILES, LoadHistory
from tieline_core.model_manifest import ModelManifest, input_specs, output_specs, pack_seed, unpack_seed

NOW = datetime(2016, 12, 7, 15, 30, tzinfo=UTC)
HISTORY = LoadHistory(NOW, np.array([1.5, -2.25, 0.0]), np.zeros(3, dtype=bool))


def fields() -> dict[str, Any]:
    """A manifest as JSON."""
    metrics = {
        "scored_horizon_steps": 96, "mape": 5.0, "naive_mape": 9.0,
        "day_ahead_mape": 6.0, "day_ahead_naive_mape": 9.0, "coverage_90": 0.9, "coverage_80": 0.8,
        "evening_mape": None, "evening_naive_mape": None,
        "scored_from": NOW.isoformat(), "scored_to": NOW.isoformat(), "issues": 27, "onnx_parity": 1e-6, "parity_rows": 2304,
    }  # fmt: skip
    return {
        "model_id": "load-1", "point": "harbour/site/load_w", "feature_version": FEATURE_VERSION,
        "inputs": [spec.model_dump(mode="json") for spec in input_specs(2)],
        "outputs": [spec.model_dump(mode="json") for spec in output_specs(2)],
        "quantiles": list(QUANTILES), "experts": ["weekly", "ridge"], "time_zone": "Europe/Berlin",
        "holidays": ["2016-12-25"], "trained_from": NOW.isoformat(), "trained_to": NOW.isoformat(),
        "training_sha256": "0" * 64, "created_at": NOW.isoformat(), "onnx_sha256": "1" * 64, "onnx_bytes": 10,
        "seed": pack_seed(HISTORY)[0].model_dump(mode="json"), "weights": [[[0.5, 0.5]] * 24] * 5,
        "offsets": [[[0.0] * 5] * 24] * 5, "metrics": metrics,
    }  # fmt: skip


def read(**changes: object) -> ModelManifest:
    """Read a manifest with some keys changed."""
    return ModelManifest.from_bytes(json.dumps({**fields(), **changes}).encode(), "test")


def test_a_manifest_comes_back_as_it_was_written() -> None:
    manifest = read()
    assert ModelManifest.from_bytes(manifest.to_bytes(), "again") == manifest
    assert manifest.zone.key == "Europe/Berlin"


@pytest.mark.parametrize(
    ("changes", "key", "reason"),
    [
        ({"time_zone": "Mars/Olympus"}, "time_zone", "no time zone"),
        ({"time_zone": "../etc/passwd"}, "time_zone", "no time zone"),
        ({"inputs": []}, "", "inputs, outputs or quantiles"),
        ({"quantiles": [0.5]}, "", "inputs, outputs or quantiles"),
        ({"weights": [[[0.5, 0.6]] * 24] * 5}, "", "sum to 1"),
        ({"weights": [[[0.5, 0.5]] * 23] * 5}, "", "24 rows"),
        ({"weights": [[[0.5, 0.5]] * 24] * 4}, "", "5 groups of 24 rows"),
        ({"offsets": [[[0.0] * 4] * 24] * 5}, "", "24 rows"),
        ({"offsets": [[[0.0] * 5] * 24] * 3}, "", "24 rows"),
        ({"history_steps": 100}, "history_steps", "3456"),
        ({"unknown": 1}, "unknown", "not permitted"),
        ({"onnx_bytes": 10**9}, "onnx_bytes", "less than or equal"),
        ({"seed": {**pack_seed(HISTORY)[0].model_dump(mode="json"), "steps": 4}}, "seed", "16 bytes, not 12"),
    ],
)
def test_a_wrong_manifest_is_refused_with_key_and_reason(changes: dict[str, object], key: str, reason: str) -> None:
    with pytest.raises(BadInputError, match=reason) as caught:
        read(**changes)
    assert caught.value.key == key


def test_a_manifest_of_another_feature_version_can_be_read_so_that_it_can_be_refused_by_name() -> None:
    assert (
        read(feature_version=FEATURE_VERSION + 1, quantiles=[0.1, 0.2, 0.3, 0.4, 0.5], inputs=[]).feature_version
        == FEATURE_VERSION + 1
    )


def test_a_seed_is_little_endian_float32_and_comes_back() -> None:
    seed, blob = pack_seed(HISTORY)
    assert blob[:4] == b"\x00\x00\xc0\x3f"
    back = unpack_seed(seed, blob)
    assert (back.start, back.values.tolist()) == (NOW, [1.5, -2.25, 0.0])


@pytest.mark.parametrize("change", [lambda blob: blob[:-1], lambda blob: bytes([blob[0] ^ 1]) + blob[1:]])
def test_a_truncated_or_flipped_seed_is_refused(change: Any) -> None:
    seed, blob = pack_seed(HISTORY)
    with pytest.raises(BadInputError, match="the manifest names 12 bytes"):
        unpack_seed(seed, change(blob))
