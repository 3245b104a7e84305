"""F46, F47: a model that hangs, crashes, lies or eats memory does it in a process of its own, or is given up in time."""

from __future__ import annotations

import asyncio
import io
import struct
import sys
import threading
import time
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from tests.edge.forecasting.conftest import Parcel
from tieline_edge.forecasting.forecaster import Forecaster
from tieline_edge.forecasting.graph_check import ModelRefusedError
from tieline_edge.forecasting.history import HistoryStore
from tieline_edge.forecasting.runtime import LoadModel
from tieline_edge.forecasting.store import ModelStore
from tieline_edge.forecasting.trial import judge, try_in_child


def packed(manifest: bytes, onnx: bytes, seed: bytes | None) -> io.BytesIO:
    sizes = struct.pack(">IIi", len(manifest), len(onnx), -1 if seed is None else len(seed))
    return io.BytesIO(sizes + manifest + onnx + (seed or b""))


def test_f47_a_sound_model_passes_in_a_process_of_its_own_and_a_damaged_one_is_refused_there(parcel: Parcel) -> None:
    try_in_child(parcel.manifest, parcel.onnx, parcel.seed)
    flipped = bytearray(parcel.onnx)
    flipped[len(flipped) // 2] ^= 1
    with pytest.raises(ModelRefusedError, match="hash") as caught:
        try_in_child(parcel.manifest, bytes(flipped), parcel.seed)
    assert caught.value.check == "hash"


def test_the_judge_says_what_came_of_it(parcel: Parcel) -> None:
    assert judge(packed(parcel.manifest, parcel.onnx, None))["refused"][0] == "hash"  # its manifest names a seed
    assert judge(packed(parcel.manifest, parcel.onnx, parcel.seed)) == {"refused": None}
    assert judge(io.BytesIO(struct.pack(">IIi", 9, 2**31, 0)))["refused"][0] == "size"


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "ended by signal 11"),
        ("raise SystemExit(3)", "code 3 and no answer"),
        ("print('[]')", "no answer"),
        ("import time; time.sleep(60)", "took longer than 0.5 s"),
    ],
)
def test_f46_a_trial_that_crashes_or_hangs_is_a_refusal(parcel: Parcel, program: str, reason: str) -> None:
    with pytest.raises(ModelRefusedError, match=reason) as caught:
        try_in_child(
            parcel.manifest, parcel.onnx, parcel.seed, 0.5 if "sleep" in program else 60.0, (sys.executable, "-c", program)
        )
    assert caught.value.check == "run"


def test_a_trial_that_cannot_be_started_is_a_refusal(parcel: Parcel) -> None:
    with pytest.raises(ModelRefusedError, match="could be started"):
        try_in_child(parcel.manifest, parcel.onnx, parcel.seed, command=("/nowhere/python",))


def test_a_refused_trial_leaves_the_present_model(tmp_path: Path, parcel: Parcel) -> None:
    def refuse(_manifest: bytes, _onnx: bytes, _seed: bytes | None) -> None:
        raise ModelRefusedError("run", "planted")

    store = ModelStore(tmp_path)
    store.install(parcel.point, parcel.manifest, parcel.onnx, parcel.seed, parcel.envelope)
    with pytest.raises(ModelRefusedError, match="planted"):
        ModelStore(tmp_path, trial=refuse).install(parcel.point, parcel.manifest, parcel.onnx, parcel.seed, "f" * 64)
    held = store.load(parcel.point)
    assert held is not None
    assert held.envelope_sha256 == parcel.envelope


async def test_f46_an_inference_that_does_not_come_back_is_given_up_and_the_loop_goes_on(
    tmp_path: Path, parcel: Parcel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F46 (I7): the baseline speaks in time, the loop was never held up, and the model is not asked a second time."""
    release, asked = threading.Event(), 0

    def hanging(_self: LoadModel, _inputs: object) -> None:
        nonlocal asked
        asked += 1
        release.wait(60)
        raise ModelRefusedError("run", "too late")

    async with HistoryStore(tmp_path / "history.sqlite") as history:
        forecaster = Forecaster(parcel.point, ModelStore(tmp_path / "models"), history, limit_s=0.3)
        await forecaster.install(parcel.manifest, parcel.onnx, parcel.seed, parcel.envelope)
        monkeypatch.setattr(LoadModel, "run", hanging)
        longest, stop = 0.0, asyncio.Event()

        async def heartbeat() -> None:
            nonlocal longest
            while not stop.is_set():
                began = time.monotonic()
                await asyncio.sleep(0.01)
                longest = max(longest, time.monotonic() - began)

        beating = asyncio.create_task(heartbeat())
        for minutes in (0, 15):
            issued = await forecaster.issue(parcel.read.trained_to + timedelta(minutes=minutes))
            assert issued is not None
            assert issued.model_id.startswith("fallback:")
        assert asked == 1
        assert forecaster.fallback_reason == "no model is installed"
        assert forecaster.model_sha256 is None
        stop.set()
        await beating
        release.set()
        assert longest < 5.0


def test_f46_one_constant_for_a_load_that_varies_is_refused(parcel: Parcel) -> None:
    class Constant:
        def run(self, _names: list[str], _inputs: object) -> list[np.ndarray]:
            rows = {"quantiles": np.full((192, 5), 7.0), "expert_forecasts": np.ones((192, 5)), "level": np.ones(1)}
            return [rows[spec.name] for spec in parcel.read.outputs]

    model = LoadModel(parcel.read, parcel.onnx)
    model._session = Constant()
    wave = (100 + 50 * np.sin(np.arange(3456) / 15)).astype(np.float32)
    with pytest.raises(ModelRefusedError, match="one constant"):
        model.run({"history": wave})
    assert model.run({"history": np.full(3456, 7.0, dtype=np.float32)}).quantiles[0, 0] == 7.0
