"""The ONNX graph of a load model: features, experts, gate and bands, from raw history to watts.

Features exist once, as ONNX operators: training runs :func:`feature_model` in ONNX Runtime, the shipped model contains the
same nodes, so edge and hub cannot differ. Everything inside is float32 and normalised by the load's own level.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, ValueInfoProto, checker, helper, numpy_helper

from tieline_core.forecast_inputs import DAY_STEPS, HISTORY_STEPS, HORIZON_STEPS, LAGS, LEVEL_STEPS, QUANTILES
from tieline_core.model_manifest import TensorSpec, input_specs, output_specs

OPSET: Final = 18
ML_OPSET: Final = 3
_IR_VERSION: Final = 9
_HATS: Final = 12
#: A load below one watt has no level worth dividing by.
_LEVEL_FLOOR_W: Final = 1.0
#: A dead week does not make its neighbours look a thousand times as large.
_LEVEL_FLOOR_SHARE: Final = 0.05
_WEEK: Final = 7 * DAY_STEPS


@dataclass(frozen=True, slots=True)
class FeatureNames:
    """Tensors of the feature part of a graph.

    Attributes:
        level: Level of the load [1], in the point's unit.
        columns: Feature columns [192, n] for trees.
        design: Columns x time-of-day hats [192, m] for linear experts.
        deviations: Typical levels and latest deviations from them, plain and fading with the lead [192, k].
        lags: Smoothed history at ``lag_step`` over its own level [192, 18].
        lags_raw: The same, not smoothed [192, 18].
    """

    level: str
    columns: str
    design: str
    deviations: str
    lags: str
    lags_raw: str


@dataclass
class GraphBuilder:
    """Collects nodes and constants under fresh names."""

    nodes: list[NodeProto] = field(default_factory=list)
    constants: list[TensorProto] = field(default_factory=list)

    def _fresh(self, stem: str) -> str:
        return f"{stem}{len(self.nodes)}_{len(self.constants)}"

    def const(self, value: object, dtype: type[np.generic] = np.float32) -> str:
        """Add a constant, float32 unless told."""
        name = self._fresh("c")
        self.constants.append(numpy_helper.from_array(np.asarray(value, dtype=dtype), name))
        return name

    def op(self, operator: str, *inputs: str, **attributes: Any) -> str:  # attributes: onnx is not annotated
        """Add a node with one output."""
        name = self._fresh("t")
        self.nodes.append(helper.make_node(operator, list(inputs), [name], **attributes))
        return name

    def rename(self, tensor: str, name: str) -> None:
        """Give a tensor a public name."""
        self.nodes.append(helper.make_node("Identity", [tensor], [name]))

    def part(self, tensor: str, begin: int, end: int, axis: int = 0) -> str:
        """Slice along one axis."""
        return self.op("Slice", tensor, *(self.const([number], np.int64) for number in (begin, end, axis)))

    def mean(self, tensor: str, begin: int, end: int) -> str:
        """Mean [1] of a part of a vector."""
        return self.op("ReduceMean", self.part(tensor, begin, end), keepdims=1)

    def column(self, vector: str) -> str:
        """Make a vector [192] or a scalar [1] a column [192, 1]."""
        wide = self.op("Expand", vector, self.const([HORIZON_STEPS], np.int64))
        return self.op("Unsqueeze", wide, self.const([1], np.int64))

    def equal(self, tensor: str, value: int) -> str:
        """1.0 where an integer tensor has the value."""
        return self.op("Cast", self.op("Equal", tensor, self.const(value, np.int64)), to=TensorProto.FLOAT)


def add_features(graph: GraphBuilder) -> FeatureNames:
    """Add the feature nodes: level, lags, recent anomalies, calendar, and the linear design."""
    lead = np.arange(HORIZON_STEPS)
    level, load = _relative(graph)
    shaped = graph.op("Reshape", load, graph.const([1, 1, HISTORY_STEPS - LEVEL_STEPS], np.int64))
    pooled = graph.op("AveragePool", shaped, kernel_shape=[5], pads=[2, 2], count_include_pad=0)
    smooth = graph.op("Reshape", pooled, graph.const([HISTORY_STEPS - LEVEL_STEPS], np.int64))
    place = graph.op("Sub", "lag_step", graph.const(LEVEL_STEPS, np.int64))
    lags = graph.op("Gather", smooth, place, axis=0)
    lags_raw = graph.op("Gather", load, place, axis=0)
    weeks = graph.op("ReduceMean", graph.part(lags, 2, 6, 1), graph.const([1], np.int64), keepdims=1)
    alike = [
        graph.op("ReduceMean", graph.part(lags, 6, 6 + days, 1), graph.const([1], np.int64), keepdims=1) for days in (4, 8, 12)
    ]

    def lag(name: str) -> str:
        return graph.part(lags, LAGS.index(name), LAGS.index(name) + 1, 1)

    recent = _recent(graph, load, lead)
    latest, fading = _deviations(graph, load, lead)
    calendar = _calendar(graph)
    plain = [lag("d1"), lag("d2"), lag("w1"), lag("s1"), weeks, *alike]
    columns = graph.op(
        "Concat",
        *plain,
        graph.part(lags_raw, 0, 1, 1),
        graph.part(lags_raw, 2, 3, 1),
        *recent.levels,
        *recent.anomalies,
        *latest,
        *calendar,
        graph.column(graph.op("Cast", "quarter", to=TensorProto.FLOAT)),
        graph.column(graph.op("Cast", "weekday", to=TensorProto.FLOAT)),
        graph.column(graph.const(lead)),
        axis=1,
    )
    base = [graph.column(graph.const([1.0])), *plain, *recent.levels[1:], *recent.fading, *calendar]
    deviations = graph.op("Concat", *alike, *latest, *fading, axis=1)
    return FeatureNames(level, columns, _with_hats(graph, base), deviations, lags, lags_raw)


@dataclass(frozen=True, slots=True)
class _Recent:
    levels: list[str]
    anomalies: list[str]
    fading: list[str]


def _relative(graph: GraphBuilder) -> tuple[str, str]:
    """Level at issue [1], and the history from its second week on over its own trailing level [2784].

    Dividing each past value by the level of *its* week takes growth and season out of the lags.
    """
    scale = graph.op("Max", graph.op("ReduceMean", graph.op("Abs", "history"), keepdims=1), graph.const([_LEVEL_FLOOR_W]))
    # Sums of absolute values: the level of a load is positive whatever a single reading says.
    total = graph.op("CumSum", graph.op("Abs", graph.op("Div", "history", scale)), graph.const(0, np.int64))
    week = graph.op("Sub", graph.part(total, LEVEL_STEPS, HISTORY_STEPS), graph.part(total, 0, HISTORY_STEPS - LEVEL_STEPS))
    weekly = graph.op("Mul", week, graph.op("Div", scale, graph.const([float(LEVEL_STEPS)])))
    weekly = graph.op("Max", weekly, graph.op("Mul", scale, graph.const([_LEVEL_FLOOR_SHARE])))
    level = graph.part(weekly, HISTORY_STEPS - LEVEL_STEPS - 1, HISTORY_STEPS - LEVEL_STEPS)
    return level, graph.op("Div", graph.part("history", LEVEL_STEPS, HISTORY_STEPS), weekly)


def _recent(graph: GraphBuilder, load: str, lead: NDArray[np.int64]) -> _Recent:
    """Means of the last hour, four hours, day and week; their distance from the weeks before, fading with the lead."""
    end = HISTORY_STEPS - LEVEL_STEPS
    levels = [graph.column(graph.part(load, end - 1, end))]
    anomalies, fading = [], []
    for steps, hours in ((4, 4.0), (16, 12.0), (DAY_STEPS, 48.0)):
        mean = graph.mean(load, end - steps, end)
        before = [graph.mean(load, end - steps - _WEEK * week, end - _WEEK * week) for week in (1, 2, 3, 4)]
        month = graph.op("Div", graph.op("Sum", *before), graph.const([4.0]))
        fade = graph.const(np.exp(-lead / (4.0 * hours))[:, None])
        levels.append(graph.column(mean))
        for reference in (before[0], month):
            anomaly = graph.column(graph.op("Sub", mean, reference))
            anomalies.append(anomaly)
            fading.append(graph.op("Mul", anomaly, fade))
    levels.append(graph.column(graph.mean(load, end - _WEEK, end)))
    levels.append(graph.column(graph.mean(load, 0, end)))
    return _Recent(levels, anomalies, fading)


def _deviations(graph: GraphBuilder, load: str, lead: NDArray[np.int64]) -> tuple[list[str], list[str]]:
    """How the last day deviated from earlier days of its type: means up to the issue, yesterday's at the target's time of
    day (three smoothings), and the means fading with the lead."""
    end = HISTORY_STEPS - LEVEL_STEPS
    place = graph.op("Sub", "recent_step", graph.const(LEVEL_STEPS, np.int64))
    typical = graph.op("ReduceMean", graph.op("Gather", load, place, axis=0), graph.const([1], np.int64), keepdims=0)
    deviation = graph.op("Sub", graph.part(load, end - DAY_STEPS, end), typical)
    means = [graph.column(graph.mean(deviation, DAY_STEPS - steps, DAY_STEPS)) for steps in (1, 2, 4, 12, 24, DAY_STEPS)]
    row = graph.op("Reshape", deviation, graph.const([1, 1, DAY_STEPS], np.int64))
    yesterday = []
    for width in (1, 5, 17):
        around = {"kernel_shape": [width], "pads": [width // 2, width // 2], "count_include_pad": 0}
        smooth = graph.op("Reshape", graph.op("AveragePool", row, **around), graph.const([DAY_STEPS], np.int64))
        yesterday.append(graph.column(graph.op("Concat", smooth, smooth, axis=0)))
    fading = []
    for steps in (2.0, 6.0, 16.0, 48.0):
        fade = graph.const(np.exp(-lead / steps)[:, None])
        fading += [graph.op("Mul", means[which], fade) for which in (0, 2, 3, 5)]
    return [*means, *yesterday], fading


def _calendar(graph: GraphBuilder) -> list[str]:
    """Day types of the day, its neighbours and the latest known day; season as one harmonic."""
    angle = graph.op("Mul", graph.op("Cast", "year_day", to=TensorProto.FLOAT), graph.const(2 * np.pi / 365.25))
    types = [graph.equal(graph.part("day_type", place, place + 1, 1), kind) for place, kind in ((1, 1), (1, 2))]
    around = [
        graph.op("Sub", graph.const(1.0), graph.equal(graph.part("day_type", place, place + 1, 1), 0)) for place in (0, 2)
    ]
    known = graph.column(graph.op("Sub", graph.const(1.0), graph.equal("lag_day_type", 0)))
    return [*types, *around, known, graph.column(graph.op("Sin", angle)), graph.column(graph.op("Cos", angle))]


def _with_hats(graph: GraphBuilder, base: Sequence[str]) -> str:
    """Every base column times every time-of-day hat (piecewise linear, two hours apart), and one column a quarter hour."""
    place = np.arange(DAY_STEPS) * _HATS / DAY_STEPS
    distance = np.abs(place[:, None] - np.arange(_HATS))
    hats = np.maximum(0.0, 1.0 - np.minimum(distance, _HATS - distance))
    weight = graph.op("Unsqueeze", graph.op("Gather", graph.const(hats), "quarter"), graph.const([1], np.int64))
    stacked = graph.op("Unsqueeze", graph.op("Concat", *base, axis=1), graph.const([2], np.int64))
    product = graph.op("Mul", stacked, weight)
    flat = graph.op("Reshape", product, graph.const([HORIZON_STEPS, len(base) * _HATS], np.int64))
    return graph.op("Concat", flat, graph.op("Gather", graph.const(np.eye(DAY_STEPS)), "quarter"), axis=1)


def add_blend(graph: GraphBuilder, features: FeatureNames, experts: Sequence[str]) -> None:
    """Add gate and bands: weighted experts plus offsets, sorted, times the level. Weights and offsets are inputs."""
    forecasts = graph.op("Concat", *experts, axis=1)
    blended = graph.op("ReduceSum", graph.op("Mul", forecasts, "weights"), graph.const([1], np.int64), keepdims=1)
    fan = graph.op("Add", blended, "offsets")
    count = len(QUANTILES)
    # TopK of the whole row, smallest first, is a sort: crossing quantiles are put in order (monotone rearrangement).
    topk = {"axis": 1, "largest": 0, "sorted": 1}
    graph.nodes.append(helper.make_node("TopK", [fan, graph.const([count], np.int64)], ["fan", "fan_place"], **topk))
    graph.rename(graph.op("Mul", "fan", features.level), "quantiles")
    graph.rename(forecasts, "expert_forecasts")
    graph.rename(features.level, "level")


def feature_model() -> bytes:
    """The feature part alone: outputs level, columns, design, deviations, lags and lags_raw; what training runs."""
    graph = GraphBuilder()
    names = add_features(graph)
    outputs = []
    for public in ("level", "columns", "design", "deviations", "lags", "lags_raw"):
        graph.rename(getattr(names, public), public)
        shape = [1] if public == "level" else [HORIZON_STEPS, f"{public}_count"]
        outputs.append(helper.make_tensor_value_info(public, TensorProto.FLOAT, shape))
    inputs = [spec for spec in input_specs(1) if spec.name not in ("weights", "offsets")]
    return _assemble(graph, "features", inputs, outputs, {})


def finish_model(graph: GraphBuilder, experts: int, metadata: Mapping[str, str]) -> bytes:
    """The whole model as bytes, checked."""
    outputs = [_value_info(spec) for spec in output_specs(experts)]
    return _assemble(graph, "load_forecast", input_specs(experts), outputs, metadata)


def _value_info(spec: TensorSpec) -> ValueInfoProto:
    kind = TensorProto.FLOAT if spec.dtype == "float32" else TensorProto.INT64
    return helper.make_tensor_value_info(spec.name, kind, list(spec.shape))


def _assemble(
    graph: GraphBuilder,
    name: str,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[ValueInfoProto],
    metadata: Mapping[str, str],
) -> bytes:
    model = helper.make_model(
        helper.make_graph(graph.nodes, name, [_value_info(spec) for spec in inputs], list(outputs), graph.constants),
        opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", ML_OPSET)],
        ir_version=_IR_VERSION,
        producer_name="tieline",
    )
    helper.set_model_props(model, dict(metadata))
    checker.check_model(model)
    data: bytes = model.SerializeToString()
    return data
