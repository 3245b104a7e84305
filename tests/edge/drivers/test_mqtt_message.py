"""JSON messages of meters from hostile hands: nothing but our own error escapes, and nothing grows."""

from __future__ import annotations

import json
import math
import tracemalloc
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tieline_core.errors import BadInputError
from tieline_core.ids import EdgeId
from tieline_core.quantities import Reading
from tieline_edge.drivers.catalog.load import entry
from tieline_edge.drivers.catalog.messages import MessageForm
from tieline_edge.drivers.mqtt.message import MAX_BYTES, parse_message, readings_of
from tieline_edge.drivers.points import PointTable, good_reading
from tieline_edge.settings import DeviceSettings

ENTRY = entry("mqtt-json-meter")
SETTINGS = DeviceSettings.model_validate({"id": "m01", "catalog": "mqtt-json-meter", "mqtt": {"serial": "m01"}})
POINTS = PointTable(EdgeId("harbour"), SETTINGS, ENTRY)
KEYS = [row.point.field or "" for row in POINTS]


def form() -> MessageForm:
    assert ENTRY.message is not None
    return ENTRY.message


def read(payload: bytes) -> list[Reading]:
    """Readings of a payload; empty when it was refused with our own error."""
    try:
        return readings_of(parse_message(payload, form(), "meters/m01"), POINTS, "meters/m01")
    except BadInputError:
        return []


_scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(10**400), 10**400)
    | st.floats(allow_nan=True, allow_infinity=True)
    | st.text(max_size=20)
)
_values = st.recursive(
    _scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
)
_stamps = st.sampled_from(
    [
        "2026-01-15T12:00:00Z",
        "2026-01-15T12:00:00+23:59",
        "0001-01-01T00:00:00+23:59",
        "9999-12-31T23:59:59-23:59",
        "2026-01-15T12:00:00",
        "2026-W03-4T12:00:00Z",
        "20260115T120000,5Z",
    ]
)


@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_random_bytes_raise_nothing_but_our_error(payload: bytes) -> None:
    assert read(payload) == []


@given(
    st.fixed_dictionaries(
        {},
        optional={
            form().id_key: st.just("0001") | _values,
            form().time_key: _stamps | _values,
            **dict.fromkeys(KEYS, _values),
        },
    )
)
def test_messages_of_the_right_form_with_any_values_give_sound_readings_or_our_error(message: dict[str, Any]) -> None:
    for row in read(json.dumps(message).encode()):
        assert row.value is not None
        assert math.isfinite(row.value)


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(b"[" * MAX_BYTES, id="deep list"),
        pytest.param(b'{"a":' * (MAX_BYTES // 5), id="deep object"),
        pytest.param(b'{"id":"1","ts":"2026-01-15T12:00:00Z","p":' + b"9" * 4000 + b"}", id="number of 4000 digits"),
        pytest.param(b'{"id":"1","ts":"2026-01-15T12:00:00Z","p":1e999}', id="number beyond a float"),
        pytest.param(b'{"id":"\\ud800","ts":"2026-01-15T12:00:00Z"}', id="half a character"),
        pytest.param(b"\xef\xbb\xbf{}", id="byte order mark"),
        pytest.param(b"\xff\xfe{\x00}\x00", id="another encoding"),
    ],
)
def test_messages_made_to_hurt_are_refused(payload: bytes) -> None:
    assert read(payload) == []


def test_a_hundred_megabytes_are_refused_before_anything_is_made_of_them() -> None:
    payload = b"[0," * 33_000_000
    tracemalloc.start()
    try:
        assert read(payload) == []
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1_000_000


@pytest.mark.parametrize("absurd", [1e15, -1e15, 1e300, 1.7e308])
def test_a_number_beyond_everything_a_field_shows_is_no_reading(absurd: float) -> None:
    """A sum of two such numbers is infinite, and the control loop adds powers up."""
    row = next(iter(POINTS))
    with pytest.raises(ValueError, match="beyond"):
        good_reading(row, absurd, datetime(2026, 1, 15, tzinfo=UTC))
