"""What a delivery may be: every wrong row is named, and nothing from outside raises anything but our own errors."""

from __future__ import annotations

import gzip
import json
import tracemalloc
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from tieline_cloud.doors.deliveries import FRAME, JSON, DeliveryRefusedError, read_delivery
from tieline_cloud.doors.unpack import unpack
from tieline_core.errors import BadInputError, TielineError
from tieline_core.frame import encode_readings
from tieline_core.ids import EdgeId, PointId
from tieline_core.quantities import Quality, Reading

MDM = EdgeId("mdm")
AT = datetime(2026, 11, 20, 12, tzinfo=UTC)
GOOD: dict[str, Any] = {"point": "mdm/m1/p_w", "measured_at": "2026-11-20T12:00:00Z", "value": 1.5}


def read(tree: Any) -> list[Reading]:
    return read_delivery(json.dumps(tree).encode(), JSON, "test", (MDM,)).readings()


def test_rows_and_columns_say_the_same() -> None:
    rows = [GOOD, GOOD | {"point": "mdm/m2/p_w", "value": None, "quality": "bad"}]
    columns = {key: [row.get(key) for row in rows] for key in ("point", "measured_at", "value")}
    by_rows = read({"rows": rows})
    assert by_rows == read({"columns": columns | {"quality": ["good", "bad"]}})
    assert by_rows == [
        Reading(PointId("mdm/m1/p_w"), 1.5, AT),
        Reading(PointId("mdm/m2/p_w"), None, AT, Quality.BAD),
    ]


def test_a_readings_body_of_the_wire_contract_is_taken() -> None:
    rows = [Reading(PointId("mdm/m1/p_w"), 1.5 * n, AT + timedelta(seconds=n)) for n in range(10)]
    assert read_delivery(encode_readings(rows), FRAME, "test", (MDM,)).readings() == rows


@pytest.mark.parametrize(
    ("change", "key", "reason"),
    [
        ({"point": "harbour/m1/p_w"}, "rows[1].point", "points of this source begin with mdm/"),
        ({"point": "Meter 1"}, "rows[1].point", "expected a form like"),
        ({"point": 7}, "rows[1].point", "expected text"),
        ({"measured_at": "2026-11-20 12:00"}, "rows[1].measured_at", "no time zone"),
        ({"measured_at": "soon"}, "rows[1].measured_at", "expected 2026"),
        ({"measured_at": 1763640000}, "rows[1].measured_at", "expected text"),
        ({"measured_at": "1970-01-01T00:00:00Z"}, "rows[1].measured_at", "from 2000"),
        ({"value": "1.5"}, "rows[1].value", "expected a number"),
        ({"value": True}, "rows[1].value", "expected a number"),
        ({"value": None}, "rows[1].value", "there is no number"),
        ({"value": 10**400}, "rows[1].value", "too large"),
        ({"value": 1.0, "quality": "bad"}, "rows[1].value", "carries no number"),
        ({"quality": "excellent"}, "rows[1].quality", "is none of good"),
        ({"colour": "red"}, "rows[1]", "expected point"),
        ({}, "rows[1].point", "stands twice"),
    ],
)
def test_a_wrong_row_is_named_with_key_value_and_reason(change: dict[str, Any], key: str, reason: str) -> None:
    with pytest.raises(DeliveryRefusedError) as caught:
        read({"rows": [GOOD, GOOD | change]})
    assert caught.value.problems[0].key == key
    assert reason in caught.value.problems[0].reason


@pytest.mark.parametrize(
    "body", [b'{"rows":[' + b"{}," * 2_000_000 + b"{}]}", b'{"rows":[{' + b'"a":1,' * 2_000_000 + b'"b":1}]}']
)
def test_a_body_of_millions_of_things_is_refused_before_anything_is_built_of_it(body: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(BadInputError, match="1 to 100000 rows"):
            read_delivery(body, JSON, "test", (MDM,))
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_a_delivery_of_the_most_rows_is_taken() -> None:
    rows = [GOOD | {"measured_at": (AT + timedelta(seconds=n)).isoformat(), "quality": "good"} for n in range(100_000)]
    assert len(read({"rows": rows})) == 100_000


def test_only_the_first_hundred_wrong_rows_are_named_and_all_are_counted() -> None:
    with pytest.raises(DeliveryRefusedError) as caught:
        read({"rows": [GOOD | {"value": "x"}] * 5000})
    assert (len(caught.value.problems), caught.value.count) == (100, 5000)


@pytest.mark.parametrize(
    "tree",
    [None, [], {}, {"rows": {}}, {"rows": []}, {"rows": [GOOD], "columns": {}}, {"columns": {"point": []}}, {"lines": []}],
)
def test_a_body_of_another_form_is_refused_as_a_whole(tree: Any) -> None:
    with pytest.raises(BadInputError):
        read(tree)


@given(st.binary(max_size=400))
@settings(max_examples=300)
def test_no_bytes_escape_our_errors(body: bytes) -> None:
    for media_type in (JSON, FRAME, "text/plain"):
        with pytest.raises(TielineError):
            read_delivery(body, media_type, "test", (MDM,))
    for encoding in ("gzip", "zstd", "br"):
        with pytest.raises(BadInputError):
            unpack(b"\x00" + body, encoding, 1000, "test")


_KEYS = st.sampled_from(["point", "measured_at", "value", "quality", "rows"])
_LEAVES = st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(max_size=9)


@given(st.recursive(_LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner), max_leaves=12))
def test_no_json_escapes_our_errors(tree: Any) -> None:
    for body in (tree, {"rows": tree}, {"rows": [tree]}, {"columns": tree}, {"rows": [{**GOOD, "value": tree}]}):
        try:
            read(body)
        except TielineError:
            continue


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.ZstdCompressor().compress], ids=["gzip", "zstd"])
def test_packed_bodies_are_unpacked_and_bombs_are_refused_at_the_limit(pack: Any) -> None:
    encoding = "gzip" if pack is gzip.compress else "zstd"
    assert unpack(pack(b"content"), encoding, 100, "test") == b"content"
    with pytest.raises(BadInputError, match="at most 1000 bytes"):
        unpack(pack(bytes(50_000_000)), encoding, 1000, "test")
    with pytest.raises(BadInputError):
        unpack(pack(b"content" * 50)[:-6], encoding, 1000, "test")
