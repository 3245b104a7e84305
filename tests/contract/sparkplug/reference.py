"""A second codec: the schema as the specification prints it, turned into protobuf classes without any code of Tieline."""

from __future__ import annotations

import re
from typing import Any, Final

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_FIELD = descriptor_pb2.FieldDescriptorProto
_PROTO: Final = """
message DataSetValue { oneof value { uint32 int_value = 1; uint64 long_value = 2; float float_value = 3;
  double double_value = 4; bool boolean_value = 5; string string_value = 6; } }
message Row { repeated DataSetValue elements = 1; }
message DataSet { optional uint64 num_of_columns = 1; repeated string columns = 2; repeated uint32 types = 3;
  repeated Row rows = 4; }
message PropertyValue { optional uint32 type = 1; optional bool is_null = 2; oneof value { uint32 int_value = 3;
  uint64 long_value = 4; float float_value = 5; double double_value = 6; bool boolean_value = 7; string string_value = 8;
  PropertySet propertyset_value = 9; PropertySetList propertysets_value = 10; } }
message PropertySet { repeated string keys = 1; repeated PropertyValue values = 2; }
message PropertySetList { repeated PropertySet propertyset = 1; }
message MetaData { optional bool is_multi_part = 1; optional string content_type = 2; optional uint64 size = 3;
  optional uint64 seq = 4; optional string file_name = 5; optional string file_type = 6; optional string md5 = 7;
  optional string description = 8; }
message Metric { optional string name = 1; optional uint64 alias = 2; optional uint64 timestamp = 3;
  optional uint32 datatype = 4; optional bool is_historical = 5; optional bool is_transient = 6; optional bool is_null = 7;
  optional MetaData metadata = 8; optional PropertySet properties = 9; oneof value { uint32 int_value = 10;
  uint64 long_value = 11; float float_value = 12; double double_value = 13; bool boolean_value = 14;
  string string_value = 15; bytes bytes_value = 16; DataSet dataset_value = 17; } }
message Payload { optional uint64 timestamp = 1; repeated Metric metrics = 2; optional uint64 seq = 3;
  optional string uuid = 4; optional bytes body = 5; }
"""
_SCALARS: Final = {
    "uint32": _FIELD.TYPE_UINT32,
    "uint64": _FIELD.TYPE_UINT64,
    "float": _FIELD.TYPE_FLOAT,
    "double": _FIELD.TYPE_DOUBLE,
    "bool": _FIELD.TYPE_BOOL,
    "string": _FIELD.TYPE_STRING,
    "bytes": _FIELD.TYPE_BYTES,
}


def _add_field(message: descriptor_pb2.DescriptorProto, label: str, kind: str, name: str, number: str) -> None:
    field = message.field.add(name=name, number=int(number))
    field.label = _FIELD.LABEL_REPEATED if label == "repeated" else _FIELD.LABEL_OPTIONAL
    field.type = _SCALARS.get(kind, _FIELD.TYPE_MESSAGE)
    if kind not in _SCALARS:
        field.type_name = f".org.eclipse.tahu.{kind}"
    if not label:
        field.oneof_index = 0


def _payload_class() -> Any:
    file = descriptor_pb2.FileDescriptorProto(name="sparkplug_b_reference.proto", package="org.eclipse.tahu", syntax="proto2")
    for name, body in re.findall(r"message (\w+) \{(.*?)\}(?=\s*message|\s*$)", _PROTO, re.DOTALL):
        message = file.message_type.add(name=name)
        if "oneof" in body:
            message.oneof_decl.add(name="value")
        for label, kind, field, number in re.findall(r"(optional |repeated )?(\w+) (\w+) = (\d+);", body):
            _add_field(message, label.strip(), kind, field, number)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("org.eclipse.tahu.Payload"))


#: Class of a whole payload.
ReferencePayload: Final[Any] = _payload_class()

INT32, INT64, UINT64, FLOAT, DOUBLE, BOOLEAN, STRING = 3, 4, 8, 9, 10, 11, 12
_VALUE_FIELD: Final = {
    INT32: "int_value",
    INT64: "long_value",
    UINT64: "long_value",
    FLOAT: "float_value",
    DOUBLE: "double_value",
    BOOLEAN: "boolean_value",
    STRING: "string_value",
}


def metric(payload: Any, name: str | None, kind: int, value: Any, **fields: Any) -> None:
    """Add a metric; ``fields`` are those of the schema, such as ``alias``, ``timestamp`` or ``is_historical``."""
    row = payload.metrics.add(**fields)
    if name is not None:
        row.name = name
        row.datatype = kind
    if value is None:
        row.is_null = True
        return
    field = _VALUE_FIELD[kind]
    wrap = {"int_value": 1 << 32, "long_value": 1 << 64}.get(field)
    setattr(row, field, value if wrap is None else value % wrap)


def bdseq(body: Any) -> int:
    """The one birth-death number a payload carries."""
    (row,) = [row for row in body.metrics if row.name == "bdSeq"]
    assert row.datatype == INT64
    return int(row.long_value)
