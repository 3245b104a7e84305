"""Births, aliases, sequence numbers and host state."""

from __future__ import annotations

import pytest

from tieline_core.sparkplug.metric import DataType, Metric, Payload, SparkplugError
from tieline_core.sparkplug.payload import decode, encode
from tieline_core.sparkplug.session import (
    REBIRTH,
    AliasTable,
    BirthTable,
    HostState,
    UnknownMetricError,
    bdseq_of,
    death,
    next_seq,
    rebirth_request,
)
from tieline_core.topics import SparkplugTopic, parse_sparkplug, sparkplug


def _metric(name: str, value: int = -7) -> Metric:
    return Metric(name=name, value=value, datatype=DataType.INT32, timestamp_ms=1)


def test_data_under_aliases_comes_back_whole_through_the_wire() -> None:
    aliases, table = AliasTable(), BirthTable()
    born = {device: [aliases.birth(device, _metric(name)) for name in ("a", "b")] for device in (None, "bat1", "bat2")}
    numbers = [metric.alias for metrics in born.values() for metric in metrics]
    assert len(set(numbers)) == 6
    for device, metrics in born.items():
        table.learn(device, decode(encode(Payload(metrics=tuple(metrics)))).metrics)
    sent = Payload(metrics=(aliases.data("bat2", _metric("b")),))
    (whole,) = table.resolve("bat2", decode(encode(sent)).metrics)
    assert (whole.name, whole.value, whole.datatype) == ("b", -7, DataType.INT32)


def test_the_alias_of_another_device_or_of_nobody_is_unknown() -> None:
    aliases, table = AliasTable(), BirthTable()
    for device in ("bat1", "bat2"):
        table.learn(device, [aliases.birth(device, _metric("a"))])
    for metric in (aliases.data("bat1", _metric("a")), Metric(alias=99, value=1), Metric(name="zzz", value=1)):
        with pytest.raises(UnknownMetricError):
            table.resolve("bat2", [metric])


def test_a_node_birth_and_a_device_death_forget_what_was_declared() -> None:
    aliases, table = AliasTable(), BirthTable()
    table.learn("bat1", [aliases.birth("bat1", _metric("a"))])
    table.forget("bat1")
    with pytest.raises(UnknownMetricError):
        table.resolve("bat1", [aliases.data("bat1", _metric("a"))])
    table.learn("bat1", [aliases.birth("bat1", _metric("a"))])
    table.learn(None, [])
    with pytest.raises(UnknownMetricError):
        table.resolve("bat1", [aliases.data("bat1", _metric("a"))])


def test_rebirth_control_has_no_alias() -> None:
    control = Metric(name=REBIRTH, value=False, datatype=DataType.BOOLEAN)
    assert AliasTable().birth(None, control).alias is None


def test_an_alias_for_two_names_and_a_birth_without_datatype_are_refused() -> None:
    twice = [Metric(name=name, value=1, datatype=DataType.INT32, alias=1) for name in ("a", "b")]
    with pytest.raises(SparkplugError, match="alias 1 is taken"):
        BirthTable().learn("bat1", twice)
    with pytest.raises(SparkplugError, match="declares name and datatype"):
        BirthTable().learn("bat1", [Metric(name="a", value=1)])


def test_a_death_carries_the_birth_death_number_only() -> None:
    payload = decode(encode(death(259, 5)))
    assert payload.seq is None
    assert [(m.name, m.value, m.datatype) for m in payload.metrics] == [("bdSeq", 3, DataType.INT64)]
    assert bdseq_of(payload) == 3
    assert bdseq_of(Payload()) is None


def test_a_rebirth_request_is_a_true_flag_by_name_without_sequence_number() -> None:
    payload = decode(encode(rebirth_request(5)))
    assert payload.seq is None
    assert [(m.name, m.value) for m in payload.metrics] == [(REBIRTH, True)]


def test_sequence_numbers_wrap_at_255() -> None:
    assert next_seq(255) == 0


def test_host_state_survives_the_wire() -> None:
    assert HostState.from_bytes(HostState(True, 17).to_bytes()) == HostState(True, 17)


@pytest.mark.parametrize(
    "data",
    [
        b"ONLINE",
        b"{}",
        b"[1]",
        b'{"online": 1, "timestamp": 2}',
        b'{"online": true, "timestamp": true}',
        b"[" * 1000,
        b" " * 2000,
    ],
)
def test_other_forms_of_host_state_are_refused(data: bytes) -> None:
    with pytest.raises(SparkplugError):
        HostState.from_bytes(data)


def test_topics_are_read_as_they_are_written() -> None:
    assert parse_sparkplug(sparkplug("DDATA", "mill", "bat1")) == SparkplugTopic("tieline", "DDATA", "mill", "bat1")
    assert parse_sparkplug(sparkplug("NBIRTH", "mill")) == SparkplugTopic("tieline", "NBIRTH", "mill")


@pytest.mark.parametrize(
    "topic", ["spBv1.0/STATE/hub", "spBv1.0/g/NBIRTH/n/d", "spBv1.0/g/DDATA/n", "x/g/NDATA/n", "spBv1.0/g/NDATA/"]
)
def test_other_topics_are_refused(topic: str) -> None:
    with pytest.raises(ValueError, match="no Sparkplug B topic"):
        parse_sparkplug(topic)
