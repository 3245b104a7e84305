"""What the edge's model store takes, refuses, keeps and survives."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.edge.forecasting.conftest import Parcel
from tieline_core.forecast_inputs import FEATURE_VERSION
from tieline_core.ids import PointId
from tieline_core.model_manifest import ModelManifest
from tieline_edge.forecasting import runtime
from tieline_edge.forecasting.graph_check import ModelRefusedError, check_graph
from tieline_edge.forecasting.runtime import LoadModel
from tieline_edge.forecasting.store import ModelStore, verify


def _install(store: ModelStore, parcel: Parcel) -> None:
    store.install(parcel.point, parcel.manifest, parcel.onnx, parcel.seed, parcel.envelope)


def _refused(parcel: Parcel, seed: bytes | None = b"") -> ModelRefusedError:
    with pytest.raises(ModelRefusedError) as caught:
        verify(parcel.manifest, parcel.onnx, parcel.seed if seed == b"" else seed, parcel.envelope)
    return caught.value


def test_an_installed_model_survives_a_restart(tmp_path: Path, parcel: Parcel) -> None:
    _install(ModelStore(tmp_path), parcel)
    again = ModelStore(tmp_path).load(parcel.point)
    assert again is not None
    assert (again.manifest, again.onnx, again.envelope_sha256) == (parcel.read, parcel.onnx, parcel.envelope)
    assert again.seed is not None
    assert again.seed.end == parcel.read.trained_to
    assert ModelStore(tmp_path / "empty").load(parcel.point) is None


@pytest.mark.parametrize("cut", [1, 100, 30_000])
def test_a_truncated_file_is_refused_by_size(parcel: Parcel, cut: int) -> None:
    error = _refused(Parcel(parcel.manifest, parcel.onnx[:-cut], parcel.seed))
    assert error.check == "size"
    assert "the manifest says" in str(error)


@pytest.mark.parametrize("place", [0, 5000, -1])
def test_a_flipped_bit_is_refused_by_hash(parcel: Parcel, place: int) -> None:
    tampered = bytearray(parcel.onnx)
    tampered[place] ^= 1
    assert _refused(Parcel(parcel.manifest, bytes(tampered), parcel.seed)).check == "hash"


@pytest.mark.parametrize("cut", [1, 2, 77, 20_000])
def test_a_file_cut_before_its_manifest_was_signed_is_refused_by_its_graph(parcel: Parcel, cut: int) -> None:
    error = _refused(parcel.with_onnx(parcel.onnx[:-cut]))
    assert error.check == "graph"
    assert "cut off" in str(error) or "complete" in str(error)


@pytest.mark.parametrize("junk", [b"\x00", b"hello, I am no model", b"\x0f\x0f", b"\xff" * 40, b"\x3a\x00"])
def test_garbage_is_refused_by_its_graph(parcel: Parcel, junk: bytes) -> None:
    assert _refused(parcel.with_onnx(junk)).check == "graph"


def test_a_manifest_that_is_none_or_of_other_inputs_is_refused(parcel: Parcel) -> None:
    assert _refused(Parcel(b"{}", parcel.onnx, parcel.seed)).check == "manifest"
    newer = _refused(parcel.changed(feature_version=FEATURE_VERSION + 1))
    assert f"version {FEATURE_VERSION + 1}" in str(newer)
    assert _refused(parcel.changed(experts=["one"], inputs=[], outputs=[])).check == "manifest"


def test_a_seed_that_is_missing_or_altered_is_refused(parcel: Parcel) -> None:
    assert "names a seed" in str(_refused(parcel, None))
    assert _refused(parcel, parcel.seed[:-4]).check == "hash"


def test_a_model_without_a_seed_is_tried_on_a_made_up_day(parcel: Parcel) -> None:
    bare = parcel.changed(seed=None)
    assert verify(bare.manifest, bare.onnx, None, bare.envelope).seed is None


def test_a_model_of_another_point_is_not_installed(tmp_path: Path, parcel: Parcel) -> None:
    with pytest.raises(ModelRefusedError, match="not mill/site/load_w"):
        ModelStore(tmp_path).install(PointId("mill/site/load_w"), parcel.manifest, parcel.onnx, parcel.seed, parcel.envelope)


def _field(number: int, body: bytes) -> bytes:
    """A length-delimited protobuf field."""
    length, out = len(body), b""
    while length > 0x7F:
        out, length = out + bytes([length & 0x7F | 0x80]), length >> 7
    key = number << 3 | 2
    head = bytes([key]) if key < 128 else bytes([key & 0x7F | 0x80, key >> 7])
    return head + out + bytes([length]) + body


def _node(operator: bytes, domain: bytes = b"", attribute: bytes = b"") -> bytes:
    return _field(1, _field(4, operator) + _field(7, domain) + (_field(5, attribute) if attribute else b""))


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (_field(7, _node(b"Loop")), "'Loop'"),
        (_field(7, _node(b"Evil", b"com.example")), "com.example:Evil"),
        (_field(7, _node(b"Add", attribute=_field(6, b""))), "a graph of its own"),
        (_field(7, _node(b"Add", attribute=_field(5, b"\x70\x01"))), "outside the file"),
        (_field(7, _node(b"Add") + _field(5, _field(13, b"x"))), "outside the file"),
        (_field(7, _node(b"Add") + _field(15, b"")), "sparse"),
        (_field(7, b""), "0 nodes"),
        (_field(7, _node(b"Add")) + _field(25, b""), "functions"),
        (_field(7, _node(b"Add")) + _field(8, _field(1, b"com.example")), "operator set 'com.example'"),
        (_field(7, _node(b"Add")) + _field(7, _node(b"Add")), "2 graphs"),
        (_field(7, _node(b"Add") + b"\x0b"), "wire type 3"),
    ],
)
def test_more_than_arithmetic_is_refused(model: bytes, reason: str) -> None:
    with pytest.raises(ModelRefusedError, match=reason):
        check_graph(model)


def test_plain_arithmetic_with_fixed_width_fields_passes() -> None:
    check_graph(_field(7, _node(b"Add", b"ai.onnx", b"\x15\x00\x00\x80\x3f") + b"\x11" + b"\x00" * 8) + b"\x08\x09")


def test_a_file_the_runtime_cannot_open_is_refused(parcel: Parcel) -> None:
    error = _refused(parcel.with_onnx(_field(7, _node(b"Add"))))
    assert error.check == "graph"
    assert "ONNX Runtime" in str(error)


def test_a_file_whose_inputs_are_not_the_manifests_is_refused(parcel: Parcel) -> None:
    fewer = parcel.read.model_copy(update={"inputs": parcel.read.inputs[1:]})
    with pytest.raises(ModelRefusedError, match="input 'history'"):
        LoadModel(fewer, parcel.onnx)
    other = parcel.read.outputs[0].model_copy(update={"shape": (7,)})
    with pytest.raises(ModelRefusedError, match="output 'quantiles'"):
        LoadModel(parcel.read.model_copy(update={"outputs": (other, *parcel.read.outputs[1:])}), parcel.onnx)


class _Faulty:
    """A planted runtime fault: a session whose outputs are altered."""

    def __init__(self, outputs: dict[str, np.ndarray]) -> None:
        self._outputs = outputs

    def run(self, names: list[str], _inputs: object) -> list[np.ndarray]:
        return [self._outputs[name] for name in names]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"quantiles": np.full((192, 5), np.nan)}, "NaN"),
        ({"quantiles": np.zeros((10, 5))}, "shape"),
        ({"quantiles": np.tile([5.0, 4, 3, 2, 1], (192, 1))}, "ascending"),
        ({"quantiles": np.full((192, 5), 1e9)}, "ten times"),
    ],
)
def test_implausible_outputs_are_refused(parcel: Parcel, change: dict[str, np.ndarray], reason: str) -> None:
    model = LoadModel(parcel.read, parcel.onnx)
    good = {"quantiles": np.ones((192, 5)), "expert_forecasts": np.ones((192, 5)), "level": np.ones(1)}
    model._session = _Faulty({**good, **change})
    with pytest.raises(ModelRefusedError, match=reason) as caught:
        model.run({"history": np.ones(3456, dtype=np.float32)})
    assert caught.value.check == "run"


def test_a_failing_run_is_refused_with_the_runtimes_words(parcel: Parcel) -> None:
    model = LoadModel(parcel.read, parcel.onnx)
    with pytest.raises(ModelRefusedError, match="the run failed"):
        model.run({"history": np.ones(3, dtype=np.float32)})
    assert runtime._first_line(ValueError("")) == "ValueError"


def _second(parcel: Parcel) -> Parcel:
    changed = parcel.changed(model_id="load-second")
    return Parcel(changed.manifest, changed.onnx, changed.seed, "f" * 64)


def test_the_previous_model_is_kept_and_can_be_gone_back_to(tmp_path: Path, parcel: Parcel) -> None:
    store = ModelStore(tmp_path)
    assert store.revert(parcel.point) is None
    _install(store, parcel)
    assert store.revert(parcel.point) is None
    _install(store, _second(parcel))
    _install(store, _second(parcel))
    loaded = store.load(parcel.point)
    assert loaded is not None
    assert loaded.manifest.model_id == "load-second"
    reverted = store.revert(parcel.point)
    assert reverted is not None
    assert reverted.manifest == parcel.read
    assert len([place for place in (tmp_path / "harbour.site.load_w").iterdir() if place.is_dir()]) == 1


def test_a_model_damaged_on_disk_gives_way_to_the_previous_one_and_says_so(tmp_path: Path, parcel: Parcel) -> None:
    store = ModelStore(tmp_path)
    _install(store, parcel)
    first = {place.name for place in (tmp_path / "harbour.site.load_w").iterdir()}
    _install(store, _second(parcel))
    (new,) = [place for place in (tmp_path / "harbour.site.load_w").iterdir() if place.name not in first]
    (new / "model.onnx").write_bytes(parcel.onnx[:-10])
    fresh = ModelStore(tmp_path)
    loaded = fresh.load(parcel.point)
    assert loaded is not None
    assert loaded.manifest == parcel.read
    assert "is not used" in fresh.complaints[0]


def test_an_interrupted_installation_leaves_the_present_model_and_no_rest(tmp_path: Path, parcel: Parcel) -> None:
    store = ModelStore(tmp_path)
    _install(store, parcel)
    folder = tmp_path / "harbour.site.load_w"
    (folder / "staging-x").mkdir()
    (folder / "staging-x" / "model.onnx").write_bytes(b"half")
    assert ModelStore(tmp_path).load(parcel.point) is not None
    _install(store, _second(parcel))
    assert not (folder / "staging-x").exists()


@pytest.mark.parametrize("text", ["not json", "{}", '{"models": [{"name": "../../etc", "envelope": "x"}]}'])
def test_an_unreadable_or_forged_index_uses_no_model(tmp_path: Path, parcel: Parcel, text: str) -> None:
    store = ModelStore(tmp_path)
    _install(store, parcel)
    (tmp_path / "harbour.site.load_w" / "active.json").write_text(text, encoding="utf-8")
    assert store.load(parcel.point) is None


def test_a_lost_folder_is_complained_about(tmp_path: Path, parcel: Parcel) -> None:
    store = ModelStore(tmp_path)
    _install(store, parcel)
    for place in (tmp_path / "harbour.site.load_w").iterdir():
        if place.is_dir():
            shutil.rmtree(place)
    assert store.load(parcel.point) is None
    assert store.complaints


def test_the_shipped_test_model_is_of_the_present_feature_version(parcel: Parcel) -> None:
    assert ModelManifest.from_bytes(parcel.manifest, "data").feature_version == FEATURE_VERSION
