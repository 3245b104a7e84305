"""The Sparkplug B payload as a table of (number, name, type), turned into protobuf classes at import.

Field numbers after the Sparkplug 3.0.0 specification, chapter 6 (``sparkplug_b.proto``). No generated file: the table is
what a reviewer compares with the specification. Data sets and templates are declared as bytes (the same wire form), so
a payload that carries them is read without interpreting them.
"""

from __future__ import annotations

from typing import Final

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import Message

_PACKAGE: Final = "tieline.sparkplug"
_FIELD = descriptor_pb2.FieldDescriptorProto
_SCALARS: Final = {
    "uint32": _FIELD.TYPE_UINT32,
    "uint64": _FIELD.TYPE_UINT64,
    "float": _FIELD.TYPE_FLOAT,
    "double": _FIELD.TYPE_DOUBLE,
    "bool": _FIELD.TYPE_BOOL,
    "string": _FIELD.TYPE_STRING,
    "bytes": _FIELD.TYPE_BYTES,
}

#: Message name -> rows of (number, name, type); ``?`` = optional, ``*`` = repeated, ``=`` = in the oneof ``value``.
_TABLE: Final[dict[str, tuple[tuple[int, str, str], ...]]] = {
    "PropertyValue": (
        (1, "type", "?uint32"),
        (2, "is_null", "?bool"),
        (3, "int_value", "=uint32"),
        (4, "long_value", "=uint64"),
        (5, "float_value", "=float"),
        (6, "double_value", "=double"),
        (7, "boolean_value", "=bool"),
        (8, "string_value", "=string"),
        (9, "propertyset_value", "=bytes"),
        (10, "propertysets_value", "=bytes"),
    ),
    "PropertySet": (
        (1, "keys", "*string"),
        (2, "values", "*PropertyValue"),
    ),
    "Metric": (
        (1, "name", "?string"),
        (2, "alias", "?uint64"),
        (3, "timestamp", "?uint64"),
        (4, "datatype", "?uint32"),
        (5, "is_historical", "?bool"),
        (6, "is_transient", "?bool"),
        (7, "is_null", "?bool"),
        (8, "metadata", "?bytes"),
        (9, "properties", "?PropertySet"),
        (10, "int_value", "=uint32"),
        (11, "long_value", "=uint64"),
        (12, "float_value", "=float"),
        (13, "double_value", "=double"),
        (14, "boolean_value", "=bool"),
        (15, "string_value", "=string"),
        (16, "bytes_value", "=bytes"),
        (17, "dataset_value", "=bytes"),
        (18, "template_value", "=bytes"),
    ),
    "Payload": (
        (1, "timestamp", "?uint64"),
        (2, "metrics", "*Metric"),
        (3, "seq", "?uint64"),
        (4, "uuid", "?string"),
        (5, "body", "?bytes"),
    ),
}


def _file() -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(name="tieline/sparkplug_b.proto", package=_PACKAGE, syntax="proto2")
    for message_name, rows in _TABLE.items():
        message = file.message_type.add(name=message_name)
        if any(kind.startswith("=") for _, _, kind in rows):
            message.oneof_decl.add(name="value")
        for number, name, kind in rows:
            mark, base = kind[0], kind[1:]
            field = message.field.add(
                name=name,
                number=number,
                label=_FIELD.LABEL_REPEATED if mark == "*" else _FIELD.LABEL_OPTIONAL,
                type=_SCALARS.get(base, _FIELD.TYPE_MESSAGE),
            )
            if base not in _SCALARS:
                field.type_name = f".{_PACKAGE}.{base}"
            if mark == "=":
                field.oneof_index = 0
    return file


def _payload_class() -> type[Message]:
    pool = descriptor_pool.DescriptorPool()
    pool.Add(_file())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.Payload"))


#: Protobuf class of a whole payload; only the codec beside this file touches it.
PayloadMessage: Final = _payload_class()
