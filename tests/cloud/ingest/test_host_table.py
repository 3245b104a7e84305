"""The host's bookkeeping: births, gaps, deaths of this and of an earlier session."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from tieline_cloud.ingest.host_table import Arrived, Change, Finding, HostTable
from tieline_core.sparkplug.metric import DataType, Metric, Payload
from tieline_core.sparkplug.payload import encode
from tieline_core.sparkplug.session import AliasTable, bdseq_metric, death
from tieline_core.topics import SparkplugTopic

NODE = ("tieline", "harbour")
POWER = Metric(name="p_w", value=5.0, datatype=DataType.DOUBLE)


def arrived(kind: str, payload: Payload, device: str | None = None, at_s: float = 0.0) -> Arrived:
    topic = SparkplugTopic(NODE[0], kind, NODE[1], device)
    return Arrived(topic, payload, at_s, hash((topic, encode(payload))))


def one(findings: list[Finding]) -> Finding | None:
    assert len(findings) <= 1
    return findings[0] if findings else None


class Node:
    """A node that speaks Sparkplug as it should, unless told otherwise."""

    def __init__(self, table: HostTable) -> None:
        self.table = table
        self.aliases = AliasTable()
        self.seq = 0

    def say(self, kind: str, *metrics: Metric, device: str | None = None, skip: int = 0) -> Finding | None:
        self.seq = 0 if kind == "NBIRTH" else (self.seq + 1 + skip) % 256
        return one(self.table.take(arrived(kind, Payload(metrics, 1000, self.seq), device)))

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
    node = Node(HostTable(reorder_s=0.0))
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
    assert change(one(node.table.take(arrived("NDEATH", death(2, 0))))) is Change.STALE_DEATH
    assert node.table.alive() == [NODE]
    assert change(one(node.table.take(arrived("NDEATH", death(3, 0))))) is Change.NODE_DIED
    assert change(one(node.table.take(arrived("NDEATH", death(3, 0))))) is Change.DUPLICATE
    assert node.table.alive() == []
    assert change(node.say("DDATA", node.aliases.data("tr1", POWER), device="tr1")) is Change.LOST


def test_a_dead_device_has_to_be_born_again() -> None:
    node = Node(HostTable())
    node.born()
    assert change(node.say("DDEATH", device="tr1")) is Change.DEVICE_DIED
    assert change(node.say("DDATA", node.aliases.data("tr1", POWER), device="tr1")) is Change.LOST


def test_commands_are_not_for_a_host() -> None:
    assert HostTable().take(arrived("NCMD", Payload())) == []


def test_a_birth_without_a_sequence_number_is_refused() -> None:
    table = HostTable()
    found = one(table.take(arrived("NBIRTH", Payload((bdseq_metric(0, 0),)))))
    assert found is not None
    assert (found.change, "sequence" in found.reason) == (Change.REFUSED, True)
    assert table.alive() == []


def test_a_message_that_was_overtaken_is_waited_for_and_all_are_taken_in_order() -> None:
    table = HostTable(reorder_s=2.0)
    node = Node(table)
    node.born()
    power = [replace(node.aliases.data("tr1", POWER), value=float(number)) for number in range(2, 6)]
    messages = [arrived("DDATA", Payload((row,), 1000, seq), "tr1") for seq, row in enumerate(power, 2)]
    assert [table.take(messages[i]) for i in (2, 1, 3)] == [[], [], []]
    assert table.expire(1.9) == []
    found = table.take(messages[0])
    assert [row.metrics[0].value for row in found] == [2.0, 3.0, 4.0, 5.0]
    assert table.expire(100.0) == []


@given(st.permutations(range(2, 12)), st.integers(0, 9))
def test_in_whatever_order_messages_come_they_are_taken_in_theirs_once_each(order: list[int], doubled: int) -> None:
    table = HostTable(reorder_s=2.0)
    node = Node(table)
    node.born()
    data = node.aliases.data("tr1", POWER)
    messages = {seq: arrived("DDATA", Payload((replace(data, value=float(seq)),), 1000, seq), "tr1") for seq in order}
    found = [row for seq in (*order[: doubled + 1], *order[doubled:]) for row in table.take(messages[seq])]
    taken = [row.metrics[0].value for row in found if row.change is Change.DATA]
    assert taken == [float(seq) for seq in range(2, 12)]
    assert {row.change for row in found} == {Change.DATA, Change.DUPLICATE}
    assert table.expire(100.0) == []


def test_a_message_that_stays_away_costs_exactly_one_rebirth() -> None:
    table = HostTable(reorder_s=2.0)
    node = Node(table)
    node.born()
    data = node.aliases.data("tr1", POWER)
    for seq in (3, 4):
        assert table.take(arrived("DDATA", Payload((data,), 1000, seq), "tr1", at_s=10.0 + seq)) == []
    assert table.expire(14.9) == []
    (lost,) = table.expire(15.0)
    assert (lost.change, lost.node, lost.reason) == (Change.LOST, NODE, "seq 2 is missing")
    assert table.expire(99.0) == []
    node.born(4)
    assert change(node.say("DDATA", data, device="tr1")) is Change.DATA


def test_more_early_messages_than_the_window_lose_the_thread() -> None:
    table = HostTable(reorder_s=2.0, window=3)
    node = Node(table)
    node.born()
    data = node.aliases.data("tr1", POWER)
    found = [table.take(arrived("DDATA", Payload((data,), 1000, seq), "tr1")) for seq in (3, 4, 5, 6)]
    assert [change(one(row)) for row in found] == [None, None, None, Change.LOST]


def test_the_same_message_again_changes_nothing() -> None:
    table = HostTable()
    node = Node(table)
    birth = arrived("NBIRTH", Payload((bdseq_metric(3, 0),), 1000, 0))
    assert [change(one(table.take(birth))) for _ in range(2)] == [Change.NODE_BORN, Change.DUPLICATE]
    node.say("DBIRTH", node.aliases.birth("tr1", POWER), device="tr1")
    data = arrived("DDATA", Payload((node.aliases.data("tr1", POWER),), 1001, 2), "tr1")
    assert [change(one(table.take(row))) for row in (data, data, birth)] == [Change.DATA, Change.DUPLICATE, Change.DUPLICATE]
    assert table.expire(100.0) == []


def test_sequence_numbers_wrap_from_255_to_0() -> None:
    node = Node(HostTable())
    node.born()
    data = node.aliases.data("tr1", POWER)
    assert {change(node.say("DDATA", data, device="tr1")) for _ in range(600)} == {Change.DATA}


def test_a_birth_of_a_device_that_breaks_the_standard_leaves_the_device_unborn() -> None:
    node = Node(HostTable())
    node.born()
    twice = [replace(POWER, alias=7), replace(POWER, name="q_var", alias=7)]
    found = node.say("DBIRTH", *twice, device="bat1")
    assert found is not None
    assert (found.change, "alias 7 is taken" in found.reason) == (Change.REFUSED, True)
    assert change(node.say("DDATA", Metric(alias=7, value=1.0), device="bat1")) is Change.LOST


def test_nodes_beyond_the_bound_are_refused() -> None:
    table = HostTable(most_nodes=1)
    Node(table).born()
    other = Arrived(SparkplugTopic("tieline", "NBIRTH", "mill"), Payload((bdseq_metric(0, 0),), 1000, 0))
    assert change(one(table.take(other))) is Change.REFUSED
