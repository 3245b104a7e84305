"""Envelopes: only the right key, type, edge, time and counter open one."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tieline_core.errors import EnvelopeRefusedError
from tieline_core.ids import EdgeId
from tieline_core.signing import MAX_ENVELOPE_BYTES, EnvelopeType, Opened, Signer, key_id, open_envelope

NOW = datetime(2016, 12, 7, 17, tzinfo=UTC)
DAY = timedelta(days=1)
EDGE = EdgeId("harbour")
SIGNER = Signer(bytes(range(32)))
TRUSTED = {key_id(SIGNER.public): SIGNER.public}


def seal(payload: bytes = b"{}", kind: EnvelopeType = EnvelopeType.PLAN) -> bytes:
    return SIGNER.seal(kind, EDGE, payload, now=NOW, valid=(NOW, NOW + DAY))


def unseal(
    data: bytes,
    *,
    kind: EnvelopeType = EnvelopeType.PLAN,
    edge: str = EDGE,
    trusted: dict[str, bytes] = TRUSTED,
    now: datetime = NOW,
    last: int = 0,
) -> Opened:
    return open_envelope(
        data, kind=kind, edge=EdgeId(edge), trusted=trusted, now=now, accept_counter=lambda counter: counter > last
    )


@given(st.binary(max_size=500))
def test_the_payload_comes_back_byte_for_byte(payload: bytes) -> None:
    assert unseal(seal(payload)).payload == payload


@given(st.integers(0, 2000), st.integers(1, 255))
def test_no_altered_byte_changes_what_is_obeyed(position: int, mask: int) -> None:
    data = bytearray(seal(b'{"plan": 1}'))
    data[position % len(data)] ^= mask
    try:
        opened = unseal(bytes(data))
    except EnvelopeRefusedError:
        return
    assert opened.payload == b'{"plan": 1}'  # white space in the outer JSON may change, what is signed may not


@pytest.mark.parametrize(
    ("check", "changed"),
    [
        pytest.param("type", {"kind": EnvelopeType.MODEL}, id="another_type"),
        pytest.param("edge", {"edge": "mill"}, id="another_edge"),
        pytest.param("key", {"trusted": {}}, id="nobody_is_trusted"),
        pytest.param("validity", {"now": NOW + DAY * 2}, id="expired"),
        pytest.param("validity", {"now": NOW - DAY}, id="not_yet_valid"),
        pytest.param("replay", {"last": 10**15}, id="old_counter"),
    ],
)
def test_the_refusal_names_the_check(check: str, changed: dict[str, object]) -> None:
    with pytest.raises(EnvelopeRefusedError) as refusal:
        unseal(seal(), **changed)  # type: ignore[arg-type]  # the table above holds one keyword each
    assert refusal.value.check == check


def test_another_key_under_the_same_id_does_not_verify() -> None:
    forger = Signer(bytes(32))
    with pytest.raises(EnvelopeRefusedError) as refusal:
        unseal(seal(), trusted={key_id(SIGNER.public): forger.public})
    assert refusal.value.check == "signature"


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"{}", b"\xff\xfe", json.dumps({"protected": "!", "payload": "", "signature": ""}).encode()]
)
def test_garbage_is_a_format_refusal(data: bytes) -> None:
    with pytest.raises(EnvelopeRefusedError) as refusal:
        unseal(data)
    assert refusal.value.check == "format"
    assert "_Wire" not in str(refusal.value)


def test_size_is_checked_before_parsing() -> None:
    with pytest.raises(EnvelopeRefusedError, match="at most"):
        unseal(b" " * (MAX_ENVELOPE_BYTES + 1))


def test_counters_rise_even_when_the_clock_steps_back() -> None:
    signer = Signer(bytes(32))
    counters = []
    for now in (NOW, NOW, NOW - DAY):
        data = signer.seal(EnvelopeType.PLAN, EDGE, b"", now=now, valid=(NOW - DAY, NOW))
        counters.append(
            open_envelope(
                data, kind=EnvelopeType.PLAN, edge=EDGE, trusted={key_id(signer.public): signer.public}, now=NOW
            ).header.counter
        )
    assert counters == sorted(set(counters))
    assert counters[0] == int(NOW.timestamp() * 1000)


def test_a_counter_goes_on_from_the_stored_one() -> None:
    signer = Signer(Signer.new_private(), last_counter=10**18)
    signer.seal(EnvelopeType.PLAN, EDGE, b"", now=NOW, valid=(NOW, NOW))
    assert signer.last_counter == 10**18 + 1
