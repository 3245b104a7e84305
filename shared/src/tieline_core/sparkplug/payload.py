"""Sparkplug B 3.0 payloads: frozen values inside, protobuf bytes on the wire.

Refused at this border: NaN and infinities, numbers outside their datatype, values that are not of their datatype, and
anything larger than the limits. A payload that parses is not yet valid, so every field is looked at.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from google.protobuf.message import DecodeError, EncodeError

from tieline_core.sparkplug.metric import (
    DEFAULT_LIMITS,
    FIELDS,
    INTEGERS,
    NO_PROPERTIES,
    OPAQUE_TYPES,
    DataType,
    Limits,
    Metric,
    Payload,
    Property,
    Scalar,
    SparkplugError,
    fold,
    in_range,
)
from tieline_core.sparkplug.schema import PayloadMessage, PropertySetMessage, count_fields

_OPAQUE_FIELDS: Final = frozenset({"dataset_value", "template_value", "propertyset_value", "propertysets_value"})
#: Field numbers, for counting before parsing.
_METRICS, _KEYS, _VALUES = 2, 1, 2
_FLOAT32_MAX: Final = (2 - 2**-23) * 2.0**127
_NATURAL_TYPES: Final = {
    "int_value": DataType.INT32,
    "long_value": DataType.INT64,
    "float_value": DataType.FLOAT,
    "double_value": DataType.DOUBLE,
    "boolean_value": DataType.BOOLEAN,
    "string_value": DataType.STRING,
    "propertyset_value": DataType.PROPERTYSET,
    "propertysets_value": DataType.PROPERTYSET_LIST,
}


def encode(payload: Payload, limits: Limits = DEFAULT_LIMITS) -> bytes:
    """Serialise a payload.

    The datatype chooses the wire form of every metric; it is written only beside a name, because data under an alias
    must not repeat what the birth declared.

    Raises:
        SparkplugError: A value is NaN, infinite, out of range, not of its datatype, or the payload is beyond the limits.
    """
    if len(payload.metrics) > limits.max_metrics:
        raise SparkplugError(f"{len(payload.metrics)} metrics, at most {limits.max_metrics} go into one payload")
    message: Any = PayloadMessage()  # fields of a class built from a descriptor are unknown to the type checker
    try:
        if payload.timestamp_ms is not None:
            message.timestamp = payload.timestamp_ms
        if payload.seq is not None:
            message.seq = payload.seq
        for metric in payload.metrics:
            _write_metric(message.metrics.add(), metric, limits)
        data = bytes(message.SerializeToString(deterministic=True))
    except (ValueError, TypeError, EncodeError) as error:
        raise SparkplugError(f"cannot be written: {error}") from error
    if len(data) > limits.max_bytes:
        raise SparkplugError(f"{len(data)} bytes, at most {limits.max_bytes} are sent")
    return data


def _write_metric(target: Any, metric: Metric, limits: Limits) -> None:
    if metric.name is None and metric.alias is None:
        raise SparkplugError("a metric has neither name nor alias")
    if metric.name is not None:
        if len(metric.name) > limits.max_name_chars:
            raise SparkplugError(f"{metric.label}: names have at most {limits.max_name_chars} characters")
        target.name = metric.name
    if metric.alias is not None:
        target.alias = metric.alias
    if metric.timestamp_ms is not None:
        target.timestamp = metric.timestamp_ms
    if metric.datatype is not None and metric.name is not None:
        target.datatype = int(metric.datatype)
    if metric.is_historical:
        target.is_historical = True
    if metric.is_transient:
        target.is_transient = True
    if metric.properties:
        properties: Any = PropertySetMessage()
        for key, prop in metric.properties.items():
            properties.keys.append(key)
            value = properties.values.add()
            value.type = int(prop.datatype)
            _write_value(value, prop.value, prop.datatype, f"{metric.label}.{key}")
        target.properties = properties.SerializeToString(deterministic=True)
    _write_value(target, metric.value, metric.datatype, metric.label)


def _write_value(target: Any, value: Scalar | None, datatype: DataType | None, label: str) -> None:
    if value is None:
        target.is_null = True
        return
    if isinstance(value, float) and not math.isfinite(value):
        raise SparkplugError(f"{label}: {value} is not a finite number")
    kind = datatype if datatype is not None else _natural(value)
    if kind in OPAQUE_TYPES:
        raise SparkplugError(f"{label}: values of type {kind.name} are not written")
    if kind in INTEGERS:
        if isinstance(value, bool) or not isinstance(value, int):
            raise SparkplugError(f"{label}: {value!r} is no {kind.name}")
        number, wide = in_range(value, kind, label), INTEGERS[kind][0] == 64
        setattr(target, "long_value" if wide else "int_value", number % (1 << (64 if wide else 32)))
        return
    fold(value, kind, label)
    if kind is DataType.FLOAT and abs(float(value)) > _FLOAT32_MAX:
        raise SparkplugError(f"{label}: {value!r} is beyond FLOAT")
    setattr(target, FIELDS[kind], value)


def _natural(value: Scalar) -> DataType:
    if isinstance(value, bool):
        return DataType.BOOLEAN
    if isinstance(value, int):
        return DataType.INT64
    if isinstance(value, float):
        return DataType.DOUBLE
    return DataType.STRING if isinstance(value, str) else DataType.BYTES


def decode(data: bytes, limits: Limits = DEFAULT_LIMITS, *, null_for_nan: bool = False) -> Payload:
    """Read a payload.

    Args:
        data: The body of a message.
        limits: Checked before, respectively while it is read.
        null_for_nan: Numbers that are NaN or infinite become null and are counted, instead of refusing the payload: the
            sequence number of a message is too good to lose over one broken sensor.

    Raises:
        SparkplugError: Too large, not protobuf, or a metric that is not valid; nothing else is ever raised.
    """
    if len(data) > limits.max_bytes:
        raise SparkplugError(f"{len(data)} bytes, at most {limits.max_bytes} are read")
    if count_fields(data, _METRICS, limits.max_metrics) > limits.max_metrics:
        raise SparkplugError(f"more metrics than the {limits.max_metrics} that are read")
    try:
        message: Any = PayloadMessage.FromString(data)
    except (DecodeError, UnicodeDecodeError) as error:
        raise SparkplugError(f"not a Sparkplug payload: {error}") from error
    seq = int(message.seq) if message.HasField("seq") else None
    if seq is not None and seq > 255:
        raise SparkplugError(f"seq {seq} is above 255")
    reader = _Reader(limits, null_for_nan)
    return Payload(
        metrics=tuple(reader.metric(metric) for metric in message.metrics),
        timestamp_ms=int(message.timestamp) if message.HasField("timestamp") else None,
        seq=seq,
        not_finite=reader.not_finite,
    )


class _Reader:
    """Reads the metrics of one payload and counts what it made null."""

    def __init__(self, limits: Limits, null_for_nan: bool) -> None:
        self.not_finite = 0
        self._limits = limits
        self._null_for_nan = null_for_nan
        self._read_properties: dict[bytes, Mapping[str, Property]] = {}

    def metric(self, message: Any) -> Metric:
        name = str(message.name) if message.HasField("name") else None
        alias = int(message.alias) if message.HasField("alias") else None
        label = name if name is not None else f"alias {alias}"
        if name is None and alias is None:
            raise SparkplugError("a metric has neither name nor alias")
        if name is not None and len(name) > self._limits.max_name_chars:
            raise SparkplugError(f"{label[:40]}…: names have at most {self._limits.max_name_chars} characters")
        datatype = _datatype(int(message.datatype), label) if message.HasField("datatype") else None
        return Metric(
            name=name,
            value=self._value(message, datatype, label),
            datatype=datatype,
            alias=alias,
            timestamp_ms=int(message.timestamp) if message.HasField("timestamp") else None,
            is_historical=bool(message.is_historical),
            is_transient=bool(message.is_transient),
            properties=self._properties(message.properties, label) if message.HasField("properties") else NO_PROPERTIES,
        )

    def _properties(self, data: bytes, label: str) -> Mapping[str, Property]:
        # Nearly all metrics of a payload carry the very same properties.
        known = self._read_properties.get(data)
        if known is None:
            known = self._read_properties[data] = self._parse_properties(data, label)
        return known

    def _parse_properties(self, data: bytes, label: str) -> Mapping[str, Property]:
        most = self._limits.max_properties
        if max(count_fields(data, _KEYS, most), count_fields(data, _VALUES, most)) > most:
            raise SparkplugError(f"{label}: at most {most} properties are read")
        try:
            message: Any = PropertySetMessage.FromString(data)
        except (DecodeError, UnicodeDecodeError) as error:
            raise SparkplugError(f"{label}: not a Sparkplug payload: properties: {error}") from error
        if len(message.keys) != len(message.values):
            raise SparkplugError(f"{label}: {len(message.keys)} property keys for {len(message.values)} values")
        properties = {}
        for key, value in zip(message.keys, message.values, strict=True):
            # Only births must name the type of a property; in data the field itself says enough.
            natural = _NATURAL_TYPES.get(value.WhichOneof("value"), DataType.STRING)
            datatype = _datatype(int(value.type), f"{label}.{key}") if value.HasField("type") else natural
            properties[str(key)] = Property(datatype, self._value(value, datatype, f"{label}.{key}"))
        return MappingProxyType(properties)

    def _value(self, message: Any, datatype: DataType | None, label: str) -> Scalar | None:
        field = message.WhichOneof("value")
        if message.is_null or field is None or field in _OPAQUE_FIELDS or datatype in OPAQUE_TYPES:
            return None
        value: Scalar = getattr(message, field)
        if isinstance(value, float) and not math.isfinite(value):
            if not self._null_for_nan:
                raise SparkplugError(f"{label}: {value} is not a finite number")
            self.not_finite += 1
            return None
        if isinstance(value, str | bytes) and len(value) > self._limits.max_text_bytes:
            raise SparkplugError(f"{label}: {len(value)} characters, at most {self._limits.max_text_bytes} are read")
        return value if datatype is None else fold(value, datatype, label)


def _datatype(number: int, label: str) -> DataType:
    try:
        return DataType(number)
    except ValueError as error:
        raise SparkplugError(f"{label}: datatype {number} is unknown") from error
