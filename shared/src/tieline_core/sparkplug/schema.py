"""The Sparkplug B payload as a table of (number, name, type), turned into protobuf classes at import.

Field numbers after the Sparkplug 3.0.0 specification, chapter 6 (``sparkplug_b.proto``). No generated file: the table is
what a reviewer compares with the specification. Data sets, templates and property sets are declared as bytes (the same
wire form): the first two are read past without being interpreted, the last are counted before they are parsed.
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
        (9, "properties", "?bytes"),
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


def _class(pool: descriptor_pool.DescriptorPool, name: str) -> type[Message]:
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}"))


_POOL: Final = descriptor_pool.DescriptorPool()
_POOL.Add(_file())
#: Protobuf classes of a whole payload and of a metric's properties; only the codec beside this file touches them.
PayloadMessage: Final = _class(_POOL, "Payload")
PropertySetMessage: Final = _class(_POOL, "PropertySet")

_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5


def count_fields(data: bytes, number: int, most: int) -> int:
    """How often a field stands in a message, read without building anything; stops at one above ``most``.

    A message too short for more than ``most`` fields is not looked into: 0. Broken bytes end the count: the parser that
    comes after refuses them.
    """
    found = at = 0
    if len(data) <= 2 * most:
        return 0  # the shortest field takes two bytes: they cannot be too many
    while at < len(data) and found <= most:
        tag, at = _varint(data, at)
        if tag >> 3 == number:
            found += 1
        wire = tag & 7
        if wire == _VARINT:
            _, at = _varint(data, at)
        elif wire == _FIXED64:
            at += 8
        elif wire == _LENGTH:
            length, at = _varint(data, at)
            at += length
        elif wire == _FIXED32:
            at += 4
        else:
            break
    return found


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """The number at an offset and the offset after it; the end of the data when it is broken."""
    number = shift = 0
    for here in range(at, min(at + 10, len(data))):
        byte = data[here]
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, here + 1
        shift += 7
    return 0, len(data)
