"""The host's bookkeeping: births, gaps, deaths of this and of an earlier session."""

from __future__ import annotations

import pytest

from tieline_cloud.ingest.host_table import Change, Finding, HostTable
from tieline_core.sparkplug.metric import DataType, Metric, Payload, SparkplugError
from tieline_core.sparkplug.session import AliasTable, bdseq_metric, death
from tieline_core.topics import SparkplugTopic

NODE = ("tieline", "harbour")
POWER = Metric(name="p_w", value=5.0, datatype=DataType.DOUBLE)


class Node:
    """A node that speaks Sparkplug as it should, unless told otherwise."""

    def __init__(self, table: HostTable) -> None:
        self.table = table
        self.aliases = AliasTable()
        self.seq = 0

    def say(self, kind: str, *metrics: Metric, device: str | None = None, skip: int = 0) -> Finding | None:
        self.seq = 0 if kind == "NBIRTH" else (self.seq + 1 + skip) % 256
        return self.table.take(SparkplugTopic(*NODE[:1], kind, NODE[1], device), Payload(metrics, 1000, self.seq))

    def born(self, bdseq: int = 3) -> None:
        found = self.say("NBIRTH", bdseq_metric(bdseq, 0))
        assert found is not None
        assert found.change is Change.NODE_BORN
        found = self.say("DBIRTH", self.aliases.birth("tr1", POWER), device="tr1")
        assert found is not None
        assert found.change is Change.DEVICE_BORN


def change(found: Finding | None) -> Change | None:
    return None if found is None else found.change


def test_data_under_an_alias_gets_its_name_back() -> None:
    node = Node(HostTable())
    node.born()
    found = node.say("DDATA", node.aliases.data("tr1", POWER), device="tr1")
    assert found is not None
    assert (found.change, found.device, found.metrics[0].name, found.metrics[0].value) == (Change.DATA, "tr1", "p_w", 5.0)
    assert node.table.alive() == [NODE]


def test_data_before_a_birth_loses_the_thread() -> None:
    assert change(Node(HostTable()).say("DDATA", POWER, device="tr1")) is Change.LOST


def test_a_gap_loses_the_thread_until_the_next_birth() -> None:
    node = Node(HostTable())
    node.born()
    data = node.aliases.data("tr1", POWER)
    assert change(node.say("DDATA", data, device="tr1", skip=1)) is Change.LOST
    assert change(node.say("DDATA", data, device="tr1")) is Change.LOST
    node.born(4)
    assert change(node.say("DDATA", data, device="tr1")) is Change.DATA


def test_an_unknown_alias_loses_the_thread() -> None:
    node = Node(HostTable())
    node.born()
    found = node.say("DDATA", Metric(alias=99, value=1.0), device="tr1")
    assert found is not None
    assert (found.change, "alias 99" in found.reason) == (Change.LOST, True)


def test_a_death_counts_only_when_it_belongs_to_the_present_session() -> None:
    node = Node(HostTable())
    node.born(bdseq=3)
    topic = SparkplugTopic("tieline", "NDEATH", "harbour")
    assert change(node.table.take(topic, death(2, 0))) is Change.STALE_DEATH
    assert node.table.alive() == [NODE]
    assert change(node.table.take(topic, death(3, 0))) is Change.NODE_DIED
    assert node.table.alive() == []
    assert change(node.say("DDATA", node.aliases.data("tr1", POWER), device="tr1")) is Change.LOST


def test_a_dead_device_has_to_be_born_again() -> None:
    node = Node(HostTable())
    node.born()
    assert change(node.say("DDEATH", device="tr1")) is Change.DEVICE_DIED
    assert change(node.say("DDATA", node.aliases.data("tr1", POWER), device="tr1")) is Change.LOST


def test_commands_are_not_for_a_host() -> None:
    table = HostTable()
    assert table.take(SparkplugTopic("tieline", "NCMD", "harbour"), Payload()) is None


def test_a_birth_without_a_sequence_number_is_refused() -> None:
    table = HostTable()
    with pytest.raises(SparkplugError, match="sequence"):
        table.take(SparkplugTopic("tieline", "NBIRTH", "harbour"), Payload((bdseq_metric(0, 0),)))
    assert table.alive() == []
