"""What an ONNX file may contain, read from its protobuf without the onnx package.

Only plain arithmetic and the tree ensemble run on an edge: no control flow, no custom operators, no data outside the
file. Field numbers are those of onnx.proto (IR version 9).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from tieline_core.errors import PermanentError

ALLOWED_OPERATORS: Final = frozenset(
    {
        *("Abs", "Add", "AveragePool", "Cast", "Concat", "Cos", "CumSum", "Div", "Equal", "Exp", "Expand", "Gather", "Gemm"),
        *("Identity", "Log", "MatMul", "Max", "Min", "Mod", "Mul", "Neg", "ReduceMean", "ReduceSum", "Relu", "Reshape"),
        *("Sin", "Slice", "Sub", "Sum", "Tanh", "TopK", "Unsqueeze", "ai.onnx.ml:TreeEnsembleRegressor"),
    }
)
_DOMAINS: Final = frozenset({"", "ai.onnx", "ai.onnx.ml"})
_MAX_NODES: Final = 4096

_MODEL_GRAPH, _MODEL_OPSET, _MODEL_FUNCTIONS = 7, 8, 25
_GRAPH_NODE, _GRAPH_INITIALIZER, _GRAPH_SPARSE = 1, 5, 15
_NODE_OPERATOR, _NODE_ATTRIBUTE, _NODE_DOMAIN = 4, 5, 7
_ATTRIBUTE_GRAPH, _ATTRIBUTE_GRAPHS, _ATTRIBUTE_TENSOR = 6, 11, 5
_TENSOR_EXTERNAL, _TENSOR_LOCATION = 13, 14
_OPSET_DOMAIN: Final = 1
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


class ModelRefusedError(PermanentError):
    """A model that is not taken; the file or its maker has to change.

    Attributes:
        check: ``size``, ``hash``, ``manifest``, ``graph``, ``inputs``, ``run`` or ``store``.
        reason: What was found.
    """

    def __init__(self, check: str, reason: str) -> None:
        self.check = check
        self.reason = reason
        super().__init__(f"model refused ({check}): {reason}")


def check_graph(model: bytes) -> None:
    """Refuse a file that is no ONNX model or holds more than arithmetic.

    Raises:
        ModelRefusedError: With what was found.
    """
    graphs = [value for number, value in _fields(model) if number == _MODEL_GRAPH]
    if len(graphs) != 1:
        raise ModelRefusedError("graph", f"{len(graphs)} graphs in the file, expected one: this is no complete ONNX model")
    for number, value in _fields(model):
        if number == _MODEL_FUNCTIONS:
            raise ModelRefusedError("graph", "the file defines functions of its own")
        if number == _MODEL_OPSET and (domain := _text(value, _OPSET_DOMAIN)) not in _DOMAINS:
            raise ModelRefusedError("graph", f"operator set {domain!r} is not known here")
    nodes = 0
    for number, value in _fields(graphs[0]):
        if number == _GRAPH_NODE:
            nodes += 1
            _check_node(value)
        elif number == _GRAPH_INITIALIZER:
            _check_tensor(value)
        elif number == _GRAPH_SPARSE:
            raise ModelRefusedError("graph", "sparse constants are not used by load models")
    if not 0 < nodes <= _MAX_NODES:
        raise ModelRefusedError("graph", f"{nodes} nodes; 1 to {_MAX_NODES} are expected")


def _check_node(node: bytes) -> None:
    domain = _text(node, _NODE_DOMAIN)
    operator = _text(node, _NODE_OPERATOR)
    name = operator if domain in ("", "ai.onnx") else f"{domain}:{operator}"
    if name not in ALLOWED_OPERATORS:
        raise ModelRefusedError("graph", f"operator {name!r} is not on the list of a load model")
    for number, attribute in _fields(node):
        if number != _NODE_ATTRIBUTE:
            continue
        for inner, value in _fields(attribute):
            if inner in (_ATTRIBUTE_GRAPH, _ATTRIBUTE_GRAPHS):
                raise ModelRefusedError("graph", f"operator {name!r} carries a graph of its own")
            if inner == _ATTRIBUTE_TENSOR:
                _check_tensor(value)


def _check_tensor(tensor: bytes) -> None:
    for number, value in _fields(tensor):
        if number == _TENSOR_EXTERNAL or (number == _TENSOR_LOCATION and value != b"\x00"):
            raise ModelRefusedError("graph", "a constant lies outside the file")


def _text(message: bytes, field: int) -> str:
    found = [value for number, value in _fields(message) if number == field]
    return found[-1].decode("utf-8", errors="replace") if found else ""


def _fields(message: bytes) -> Iterator[tuple[int, bytes]]:
    """Field numbers and raw values of one protobuf message; a varint comes as its little-endian byte(s)."""
    position = 0
    while position < len(message):
        key, position = _varint(message, position)
        number, kind = key >> 3, key & 7
        if kind == _VARINT:
            value, position = _varint(message, position)
            yield number, value.to_bytes(max(1, (value.bit_length() + 7) // 8), "little")
            continue
        if kind == _BYTES:
            length, position = _varint(message, position)
        elif kind in (_FIXED32, _FIXED64):
            length = 4 if kind == _FIXED32 else 8
        else:
            raise ModelRefusedError("graph", f"byte {position}: wire type {kind} does not occur in ONNX files")
        if position + length > len(message):
            raise ModelRefusedError("graph", f"byte {position}: {length} bytes run past the end, the file is cut off")
        yield number, message[position : position + length]
        position += length


def _varint(message: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while position < len(message) and shift < 64:
        byte = message[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
    raise ModelRefusedError("graph", f"byte {position}: a number runs past the end, the file is cut off")
