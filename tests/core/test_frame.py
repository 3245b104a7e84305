"""The durable-lane codec: what goes in comes out, and what is not a frame is refused with a reason."""

from __future__ import annotations

import struct
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from tieline_core.errors import FrameError
from tieline_core.frame import (
    HEADER,
    READINGS_HEADER,
    Frame,
    Limits,
    decode,
    decode_readings,
    decode_records,
    encode,
    encode_readings,
    encode_records,
)
from tieline_core.ids import EdgeId, PointId
from tieline_core.messages.telemetry import Event, FrameKind, Severity, Stream
from tieline_core.quantities import QUANTITIES, Quality, Reading, round_to

AT = datetime(2016, 12, 7, 17, 30, tzinfo=UTC)
POINT = PointId("harbour/tr1/p_w")


def frame(body: bytes = b"body", kind: FrameKind = FrameKind.READINGS) -> Frame:
    return Frame(EdgeId("harbour"), 3, Stream.MEASURE, 42, kind, body)


def test_a_frame_comes_back_as_it_was_sent() -> None:
    assert decode(encode(frame())) == frame()


def test_the_hash_belongs_to_the_content_not_to_its_place_in_a_stream() -> None:
    assert frame().relabelled(9, 1).sha256 == frame().sha256
    assert frame(b"other").sha256 != frame().sha256
    assert frame(kind=FrameKind.RECORDS).sha256 != frame().sha256


@given(st.integers(0, 200), st.integers(1, 255))
def test_one_altered_byte_anywhere_is_refused(position: int, mask: int) -> None:
    data = bytearray(encode(frame(encode_readings([Reading(POINT, 1.0, AT)]))))
    data[position % len(data)] ^= mask
    with pytest.raises(FrameError):
        decode(bytes(data))


@given(st.binary(max_size=300))
def test_random_bytes_raise_nothing_but_a_frame_error(data: bytes) -> None:
    for attempt in (decode, decode_readings, decode_records):
        with pytest.raises(FrameError):
            attempt(data)


POINTS = st.sampled_from([f"harbour/bat1/{key}" for key in QUANTITIES] + ["harbour/bat1/vendor_x"])
NUMBERS = st.floats(-1e13, 1e13, allow_nan=False)


@st.composite
def readings(draw: st.DrawFn) -> Reading:
    quality = draw(st.sampled_from(Quality))
    absent = quality is Quality.BAD or (quality is Quality.STALE and draw(st.booleans()))
    at = AT + timedelta(microseconds=draw(st.integers(-(10**12), 10**12)))
    return Reading(PointId(draw(POINTS)), None if absent else draw(NUMBERS), at, quality)


def at_resolution(reading: Reading) -> tuple[str, datetime, float | None, Quality]:
    quantity = QUANTITIES.get(reading.point.quantity)
    value = reading.value
    if value is not None and quantity is not None:
        value = round_to(value, quantity.exponent)
    return str(reading.point), reading.measured_at, value, reading.quality


@settings(max_examples=200)
@given(st.lists(readings(), min_size=1, max_size=60))
def test_readings_come_back_exactly_at_their_declared_resolution(rows: list[Reading]) -> None:
    back = decode_readings(encode_readings(rows)).readings()
    key = lambda row: (row[0], row[1], row[3], row[2] is None, row[2] or 0.0)  # noqa: E731 (a sort key used twice)
    expected, got = sorted(map(at_resolution, rows), key=key), sorted(map(at_resolution, back), key=key)
    for want, have in zip(expected, got, strict=True):
        assert (want[0], want[1], want[3]) == (have[0], have[1], have[3])
        if want[2] is None or have[2] is None:
            assert want[2] is have[2]
        else:
            exponent = getattr(QUANTITIES.get(PointId(want[0]).quantity), "exponent", None)
            assert have[2] == want[2] or (exponent is not None and abs(have[2] - want[2]) <= 1.001 * 10.0**exponent)


@pytest.mark.parametrize(
    ("point", "value"),
    [
        pytest.param("harbour/tr1/p_w", 50_000_000.1, id="50_MW_in_W"),
        pytest.param("harbour/fm1/e_import_wh", 10_000_000_000_000.0, id="10_TWh_in_Wh"),
        pytest.param("harbour/tr1/p_w", -250_000.5, id="half_a_watt_survives"),
        pytest.param("harbour/tr1/i_a", 0.01, id="smallest_step"),
        pytest.param("harbour/bat1/vendor_x", 1.2345678901234567e-12, id="unknown_quantity_travels_as_float64"),
        pytest.param("harbour/tr1/p_w", 9.1e15, id="too_large_for_the_scale_travels_as_float64"),
    ],
)
def test_no_value_overflows_or_drifts(point: str, value: float) -> None:
    rows = [Reading(PointId(point), value, AT + timedelta(seconds=i)) for i in range(3)]
    assert decode_readings(encode_readings(rows)).values.tolist() == [value] * 3


def test_a_thousand_regular_readings_take_a_few_bytes_each() -> None:
    rng = np.random.default_rng(0)
    walk = 40_000 + rng.normal(0, 50, (20, 50)).cumsum(axis=1)
    rows = [
        Reading(PointId(f"harbour/m{device:02d}/p_w"), round(float(value), 1), AT + timedelta(seconds=60 * k))
        for device, series in enumerate(walk)
        for k, value in enumerate(series)
    ]
    assert len(encode_readings(rows)) / len(rows) < 3.5


def test_a_zip_bomb_is_refused_before_it_is_unpacked() -> None:
    bomb = zstandard.ZstdCompressor(19).compress(bytes(64 * 1024 * 1024))
    with pytest.raises(FrameError, match="at most"):
        decode_readings(READINGS_HEADER.pack(10, 1, 0, 64 * 1024 * 1024) + bomb)
    with pytest.raises(FrameError, match="differs"):
        decode_readings(READINGS_HEADER.pack(10, 1, 0, 300) + bomb)
    with pytest.raises(FrameError, match="for 10 readings of 1 points"):
        decode_readings(READINGS_HEADER.pack(10, 1, 0, 4_000_000) + bomb)


def test_sizes_are_checked_before_parsing() -> None:
    with pytest.raises(FrameError, match="at most 10 are read"):
        decode(encode(frame()), Limits(frame_bytes=10))
    with pytest.raises(FrameError, match="readings of"):
        decode_readings(encode_readings([Reading(POINT, 1.0, AT)] * 3), Limits(readings=2))


@pytest.mark.parametrize(
    ("offset", "value", "message"),
    [
        pytest.param(0, b"TLF9", "starts with", id="magic"),
        pytest.param(7, b"\x01", "reserved", id="reserved"),
    ],
)
def test_the_reason_names_what_is_wrong(offset: int, value: bytes, message: str) -> None:
    data = bytearray(encode(frame()))
    data[offset : offset + len(value)] = value
    with pytest.raises(FrameError, match=message):
        decode(bytes(data))


def test_a_truncated_frame_says_how_long_it_should_be() -> None:
    with pytest.raises(FrameError, match="the header says"):
        decode(encode(frame())[:-1])
    with pytest.raises(FrameError, match="shorter than a header"):
        decode(b"TLF1")


def test_events_come_back_as_they_were_recorded() -> None:
    event = Event(
        event_id="e-0000001",
        edge_id=EdgeId("harbour"),
        severity=Severity.ALARM,
        code="shed.thermal",
        text="tr1 at 127 % for 8 s",
        at=AT,
        data={"loading_pct": 127.3},
    )
    assert decode_records(encode_records([event])) == [event]


def test_a_record_of_unknown_kind_is_refused_with_its_place() -> None:
    raw = b'[{"record":"poem"}]'
    with pytest.raises(FrameError, match="record 0"):
        decode_records(struct.pack("<I", len(raw)) + zstandard.ZstdCompressor().compress(raw))


def test_the_header_has_the_documented_size() -> None:
    assert (HEADER.size, READINGS_HEADER.size) == (28, 18)


def test_a_million_wrong_records_cost_one_error() -> None:
    raw = b"[" + b"{}," * 200_000 + b"{}]"
    with pytest.raises(FrameError, match="record 0"):
        decode_records(struct.pack("<I", len(raw)) + zstandard.ZstdCompressor().compress(raw))


@pytest.mark.parametrize(("epoch", "seq"), [(2**32 - 1, 1), (1, 2**62 + 1), (1, 2**64 - 1), (0, 1), (1, 0)])
def test_epochs_and_sequence_numbers_that_no_store_holds_are_refused(epoch: int, seq: int) -> None:
    with pytest.raises(FrameError, match="epoch"):
        decode(encode(Frame(EdgeId("harbour"), epoch, Stream.MEASURE, seq, FrameKind.SKIP, b"")))
