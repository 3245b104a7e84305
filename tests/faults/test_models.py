"""F47 with a real file: allowed arithmetic that wants more memory than there is meets its end in the trial's process."""

from __future__ import annotations

import onnx
import pytest
from onnx import TensorProto, helper

from tests.edge.forecasting.conftest import Parcel, parcel
from tieline_edge.forecasting.graph_check import ModelRefusedError, check_graph
from tieline_edge.forecasting.trial import try_in_child

__all__ = ["parcel"]


def greedy(onnx_file: bytes, rows: int) -> bytes:
    """The model with an addition of nothing, by way of a matrix of rows x rows."""
    model = onnx.load_model_from_string(onnx_file)
    graph = model.graph
    graph.initializer.append(helper.make_tensor("greed_shape", TensorProto.INT64, [2], [rows, rows]))
    graph.initializer.append(helper.make_tensor("greed_zero", TensorProto.FLOAT, [1, 1], [0.0]))
    for node in graph.node:
        for index, name in enumerate(node.output):
            if name == "level":
                node.output[index] = "level_before"
    graph.node.append(helper.make_node("Expand", ["greed_zero", "greed_shape"], ["greed"]))
    graph.node.append(helper.make_node("ReduceSum", ["greed"], ["greed_sum"], keepdims=0))
    graph.node.append(helper.make_node("Add", ["level_before", "greed_sum"], ["level"]))
    return bytes(model.SerializeToString())


@pytest.mark.parametrize(("rows", "fits"), [(10, True), (60_000, False)])
def test_f47_a_huge_operation_is_refused_before_the_agent_ever_runs_it(parcel: Parcel, rows: int, fits: bool) -> None:
    changed = parcel.with_onnx(greedy(parcel.onnx, rows))
    check_graph(changed.onnx)
    if fits:
        try_in_child(changed.manifest, changed.onnx, changed.seed)
        return
    with pytest.raises(ModelRefusedError) as caught:
        try_in_child(changed.manifest, changed.onnx, changed.seed)
    assert caught.value.check in ("run", "graph")
