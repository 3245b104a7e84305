"""From bytes on a topic to the ledger's words, or to the reason why not."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from tieline_cloud.ingest.reception import Garbage, read_frame, read_hello
from tieline_cloud.store.ports import LedgerFrame
from tieline_core import topics
from tieline_core.frame import DEFAULT_LIMITS, RECORDS_HEADER, Frame, Limits, encode, encode_readings, encode_records
from tieline_core.ids import EdgeId, PointId
from tieline_core.messages.telemetry import Event, FrameKind, Severity, Skip, SkipReason, Stream
from tieline_core.quantities import Reading

T0 = datetime(2026, 1, 15, tzinfo=UTC)
HARBOUR = EdgeId("harbour")
TOPIC = topics.frame("harbour", "measure")


def framed(body: bytes, kind: FrameKind = FrameKind.READINGS, seq: int = 1, stream: Stream = Stream.MEASURE) -> bytes:
    return encode(Frame(HARBOUR, 1, stream, seq, kind, body))


def read(payload: bytes, topic: str = TOPIC, limits: Limits = DEFAULT_LIMITS) -> LedgerFrame | Garbage:
    return read_frame(topic, payload, T0, limits)


def test_readings_come_out_as_columns() -> None:
    rows = [Reading(PointId("harbour/m1/p_w"), 1.5, T0)]
    got = read(framed(encode_readings(rows), seq=7))
    assert isinstance(got, LedgerFrame)
    assert got.readings is not None
    assert got.readings.readings() == rows
    assert (got.first_seq, got.seq, got.refused) == (7, 7, None)


def test_a_skip_covers_its_span_and_has_to_end_at_its_own_number() -> None:
    skip = Skip(first=3, last=9, reason=SkipReason.EVICTED, readings=10)
    got = read(framed(skip.to_bytes(), FrameKind.SKIP, seq=9))
    assert isinstance(got, LedgerFrame)
    assert (got.first_seq, got.seq, got.skip) == (3, 9, skip)
    wrong = read(framed(skip.to_bytes(), FrameKind.SKIP, seq=3))
    assert isinstance(wrong, LedgerFrame)
    assert wrong.refused is not None
    assert "has to be the last" in wrong.refused.reason


@pytest.mark.parametrize(
    ("body", "kind", "fragment"),
    [
        (b"", FrameKind.READINGS, "shorter than its header"),
        (encode_readings([Reading(PointId("mill/m1/p_w"), 1.0, T0)]), FrameKind.READINGS, "no point of harbour"),
        (
            encode_readings([Reading(PointId("harbour/m1/p_w"), 1.0, datetime(1899, 1, 1, tzinfo=UTC))]),
            FrameKind.READINGS,
            "1900 to 3000",
        ),
        (
            encode_records(
                [Event(event_id="event-01", edge_id=EdgeId("mill"), severity=Severity.ALARM, code="a.bc", text="", at=T0)]
            ),
            FrameKind.RECORDS,
            "a record of mill",
        ),
        (b"{}", FrameKind.SKIP, "first"),
    ],
)
def test_a_whole_frame_with_a_wrong_body_keeps_its_place_and_says_why(body: bytes, kind: FrameKind, fragment: str) -> None:
    got = read(framed(body, kind, seq=5))
    assert isinstance(got, LedgerFrame)
    assert got.refused is not None
    assert fragment in got.refused.reason
    assert (got.first_seq, got.seq, got.readings, got.events) == (5, 5, None, ())


@pytest.mark.parametrize(
    ("topic", "fragment"),
    [
        (topics.frame("mill", "measure"), "on the topic of mill/measure"),
        (topics.frame("harbour", "alarm"), "on the topic of harbour/alarm"),
        ("tieline/v1/harbour/up/hello", "no frame topic"),
    ],
)
def test_a_frame_on_the_wrong_topic_is_garbage(topic: str, fragment: str) -> None:
    got = read(framed(encode_readings([Reading(PointId("harbour/m1/p_w"), 1.0, T0)])), topic)
    assert isinstance(got, Garbage)
    assert fragment in got.reason


FORECAST = {
    "record": "forecast",
    "point": "harbour/site/load_w",
    "model_id": "load-1",
    "issued_at": "2026-01-15T00:00:00Z",
    "start": "2026-01-15T00:00:00Z",
    "step_s": 900,
    **{key: [1.0] for key in ("p10", "p50", "p90", "lo90", "hi90")},
}
EVENT = {
    "record": "event",
    "event_id": "event-01",
    "edge_id": "harbour",
    "severity": "ALARM",
    "code": "a.bc",
    "text": "",
    "at": "2026-01-15T00:00:00Z",
}


def recorded(tree: dict[str, object]) -> bytes:
    raw = json.dumps([tree]).encode()
    return framed(RECORDS_HEADER.pack(len(raw)) + zstandard.compress(raw), FrameKind.RECORDS)


@pytest.mark.parametrize("tree", [FORECAST, EVENT])
def test_sound_records_are_taken(tree: dict[str, object]) -> None:
    got = read(recorded(tree))
    assert isinstance(got, LedgerFrame)
    assert got.refused is None


@pytest.mark.parametrize(
    ("tree", "fragment"),
    [
        ({**EVENT, "event_id": "event\0-00001"}, "event_id"),
        ({**EVENT, "event_id": "event-1\ndata: forged\n\n"}, "event_id"),
        ({**EVENT, "at": "0001-01-01T00:00:00+14:00"}, "1900 to 3000"),
        ({**EVENT, "at": "9999-12-31T23:59:59-14:00"}, "1900 to 3000"),
        ({**FORECAST, "model_id": "load\0"}, "model_id"),
        ({**FORECAST, "step_s": 10**30}, "step_s"),
        ({**FORECAST, "p10": [1.0, 2.0]}, "different numbers of steps"),
        ({**FORECAST, "start": "9999-12-31T00:00:00Z"}, "1900 to 3000"),
        ({**FORECAST, "issued_at": "0001-01-01T00:00:00+14:00"}, "1900 to 3000"),
    ],
)
def test_records_that_a_store_or_a_reader_would_break_on_are_refused_with_the_reason(
    tree: dict[str, object], fragment: str
) -> None:
    got = read(recorded(tree))
    assert isinstance(got, LedgerFrame)
    assert got.refused is not None
    assert fragment in got.refused.reason


def test_the_limits_hold_before_anything_is_unpacked() -> None:
    got = read(framed(b"x" * 100), limits=Limits(frame_bytes=50))
    assert isinstance(got, Garbage)
    assert "at most 50" in got.reason


@given(st.binary(max_size=300))
def test_random_bytes_are_garbage_with_a_reason_and_never_an_exception(payload: bytes) -> None:
    got = read(payload)
    assert isinstance(got, Garbage)
    assert got.reason
    assert isinstance(read_hello("tieline/v1/harbour/up/hello", payload), Garbage)


@given(st.binary(max_size=200), st.sampled_from(FrameKind))
def test_random_bodies_in_a_whole_frame_are_refused_and_never_an_exception(body: bytes, kind: FrameKind) -> None:
    got = read(framed(body, kind))
    assert isinstance(got, LedgerFrame)
    assert got.refused is not None


GOLDEN = [path.read_bytes() for path in sorted((Path(__file__).parents[2] / "contract/golden").glob("*.bin"))]


@given(st.sampled_from(GOLDEN), st.integers(0, 10_000), st.binary(min_size=1, max_size=6))
def test_a_mutated_golden_frame_becomes_a_frame_or_garbage_and_never_an_exception(data: bytes, at: int, new: bytes) -> None:
    at %= len(data)
    changed = data[:at] + new + data[at + len(new) :]
    for payload in (changed, changed[: at + 1], data + new):
        assert isinstance(read(payload), LedgerFrame | Garbage)
        assert isinstance(read_hello("tieline/v1/harbour/up/hello", payload), Garbage)


@given(
    st.dictionaries(
        st.sampled_from(["version", "edge_id", "epoch", "boot_id", "nonce", "streams", "software", "at", "x"]),
        st.one_of(st.integers(), st.text(max_size=20), st.none(), st.just("harbour"), st.just({"measure": {"next_seq": 1}})),
    )
)
def test_a_hello_of_odd_values_is_garbage_with_a_reason(tree: dict[str, object]) -> None:
    got = read_hello("tieline/v1/harbour/up/hello", json.dumps(tree).encode())
    assert isinstance(got, Garbage)
    assert got.reason


def test_a_hello_of_a_million_brackets_is_refused_by_its_size() -> None:
    got = read_hello("tieline/v1/harbour/up/hello", b"[" * 1_000_000)
    assert isinstance(got, Garbage)
    assert len(got.reason) < 1000
