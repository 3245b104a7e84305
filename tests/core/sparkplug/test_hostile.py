"""Payloads made to hurt: counted before they are parsed, and nothing but our own error escapes."""

from __future__ import annotations

import math
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tieline_core.sparkplug import payload as codec
from tieline_core.sparkplug.metric import DataType, Limits, Metric, Payload, Property, Scalar, SparkplugError
from tieline_core.sparkplug.payload import decode, encode
from tieline_core.sparkplug.schema import count_fields

VALUES: list[tuple[DataType, Scalar]] = [
    (DataType.DOUBLE, 1.5),
    (DataType.INT64, -5),
    (DataType.STRING, "text"),
    (DataType.BOOLEAN, True),
]
QUALITY = {"Quality": Property(DataType.INT32, 192)}
VALID = encode(
    Payload(tuple(Metric(f"m{i}", value, kind, i, 5, properties=QUALITY) for i, (kind, value) in enumerate(VALUES)), 7, 3)
)


class Bomb:
    """A protobuf class that must not be reached."""

    @staticmethod
    def FromString(_data: bytes) -> None:  # noqa: N802 (protobuf's name)
        raise AssertionError("parsed before it was counted")


@contextmanager
def little_memory() -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        pytest.param(b"\0" * 100_000_000, "100000000 bytes", id="100 MB"),
        pytest.param(b"\x12\x00" * 1_000_000, "2000000 bytes", id="a million metrics"),
        pytest.param(b"\x12\x00" * 500_000, "more metrics", id="half a million metrics within the size"),
    ],
)
def test_what_is_too_much_is_refused_before_it_is_parsed(monkeypatch: pytest.MonkeyPatch, data: bytes, reason: str) -> None:
    monkeypatch.setattr(codec, "PayloadMessage", Bomb)
    with little_memory(), pytest.raises(SparkplugError, match=reason):
        decode(data)


@pytest.mark.parametrize("entry", [b"\x0a\x00", b"\x12\x00"], ids=["keys", "values"])
def test_properties_are_counted_before_they_are_parsed(monkeypatch: pytest.MonkeyPatch, entry: bytes) -> None:
    monkeypatch.setattr(codec, "PropertySetMessage", Bomb)
    properties = entry * 400_000
    size = bytes([len(properties) & 0x7F | 0x80, len(properties) >> 7 & 0x7F | 0x80, len(properties) >> 14])
    metric = b"\x0a\x01x\x4a" + size + properties
    length = len(metric)
    data = b"\x12" + bytes([length & 0x7F | 0x80, length >> 7 & 0x7F | 0x80, length >> 14]) + metric
    with pytest.raises(SparkplugError, match="at most 16 properties"):
        decode(data)


@given(st.data())
def test_a_valid_payload_that_was_damaged_raises_nothing_but_our_error(data: st.DataObject) -> None:
    body = bytearray(VALID)
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(body) - 1))
        action = data.draw(st.sampled_from(["flip", "insert", "cut", "repeat"]))
        if action == "flip":
            body[at] = data.draw(st.integers(0, 255))
        elif action == "insert":
            body[at:at] = data.draw(st.binary(max_size=12))
        elif action == "cut" and len(body) > at + 4:
            del body[at : at + data.draw(st.integers(1, 4))]
        else:
            body[at:at] = body[at : at + 20]
    for null_for_nan in (False, True):
        try:
            payload = decode(bytes(body), null_for_nan=null_for_nan)
        except SparkplugError:
            continue
        assert all(not isinstance(metric.value, float) or math.isfinite(metric.value) for metric in payload.metrics)


@given(st.integers(0, 30), st.binary(max_size=60))
def test_counting_agrees_with_the_parser_and_survives_anything(metrics: int, garbage: bytes) -> None:
    body = encode(Payload(tuple(Metric(f"m{i}", i, DataType.INT32) for i in range(metrics)), 1, 1))
    assert count_fields(body, 2, 0) == min(metrics, 1)
    assert count_fields(body, 2, 5) == (min(metrics, 6) if len(body) > 10 else 0)
    assert (count_fields(body, 2, 25) > 25) == (metrics > 25)
    assert count_fields(garbage, 2, 100) <= len(garbage)


def test_a_number_that_is_none_may_become_null_and_is_counted() -> None:
    nan = b"\x12\x0c\x0a\x01x\x69\x00\x00\x00\x00\x00\x00\xf8\x7f"
    payload = decode(nan, null_for_nan=True)
    assert (payload.metrics[0].value, payload.metrics[0].quality.name, payload.not_finite) == (None, "BAD", 1)
    with pytest.raises(SparkplugError, match="finite"):
        decode(nan, Limits())


def test_arrays_of_the_third_version_are_read_past() -> None:
    metric = b"\x0a\x01a\x20\x1e\x82\x01\x04\x00\x00\x80\x3f"
    read = decode(b"\x12" + bytes([len(metric)]) + metric).metrics[0]
    assert (read.datatype, read.value) == (DataType.FLOAT_ARRAY, None)
