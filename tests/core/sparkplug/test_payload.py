"""The payload codec: bytes by hand, round trips, refusals."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tieline_core.quantities import Quality
from tieline_core.sparkplug.metric import DataType, Limits, Metric, Payload, Property, SparkplugError, fold, quality_properties
from tieline_core.sparkplug.payload import decode, encode


def test_a_birth_metric_has_the_bytes_of_the_specification() -> None:
    payload = Payload(
        metrics=(Metric(name="p_w", value=1.5, datatype=DataType.DOUBLE, alias=3, timestamp_ms=2),), timestamp_ms=1, seq=0
    )
    metric = b"\x0a\x03p_w\x10\x03\x18\x02\x20\x0a\x69\x00\x00\x00\x00\x00\x00\xf8\x3f"
    assert encode(payload) == b"\x08\x01" + b"\x12" + bytes([len(metric)]) + metric + b"\x18\x00"
    assert decode(encode(payload)) == payload


def test_a_negative_int64_travels_as_two_s_complement_in_the_unsigned_field() -> None:
    metric = Metric(name="x", value=-5, datatype=DataType.INT64)
    assert b"\x58\xfb\xff\xff\xff\xff\xff\xff\xff\xff\x01" in encode(Payload(metrics=(metric,)))
    assert decode(encode(Payload(metrics=(metric,)))).metrics[0].value == -5


def test_a_null_has_its_flag_and_no_value() -> None:
    data = encode(Payload(metrics=(Metric(name="x", datatype=DataType.DOUBLE),)))
    assert data == b"\x12\x07\x0a\x01x\x20\x0a\x38\x01"
    assert decode(data).metrics[0].value is None


def test_a_data_metric_under_its_alias_says_no_datatype() -> None:
    data = encode(Payload(metrics=(Metric(alias=9, value=-1, datatype=DataType.INT32),), seq=4))
    assert data == b"\x12\x08\x10\x09\x50\xff\xff\xff\xff\x0f\x18\x04"
    raw = decode(data).metrics[0]
    assert raw.datatype is None
    assert fold(raw.value or 0, DataType.INT32, "x") == -1


def test_a_data_set_is_read_past() -> None:
    metric = b"\x0a\x01t\x20\x10\x8a\x01\x02\x08\x01"
    read = decode(b"\x12" + bytes([len(metric)]) + metric).metrics[0]
    assert (read.datatype, read.value) == (DataType.DATASET, None)


@pytest.mark.parametrize("quality", list(Quality))
def test_quality_survives_the_three_codes_of_the_standard(quality: Quality) -> None:
    properties = quality_properties(quality)
    assert properties["Quality"].value in (0, 192, 500)
    value = None if quality is Quality.BAD else 1.0
    metric = Metric(name="x", value=value, datatype=DataType.DOUBLE, properties=properties)
    assert decode(encode(Payload(metrics=(metric,)))).metrics[0].quality is quality


def test_a_metric_without_quality_is_good_and_a_null_without_quality_is_bad() -> None:
    assert Metric(name="x", value=1.0).quality is Quality.GOOD
    assert Metric(name="x").quality is Quality.BAD


@pytest.mark.parametrize(
    ("wire", "datatype", "number"),
    [
        pytest.param(0xFB, DataType.INT8, -5, id="narrow two's complement"),
        pytest.param(0xFFFFFFFB, DataType.INT8, -5, id="sign-extended to 32 bits"),
        pytest.param(0xFFFFFFFB, DataType.INT32, -5, id="int32"),
        pytest.param(5, DataType.INT16, 5, id="positive"),
        pytest.param(2**63, DataType.UINT64, 2**63, id="uint64 stays"),
        pytest.param(2**63, DataType.INT64, -(2**63), id="smallest int64"),
    ],
)
def test_wire_integers_fold_to_their_datatype(wire: int, datatype: DataType, number: int) -> None:
    assert fold(wire, datatype, "x") == number


@pytest.mark.parametrize(
    ("value", "datatype"),
    [
        (math.nan, DataType.DOUBLE),
        (math.inf, DataType.FLOAT),
        (1.0, DataType.INT32),
        (True, DataType.INT32),
        (1, DataType.BOOLEAN),
        (2**31, DataType.INT32),
        (-1, DataType.UINT64),
        ("x", DataType.DOUBLE),
        ("x", DataType.DATASET),
        (1e300, DataType.FLOAT),
    ],
)
def test_a_value_that_is_not_of_its_datatype_is_refused_with_the_metric_s_name(value: float, datatype: DataType) -> None:
    with pytest.raises(SparkplugError, match=r"bay/load"):
        encode(Payload(metrics=(Metric(name="bay/load", value=value, datatype=datatype),)))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\x12\x0c\x0a\x01x\x69\x00\x00\x00\x00\x00\x00\xf8\x7f", "not a finite number"),
        (b"\x12\x05\x0a\x01x\x20\x63", "datatype 99 is unknown"),
        (b"\x12\x02\x20\x0a", "neither name nor alias"),
        (b"\x18\x80\x02", "seq 256"),
        (b"\x12\x0a\x0a\x01x\x4a\x05\x0a\x03key\x20", "not a Sparkplug payload"),
        (b"\x12\x0a\x0a\x01x\x4a\x05\x0a\x03key", "1 property keys for 0 values"),
        (b"\x12\x07\x0a\x01x\x20\x03\x70\x01", "is no INT32"),
        (b"\xff", "not a Sparkplug payload"),
    ],
)
def test_bytes_that_parse_are_not_yet_valid(data: bytes, reason: str) -> None:
    with pytest.raises(SparkplugError, match=reason):
        decode(data)


def test_limits_hold_on_both_sides() -> None:
    payload = Payload(metrics=tuple(Metric(name=f"m{i}", value=1, datatype=DataType.INT32) for i in range(4)))
    for limits in (Limits(max_metrics=3), Limits(max_bytes=20), Limits(max_name_chars=1)):
        with pytest.raises(SparkplugError):
            decode(encode(payload), limits)
        with pytest.raises(SparkplugError):
            encode(payload, limits)
    text = encode(Payload(metrics=(Metric(name="t", value="x" * 100, datatype=DataType.TEXT),)))
    with pytest.raises(SparkplugError, match="100 characters"):
        decode(text, Limits(max_text_bytes=99))


def _values() -> st.SearchStrategy[tuple[DataType, bool | int | float | str | bytes | None]]:
    def of(
        kind: DataType, values: st.SearchStrategy[bool | int | float | str | bytes]
    ) -> st.SearchStrategy[tuple[DataType, bool | int | float | str | bytes | None]]:
        return st.tuples(st.just(kind), st.none() | values)

    return st.one_of(
        of(DataType.INT8, st.integers(-128, 127)),
        of(DataType.INT16, st.integers(-(2**15), 2**15 - 1)),
        of(DataType.INT32, st.integers(-(2**31), 2**31 - 1)),
        of(DataType.INT64, st.integers(-(2**63), 2**63 - 1)),
        of(DataType.UINT32, st.integers(0, 2**32 - 1)),
        of(DataType.UINT64, st.integers(0, 2**64 - 1)),
        of(DataType.FLOAT, st.floats(width=32, allow_nan=False, allow_infinity=False)),
        of(DataType.DOUBLE, st.floats(allow_nan=False, allow_infinity=False)),
        of(DataType.BOOLEAN, st.booleans()),
        of(DataType.STRING, st.text(st.characters(codec="utf-8"), max_size=40)),
        of(DataType.BYTES, st.binary(max_size=40)),
    )


_metrics = st.builds(
    lambda name, typed, alias, ms, old, prop: Metric(
        name, typed[1], typed[0], alias, ms, is_historical=old, properties={"k": Property(*prop)} if prop else {}
    ),
    st.text(st.characters(codec="utf-8"), max_size=30),
    _values(),
    st.none() | st.integers(0, 2**64 - 1),
    st.none() | st.integers(0, 2**63),
    st.booleans(),
    st.none() | st.tuples(st.just(DataType.INT32), st.none() | st.integers(-(2**31), 2**31 - 1)),
)


@given(st.builds(Payload, st.lists(_metrics, max_size=8).map(tuple), st.none() | st.integers(0, 2**63), st.integers(0, 255)))
def test_what_is_encoded_is_decoded(payload: Payload) -> None:
    assert decode(encode(payload)) == payload


@given(st.binary(max_size=300) | st.binary(max_size=40).map(lambda tail: b"\x12" + bytes([len(tail)]) + tail))
def test_random_bytes_raise_nothing_but_our_error(data: bytes) -> None:
    try:
        payload = decode(data)
    except SparkplugError:
        return
    assert all(not isinstance(metric.value, float) or math.isfinite(metric.value) for metric in payload.metrics)
