"""Payloads, keys, words and templates of MQTT devices, without a broker."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tieline_core.errors import BadInputError
from tieline_core.ids import DeviceId
from tieline_edge.drivers.capabilities import (
    Capability,
    DevicePermanentError,
    DeviceSpec,
    HoldPower,
    LimitGeneration,
    Release,
    Role,
    SwitchContact,
)
from tieline_edge.drivers.catalog.load import entry, parse_entry
from tieline_edge.drivers.mqtt.orders import plan_messages
from tieline_edge.drivers.mqtt.values import MAX_BYTES, document_of, number_of, value_at, word_of

DOCUMENT = {"ENERGY": {"Power": 12.5, "Phases": [1, 2, 3], "a.b": 4, "a/b": 5}, "POWER": "ON", "off": None}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("ENERGY.Power", 12.5),
        ("ENERGY.Phases.2", 3),
        ("ENERGY.Phases.3", None),
        ("ENERGY.Phases.x", None),
        ("/ENERGY/a.b", 4),
        ("/ENERGY/a~1b", 5),
        ("ENERGY.Power.deeper", None),
        ("POWER", "ON"),
        ("off", None),
        ("nothing", None),
        ("", DOCUMENT),
    ],
)
def test_a_key_finds_its_value_or_nothing(key: str, value: object) -> None:
    assert value_at(DOCUMENT, key) == value


@pytest.mark.parametrize(
    ("payload", "found"),
    [(b"ON", "ON"), (b" 230.4 \n", 230.4), (b"true", True), (b'{"a": 1}', {"a": 1}), (b"-0", 0), (b"Offline", "Offline")],
)
def test_a_payload_is_json_or_a_word(payload: bytes, found: object) -> None:
    assert document_of(payload, "t") == found


@pytest.mark.parametrize("payload", [b"", b"{", b"\xff", b"[" * 9000, b"x" * 65, b'{"a": NaN}', b" " * (MAX_BYTES + 1)])
def test_what_is_neither_is_refused(payload: bytes) -> None:
    with pytest.raises(BadInputError):
        document_of(payload, "t")


@given(st.binary(max_size=200) | st.text(max_size=60).map(str.encode))
def test_no_payload_gives_anything_but_a_finite_number_or_a_refusal(payload: bytes) -> None:
    for texts in (None, {"ON": 1.0, "OFF": 0.0}):
        try:
            number = number_of(document_of(payload, "t"), texts, "t", "", "p_w", 1000.0)
        except BadInputError:
            continue
        assert math.isfinite(number)
        assert texts is None or number in (0.0, 1.0)


def test_a_power_is_no_boolean_and_a_contact_may_be_one() -> None:
    assert number_of(True, None, "t", "k", "closed") == 1.0
    wrong: list[object] = [True, "12", [1], {}, float("inf"), 10**400]
    for value in wrong:
        with pytest.raises(BadInputError, match="a finite number is expected"):
            number_of(value, None, "t", "k", "p_w")
    with pytest.raises(BadInputError, match="one of ON, OFF is expected"):
        number_of("on", {"ON": 1.0, "OFF": 0.0}, "t", "k")


def test_words_are_compared_as_the_device_writes_them() -> None:
    assert [word_of(value) for value in (True, False, 1.0, 1, "Online", 0.5)] == ["true", "false", "1", "1", "Online", "0.5"]


def spec(name: str) -> DeviceSpec:
    model = entry(name)
    return DeviceSpec(DeviceId("d1"), model.role, frozenset(model.capabilities), p_min_w=-1500.0)


def test_templates_are_filled_in_with_numbers_and_the_name() -> None:
    model = entry("shelly-gen2-switch")
    first, second = plan_messages(SwitchContact(closed=False, off_timer_s=899.2), spec(model.name), model, "shop/plug1")
    assert first.topic == "shop/plug1/rpc"
    assert json.loads(first.payload) == {
        "id": 1, "src": "tieline/shop/plug1", "method": "Switch.Set", "params": {"id": 0, "on": False, "toggle_after": 900},
    }  # fmt: skip
    assert second.confirm is not None
    assert second.wanted == 0.0
    limit = entry("opendtu-inverter")
    (message,) = plan_messages(LimitGeneration(-505.0, 180.0), spec(limit.name), limit, "1161")
    assert (message.topic, message.payload) == ("solar/1161/cmd/limit_nonpersistent_relative", b"33.667")
    assert message.wanted == pytest.approx(33.667, abs=1e-3)
    (message,) = plan_messages(Release(), spec(limit.name), limit, "1161")
    assert message.payload == b"100"


def test_an_order_the_device_cannot_take_becomes_no_message() -> None:
    model = entry("tasmota-plug")
    for action in (HoldPower(0.0, 60.0), SwitchContact(closed=False, off_timer_s=-1.0)):
        with pytest.raises(DevicePermanentError, match="nothing was written"):
            plan_messages(action, spec(model.name), model, "p1")
    assert Capability.SWITCH in model.capabilities
    assert model.role is Role.LOAD


BLANK: dict[str, Any] = {
    "name": "a-plug",
    "title": "A plug",
    "source": "sheet of the maker",
    "protocol": "mqtt",
    "role": "load",
    "capabilities": ["measure", "switch"],
    "reports": {"report_s": 10},
    "points": [{"quantity": "closed", "messages": [{"topic": "{serial}/state"}]}],
    "orders": {
        name: [{"topic": "{serial}/set", "payload": "x", "confirm": {"topic": "{serial}/state", "value": 1}}]
        for name in ("open", "close", "release")
    },
}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"reports": {"report_s": 10, "ask": [{"topic": "{serial}/get", "payload": "{revert_s}"}]}}, "no variables"),
        ({"points": [{"quantity": "closed", "messages": [{"topic": "+/state"}]}]}, "should match pattern"),
        ({"points": [{"quantity": "closed", "messages": [{"topic": "state"}]}]}, "should match pattern"),
        ({"points": [{"quantity": "closed", "field": "x"}]}, "points without messages"),
        ({"orders": {**BLANK["orders"], "open": [{"topic": "{serial}/set", "payload": "{serial.x}"}]}}, "is no placeholder"),
        ({"orders": {**BLANK["orders"], "open": [{"topic": "{serial}/set", "payload": "x"}]}}, "needs a confirm"),
        ({"message": {"topic": "{serial}", "receipt_topic": "{serial}/r", "report_s": 1}}, "either waits for receipts"),
        ({"orders": {}, "node_writes": {"open": [{"node": "ns=2;s=x", "value": 1}]}}, "node_writes nodes"),
    ],
)
def test_a_wrong_entry_is_refused_with_the_reason(change: dict[str, Any], reason: str) -> None:
    assert parse_entry(yaml.safe_dump(BLANK), "a.yaml").name == "a-plug"
    with pytest.raises(BadInputError, match=reason):
        parse_entry(yaml.safe_dump({**BLANK, **change}), "a.yaml")
