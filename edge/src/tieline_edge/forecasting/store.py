"""Models on disk: stage, verify, activate atomically, keep the previous one, survive power loss.

Layout below the root: ``<point with . for />/<manifest hash>/{manifest.json,model.onnx,seed.f32}`` and ``active.json`` with
the hashes of the present and the previous model. A model counts once ``active.json`` names it; a folder nobody names is
the rest of an interrupted installation and is removed.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, timedelta
from pathlib import Path
from typing import Final

import numpy as np

from tieline_core.errors import BadInputError
from tieline_core.forecast_gate import spread_inputs
from tieline_core.forecast_inputs import FEATURE_VERSION, HISTORY_STEPS, STEP, LoadHistory, model_inputs
from tieline_core.ids import PointId
from tieline_core.model_manifest import MAX_ONNX_BYTES, ModelManifest, sha256_hex, unpack_seed
from tieline_core.timegrid import floor_to
from tieline_edge.forecasting.graph_check import ModelRefusedError, check_graph
from tieline_edge.forecasting.runtime import LoadModel

_MAX_MANIFEST_BYTES: Final = 512 * 1024
_MANIFEST, _ONNX, _SEED, _ACTIVE = "manifest.json", "model.onnx", "seed.f32", "active.json"

Opener = Callable[[ModelManifest, bytes], LoadModel]
#: Tries manifest, file and seed somewhere safe; raises ModelRefusedError.
Trial = Callable[[bytes, bytes, bytes | None], None]


@dataclass(frozen=True, slots=True)
class StoredModel:
    """A verified model.

    Attributes:
        manifest: Its manifest.
        onnx: The file.
        seed: Recent history that came with it, if any.
        envelope_sha256: Hash of the signed envelope it came in; what is reported to the hub.
    """

    manifest: ModelManifest
    onnx: bytes
    seed: LoadHistory | None
    envelope_sha256: str


def verify(
    manifest_bytes: bytes, onnx: bytes, seed: bytes | None, envelope_sha256: str, opener: Opener = LoadModel
) -> StoredModel:
    """Check everything a model claims, at last by a trial run.

    Args:
        manifest_bytes: Payload of the signed envelope, already opened.
        onnx: The file pulled by hash.
        seed: The history blob pulled by hash; None when the manifest names none.
        envelope_sha256: Hash of the envelope.
        opener: Opens a model.

    Raises:
        ModelRefusedError: With the check that failed and why.
    """
    try:
        manifest = ModelManifest.from_bytes(manifest_bytes, "model manifest", _MAX_MANIFEST_BYTES)
    except BadInputError as error:
        raise ModelRefusedError("manifest", str(error)) from error
    if manifest.feature_version != FEATURE_VERSION:
        raise ModelRefusedError(
            "manifest", f"made for inputs of version {manifest.feature_version}, this software makes version {FEATURE_VERSION}"
        )
    if len(onnx) > MAX_ONNX_BYTES or len(onnx) != manifest.onnx_bytes:
        raise ModelRefusedError("size", f"the file has {len(onnx)} bytes, the manifest says {manifest.onnx_bytes}")
    if (found := sha256_hex(onnx)) != manifest.onnx_sha256:
        raise ModelRefusedError("hash", f"the file's hash is {found[:16]}…, the manifest says {manifest.onnx_sha256[:16]}…")
    history = _seed_history(manifest, seed)
    check_graph(onnx)
    _trial(opener(manifest, onnx), history)
    return StoredModel(manifest, onnx, history, envelope_sha256)


def _seed_history(manifest: ModelManifest, seed: bytes | None) -> LoadHistory | None:
    if manifest.seed is None:
        return None
    if seed is None:
        raise ModelRefusedError("hash", "the manifest names a seed, but none was handed in")
    try:
        return unpack_seed(manifest.seed, seed)
    except BadInputError as error:
        raise ModelRefusedError("hash", str(error)) from error


def _trial(model: LoadModel, seed: LoadHistory | None) -> None:
    """One run on the seed (else on a made-up day) must give finite, ordered, plausible numbers."""
    manifest = model.manifest
    if seed is not None and len(seed.values) >= HISTORY_STEPS:
        history = seed
    else:
        wave = 1e5 * (2 + np.sin(np.arange(HISTORY_STEPS) * 2 * np.pi / 96))
        start = floor_to(manifest.trained_to.astimezone(UTC), timedelta(days=1)) - STEP * HISTORY_STEPS
        history = LoadHistory(start, wave, np.zeros(HISTORY_STEPS, dtype=bool))
    inputs = model_inputs(history, history.end, manifest.zone, manifest.holidays)
    weights, offsets = np.array(manifest.weights), np.array(manifest.offsets)
    model.run({**inputs, **spread_inputs(weights, offsets, np.asarray(inputs["quarter"], dtype=np.int64))})


class ModelStore:
    """The models of one edge.

    Args:
        root: Folder of its own; made when missing.
        opener: Opens a model.
        trial: Tries a new model before it is opened here, see :mod:`tieline_edge.forecasting.trial`; None = at once here.
    """

    def __init__(self, root: Path, opener: Opener = LoadModel, trial: Trial | None = None) -> None:
        self._root = root
        self._opener = opener
        self._trial = trial
        #: Why stored models were passed over, newest last; for the event log.
        self.complaints: list[str] = []

    def install(
        self, point: PointId, manifest_bytes: bytes, onnx: bytes, seed: bytes | None, envelope_sha256: str
    ) -> StoredModel:
        """Verify, store and activate a model for a point; on any error the present one stays.

        Raises:
            ModelRefusedError: With the check that failed and why.
        """
        if self._trial is not None:
            self._trial(manifest_bytes, onnx, seed)
        model = verify(manifest_bytes, onnx, seed, envelope_sha256, self._opener)
        if model.manifest.point != point:
            raise ModelRefusedError("manifest", f"it forecasts {model.manifest.point}, not {point}")
        folder = self._folder(point)
        name = sha256_hex(manifest_bytes)
        staging = folder / f"staging-{name}"
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir(parents=True)
        _write(staging / _MANIFEST, manifest_bytes)
        _write(staging / _ONNX, onnx)
        if seed is not None:
            _write(staging / _SEED, seed)
        _sync_folder(staging)
        if (folder / name).exists():
            shutil.rmtree(folder / name)
        staging.rename(folder / name)
        _sync_folder(folder)
        rows = [{"name": name, "envelope": envelope_sha256}, *(row for row in self._rows(folder) if row["name"] != name)]
        self._point_to(folder, rows[:2])
        return model

    def load(self, point: PointId) -> StoredModel | None:
        """The present model, verified anew; the previous one when the present is damaged; None when neither is whole."""
        folder = self._folder(point)
        for row in self._rows(folder):
            place = folder / row["name"]
            try:
                seed = (place / _SEED).read_bytes() if (place / _SEED).exists() else None
                manifest, onnx = (place / _MANIFEST).read_bytes(), (place / _ONNX).read_bytes()
                return verify(manifest, onnx, seed, row["envelope"], self._opener)
            except (ModelRefusedError, OSError) as error:
                self.complaints.append(f"{point}: stored model {row['name'][:16]} is not used: {error}")
        return None

    def revert(self, point: PointId) -> StoredModel | None:
        """Go back to the previous model; None when there is none."""
        folder = self._folder(point)
        rows = self._rows(folder)
        if len(rows) < 2:
            return None
        self._point_to(folder, rows[1:])
        return self.load(point)

    def _folder(self, point: PointId) -> Path:
        return self._root / point.replace("/", ".")

    def _rows(self, folder: Path) -> list[dict[str, str]]:
        try:
            rows = json.loads((folder / _ACTIVE).read_text(encoding="utf-8"))["models"]
            return [{"name": str(row["name"]), "envelope": str(row["envelope"])} for row in rows if _is_hash(str(row["name"]))]
        except FileNotFoundError:
            return []
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            self.complaints.append(f"{folder / _ACTIVE}: unreadable, no stored model is used: {error!r}")
            return []

    def _point_to(self, folder: Path, rows: list[dict[str, str]]) -> None:
        """Name the present and the previous model in one rename, then remove what nobody names."""
        fresh = folder / (_ACTIVE + ".new")
        _write(fresh, json.dumps({"models": rows}).encode())
        fresh.replace(folder / _ACTIVE)
        _sync_folder(folder)
        kept = {row["name"] for row in rows}
        for place in folder.iterdir():
            if place.is_dir() and place.name not in kept:
                shutil.rmtree(place)


def _is_hash(name: str) -> bool:
    return len(name) == 64 and all(letter in "0123456789abcdef" for letter in name)


def _write(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
