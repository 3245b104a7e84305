"""The values of Sparkplug B 3.0: datatypes, metrics, quality, limits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from types import MappingProxyType
from typing import Final

from tieline_core.errors import PermanentError
from tieline_core.quantities import Quality

Scalar = bool | int | float | str | bytes


class SparkplugError(PermanentError):
    """Bytes or values that are no valid Sparkplug B payload; the message names the metric and the reason."""


class DataType(IntEnum):
    """Datatypes of Sparkplug 3.0.0, table in chapter 6."""

    INT8 = 1
    INT16 = 2
    INT32 = 3
    INT64 = 4
    UINT8 = 5
    UINT16 = 6
    UINT32 = 7
    UINT64 = 8
    FLOAT = 9
    DOUBLE = 10
    BOOLEAN = 11
    STRING = 12
    DATETIME = 13
    TEXT = 14
    UUID = 15
    DATASET = 16
    BYTES = 17
    FILE = 18
    TEMPLATE = 19
    PROPERTYSET = 20
    PROPERTYSET_LIST = 21
    INT8_ARRAY = 22
    INT16_ARRAY = 23
    INT32_ARRAY = 24
    INT64_ARRAY = 25
    UINT8_ARRAY = 26
    UINT16_ARRAY = 27
    UINT32_ARRAY = 28
    UINT64_ARRAY = 29
    FLOAT_ARRAY = 30
    DOUBLE_ARRAY = 31
    BOOLEAN_ARRAY = 32
    STRING_ARRAY = 33
    DATETIME_ARRAY = 34


#: Bits and sign of the integer datatypes.
INTEGERS: Final = {
    DataType.INT8: (8, True),
    DataType.INT16: (16, True),
    DataType.INT32: (32, True),
    DataType.INT64: (64, True),
    DataType.UINT8: (8, False),
    DataType.UINT16: (16, False),
    DataType.UINT32: (32, False),
    DataType.UINT64: (64, False),
    DataType.DATETIME: (64, False),
}
#: Field of the wire form that carries a datatype which is no integer.
FIELDS: Final = {
    DataType.FLOAT: "float_value",
    DataType.DOUBLE: "double_value",
    DataType.BOOLEAN: "boolean_value",
    DataType.STRING: "string_value",
    DataType.TEXT: "string_value",
    DataType.UUID: "string_value",
    DataType.BYTES: "bytes_value",
    DataType.FILE: "bytes_value",
}
#: Datatypes that are read past, never interpreted.
OPAQUE_TYPES: Final = frozenset(
    {DataType.DATASET, DataType.TEMPLATE, DataType.PROPERTYSET, DataType.PROPERTYSET_LIST}
    | {kind for kind in DataType if kind >= DataType.INT8_ARRAY}
)

QUALITY_KEY: Final = "Quality"
#: Our own five-step quality beside Sparkplug's three codes, only where the three cannot say it.
DETAIL_KEY: Final = "tieline_quality"
_CODE_OF: Final = {
    Quality.GOOD: 192,
    Quality.UNCERTAIN: 192,
    Quality.SUBSTITUTED: 192,
    Quality.STALE: 500,
    Quality.BAD: 0,
}
_QUALITY_OF: Final = {192: Quality.GOOD, 500: Quality.STALE, 0: Quality.BAD}


@dataclass(frozen=True, slots=True)
class Limits:
    """What a payload may hold; checked before, respectively while it is read."""

    max_bytes: int = 1024 * 1024
    max_metrics: int = 5000
    max_name_chars: int = 256
    max_text_bytes: int = 16 * 1024
    max_properties: int = 16


DEFAULT_LIMITS: Final = Limits()


@dataclass(frozen=True, slots=True)
class Property:
    """One property of a metric: a scalar with its datatype; None = null or not a scalar."""

    datatype: DataType
    value: Scalar | None


NO_PROPERTIES: Final[Mapping[str, Property]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric of a payload.

    Attributes:
        name: Present in births; absent in data that uses the alias.
        value: The number or text; None when it is null, or a data set, template or array, which Tieline does not read.
        datatype: Present in births; absent in data. Without it integers are as on the wire: see :func:`fold`.
        alias: Number that stands for the name in data.
        timestamp_ms: Milliseconds since 1970, UTC.
        is_historical: Flushed from a buffer, not the present value.
        is_transient: Not to be kept in a history.
        properties: By key; the quality lives here.
    """

    name: str | None = None
    value: Scalar | None = None
    datatype: DataType | None = None
    alias: int | None = None
    timestamp_ms: int | None = None
    is_historical: bool = False
    is_transient: bool = False
    properties: Mapping[str, Property] = field(default_factory=lambda: NO_PROPERTIES)

    @property
    def label(self) -> str:
        """Name or alias, for messages to people."""
        return self.name if self.name is not None else f"alias {self.alias}"

    @property
    def quality(self) -> Quality:
        """Quality out of the properties, GOOD when there is none; a null is never usable, whatever its properties say."""
        said = self._said_quality()
        return Quality.BAD if self.value is None and said.usable else said

    def _said_quality(self) -> Quality:
        detail, code = self.properties.get(DETAIL_KEY), self.properties.get(QUALITY_KEY)
        if detail is not None and isinstance(detail.value, int) and detail.value in Quality.__members__.values():
            return Quality(detail.value)
        if code is not None and isinstance(code.value, int):
            return _QUALITY_OF.get(code.value, Quality.UNCERTAIN)
        return Quality.GOOD


@dataclass(frozen=True, slots=True)
class Payload:
    """One Sparkplug message body.

    Attributes:
        metrics: What it says.
        timestamp_ms: When it was sent, milliseconds since 1970 UTC.
        seq: Absent in deaths of nodes and in commands.
        not_finite: Numbers that were NaN or infinite and became null on reading.
    """

    metrics: tuple[Metric, ...] = ()
    timestamp_ms: int | None = None
    seq: int | None = None
    not_finite: int = 0


def quality_properties(quality: Quality) -> Mapping[str, Property]:
    """Properties that say this quality: Sparkplug's code, and ours where the code is too coarse."""
    properties = {QUALITY_KEY: Property(DataType.INT32, _CODE_OF[quality])}
    if quality in (Quality.UNCERTAIN, Quality.SUBSTITUTED):
        properties[DETAIL_KEY] = Property(DataType.INT32, int(quality))
    return properties


def fold(value: Scalar, datatype: DataType, label: str) -> Scalar:
    """Give a wire value its datatype: two's complement to a signed number, text and flags checked.

    Args:
        value: As it came from :func:`decode` of a metric without a datatype.
        datatype: What the birth declared.
        label: Name of the metric, for the error.

    Raises:
        SparkplugError: The value is not of that datatype.
    """
    if datatype in INTEGERS:
        if isinstance(value, bool) or not isinstance(value, int):
            raise SparkplugError(f"{label}: {value!r} is no {datatype.name}")
        bits, signed = INTEGERS[datatype]
        if not signed:
            return in_range(value, datatype, label)
        # Peers sign-extend narrow integers to 32 bits, or do not; both say the same number.
        for width in {bits, 32 if bits <= 32 else 64}:
            if 1 << (width - 1) <= value < 1 << width:
                folded = value - (1 << width)
                if folded >= -(1 << (bits - 1)):
                    return folded
        return in_range(value, datatype, label)
    if datatype in (DataType.FLOAT, DataType.DOUBLE):
        if isinstance(value, bool) or not isinstance(value, float):
            raise SparkplugError(f"{label}: {value!r} is no {datatype.name}")
        return value
    expected: type = {"boolean_value": bool, "string_value": str, "bytes_value": bytes}[FIELDS[datatype]]
    if not isinstance(value, expected):
        raise SparkplugError(f"{label}: {value!r} is no {datatype.name}")
    return value


def in_range(value: int, datatype: DataType, label: str) -> int:
    """The value when it fits its integer datatype, else SparkplugError."""
    bits, signed = INTEGERS[datatype]
    low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
    if not low <= value <= high:
        raise SparkplugError(f"{label}: {value} is outside {datatype.name} ({low} to {high})")
    return value
