"""What the edge node sends, taken off the wire and read by a second codec."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Broker
from tests.contract.sparkplug.reference import BOOLEAN, INT32, INT64, ReferencePayload, metric
from tests.contract.sparkplug.shows import shows
from tests.contract.sparkplug.stage import SETTINGS, START_MS, Raw, Word, edge_node, words
from tests.contract.sparkplug.wire import DISCONNECT, PUBLISH, SUBSCRIBE
from tieline_core.ids import DeviceId, EdgeId
from tieline_core.quantities import Quality
from tieline_edge.sync.live import LiveSettings

pytestmark = pytest.mark.broker
NCMD = "spBv1.0/tieline/NCMD/harbour"
#: Enumerated datatypes of the specification.
DATATYPES = range(1, 35)


def command(name: str, value: Any = True, kind: int = BOOLEAN) -> bytes:
    payload = ReferencePayload(timestamp=START_MS)
    metric(payload, name, kind, value, timestamp=START_MS)
    return bytes(payload.SerializeToString())


def bdseq(body: Any) -> int:
    (row,) = [row for row in body.metrics if row.name == "bdSeq"]
    assert row.datatype == INT64
    return int(row.long_value)


@shows(
    "principles-persistence-clean-session-50",
    "message-flow-edge-node-birth-publish-will-message",
    "message-flow-edge-node-birth-publish-will-message-topic",
    "message-flow-edge-node-birth-publish-will-message-payload",
    "message-flow-edge-node-birth-publish-will-message-payload-bdSeq",
    "message-flow-edge-node-birth-publish-will-message-qos",
    "message-flow-edge-node-birth-publish-will-message-will-retained",
    "topics-ndeath-topic",
    "topics-ndeath-payload",
    "topics-ndeath-seq",
    "payloads-ndeath-seq",
    "payloads-ndeath-will-message",
    "payloads-ndeath-will-message-qos",
    "payloads-ndeath-will-message-retain",
)
async def test_connect_begins_a_clean_session_and_leaves_the_death_as_a_will(broker: Broker, tmp_path: Path) -> None:
    async with edge_node(broker, tmp_path) as node:
        await node.births()
        connect = node.wire.last.connect
        assert (connect.version, connect.clean, connect.session_expiry_s) == (5, True, 0)
        will = connect.will
        assert will is not None
        assert (will.topic, will.qos, will.retain) == ("spBv1.0/tieline/NDEATH/harbour", 1, False)
        body = ReferencePayload.FromString(will.payload)
        assert [row.name for row in body.metrics] == ["bdSeq"]
        assert (bdseq(body), body.HasField("seq")) == (0, False)


@shows(
    "principles-persistence-clean-session-311",
    "topics-nbirth-bdseq-increment",
    "payloads-ndeath-will-message-publisher-disconnect-mqtt311",
)
async def test_an_old_broker_gets_a_clean_session_and_each_connect_the_next_number(broker: Broker, tmp_path: Path) -> None:
    async with edge_node(broker, tmp_path, only_311=True) as node:
        await node.births()
        for _ in range(2):
            node.wire.cut()
            connections = len(node.wire.connections)
            await node.wire.until_connected(connections + 2)
            await node.births()
        connects = [connection.connect for connection in node.wire.connections]
        assert [row.version for row in connects] == [5, 4] * 3
        assert all(row.clean for row in connects)
        wills = [ReferencePayload.FromString(row.will.payload) for row in connects if row.will is not None]
        assert [bdseq(body) for body in wills] == list(range(6))
        node.running.cancel()
        await node.wire.until(lambda: node.wire.last.packets[-1].kind == DISCONNECT)
        assert words(node.wire.last)[-1].kind == "NDEATH"


@shows(
    "principles-birth-certificates-order",
    "message-flow-edge-node-ncmd-subscribe",
    "message-flow-device-dcmd-subscribe",
    "message-flow-edge-node-birth-publish-connect",
    "message-flow-device-birth-publish-nbirth-wait",
)
async def test_commands_are_subscribed_before_the_birth_and_the_birth_is_the_first_word(broker: Broker, tmp_path: Path) -> None:
    async with edge_node(broker, tmp_path) as node:
        await node.births()
        packets = node.wire.last.packets
        first = next(i for i, row in enumerate(packets) if row.kind == PUBLISH)
        filters = dict(row for packet in packets[1:first] if packet.kind == SUBSCRIBE for row in packet.filters)
        assert (filters[NCMD], filters["spBv1.0/tieline/DCMD/harbour/+"]) == (1, 1)
        assert [word.kind for word in node.said()[:3]] == ["NBIRTH", "DBIRTH", "DBIRTH"]


@shows(
    "topic-structure",
    "topic-structure-namespace-a",
    "topic-structure-namespace-device-id-non-associated-message-types",
    "topics-nbirth-topic",
    "topics-nbirth-mqtt",
    "topics-nbirth-seq-num",
    "topics-nbirth-timestamp",
    "topics-nbirth-metrics",
    "topics-nbirth-bdseq-included",
    "topics-nbirth-bdseq-matching",
    "topics-nbirth-rebirth-metric",
    "message-flow-edge-node-birth-publish-nbirth-topic",
    "message-flow-edge-node-birth-publish-nbirth-payload",
    "message-flow-edge-node-birth-publish-nbirth-payload-bdSeq",
    "message-flow-edge-node-birth-publish-nbirth-qos",
    "message-flow-edge-node-birth-publish-nbirth-retained",
    "message-flow-edge-node-birth-publish-nbirth-payload-seq",
    "operational-behavior-data-commands-rebirth-name",
    "operational-behavior-data-commands-rebirth-name-aliases",
    "operational-behavior-data-commands-rebirth-datatype",
    "operational-behavior-data-commands-rebirth-value",
    "payloads-sequence-num-req-nbirth",
    "payloads-nbirth-timestamp",
    "payloads-nbirth-seq",
    "payloads-nbirth-bdseq",
    "payloads-nbirth-bdseq-repeat",
    "payloads-nbirth-rebirth-req",
    "payloads-nbirth-qos",
    "payloads-nbirth-retain",
    "payloads-ndeath-bdseq",
)
async def test_the_node_s_birth_counts_from_zero_and_names_its_will_and_its_rebirth_switch(
    broker: Broker, tmp_path: Path
) -> None:
    async with edge_node(broker, tmp_path) as node:
        birth, _, _ = await node.births()
        assert birth.packet.topic == "spBv1.0/tieline/NBIRTH/harbour"
        assert (birth.packet.qos, birth.packet.retain) == (0, False)
        assert (birth.body.seq, birth.body.HasField("seq"), birth.body.timestamp) == (0, True, START_MS)
        will = node.wire.last.connect.will
        assert will is not None
        assert bdseq(birth.body) == bdseq(ReferencePayload.FromString(will.payload))
        switch = birth.row("Node Control/Rebirth")
        assert (switch.datatype, switch.boolean_value, switch.WhichOneof("value")) == (BOOLEAN, False, "boolean_value")
        assert not switch.HasField("alias")


@shows(
    "topic-structure-namespace-device-id-associated-message-types",
    "topic-structure-namespace-unique-device-id",
    "topics-dbirth-topic",
    "topics-dbirth-mqtt",
    "topics-dbirth-seq",
    "topics-dbirth-timestamp",
    "topics-dbirth-metrics",
    "message-flow-device-birth-publish-dbirth-topic",
    "message-flow-device-birth-publish-dbirth-match-edge-node-topic",
    "message-flow-device-birth-publish-dbirth-payload",
    "message-flow-device-birth-publish-dbirth-qos",
    "message-flow-device-birth-publish-dbirth-retained",
    "message-flow-device-birth-publish-dbirth-payload-seq",
    "payloads-dbirth-timestamp",
    "payloads-dbirth-seq",
    "payloads-dbirth-seq-inc",
    "payloads-dbirth-order",
    "payloads-dbirth-qos",
    "payloads-dbirth-retain",
    "payloads-ndata-order",
    "payloads-ddata-order",
)
async def test_every_device_is_born_once_and_before_any_data(broker: Broker, tmp_path: Path) -> None:
    async with edge_node(broker, tmp_path) as node:
        births = (await node.births())[1:]
        assert sorted(word.device or "" for word in births) == ["bat1", "tr1"]
        for seq, word in enumerate(births, 1):
            assert word.packet.topic == f"spBv1.0/tieline/DBIRTH/harbour/{word.device}"
            assert (word.packet.qos, word.packet.retain) == (0, False)
            assert (word.body.seq, word.body.timestamp) == (seq, START_MS)
        node.world.values["tr1/p_w"] = 9.0
        node.world.ladder = 1
        await node.until("DDATA")
        await node.until("NDATA")
        assert [word.kind for word in node.said()[:3]] == ["NBIRTH", "DBIRTH", "DBIRTH"]


@shows(
    "case-sensitivity-metric-names",
    "payloads-name-requirement",
    "payloads-alias-uniqueness",
    "payloads-alias-birth-requirement",
    "payloads-name-birth-data-requirement",
    "payloads-metric-datatype-value-type",
    "payloads-metric-datatype-value",
    "payloads-metric-datatype-req",
    "payloads-metric-propertyvalue-type-type",
    "payloads-metric-propertyvalue-type-value",
    "payloads-metric-propertyvalue-type-req",
    "payloads-propertyset-keys-array-size",
    "payloads-propertyset-values-array-size",
    "payloads-propertyset-quality-value-type",
    "payloads-propertyset-quality-value-value",
    "operational-behavior-data-publish-nbirth-order",
    "operational-behavior-data-publish-dbirth-order",
    "payloads-timestamp-in-UTC",
    "payloads-metric-timestamp-in-UTC",
)
async def test_births_declare_every_metric_with_name_alias_datatype_and_time(broker: Broker, tmp_path: Path) -> None:
    async with edge_node(broker, tmp_path) as node:
        births = await node.births()
        aliases = [row.alias for word in births for row in word.body.metrics if row.name != "Node Control/Rebirth"]
        assert len(set(aliases)) == len(aliases)
        assert all(row.HasField("alias") == (row.name != "Node Control/Rebirth") for w in births for row in w.body.metrics)
        for word in births:
            folded = [name.casefold() for name in word.names]
            assert len(set(folded)) == len(folded)
            stamps = [row.timestamp for row in word.body.metrics]
            assert stamps == sorted(stamps)
            assert START_MS - 20_000 <= stamps[0] <= stamps[-1] == START_MS
            assert all(row.name and row.datatype in DATATYPES for row in word.body.metrics)
            properties = [row.properties for row in word.body.metrics if row.HasField("properties")]
            for held in properties:
                assert len(held.keys) == len(held.values)
                assert all(value.HasField("type") and value.type in DATATYPES for value in held.values)
                quality = dict(zip(held.keys, held.values, strict=True))["Quality"]
                assert (quality.type, quality.WhichOneof("value"), quality.int_value) == (INT32, "int_value", 192)
        assert births[1].row("p_w").HasField("properties")


@shows("operational-behavior-data-publish-nbirth-values", "operational-behavior-data-publish-dbirth-values")
async def test_a_value_that_is_not_known_is_null_and_says_so(broker: Broker, tmp_path: Path) -> None:
    async with edge_node(broker, tmp_path, online=False) as node:
        node.world.values["bat1/p_w"] = None
        node.peer.state(True, START_MS)
        births = await node.births()
        battery = next(word for word in births if word.device == "bat1")
        unknown = battery.row("p_w")
        assert (unknown.is_null, unknown.WhichOneof("value")) == (True, None)
        assert battery.row("soc_pct").double_value == 50.0
        others = [row for word in births for row in word.body.metrics if row is not unknown and row.name != "p_w"]
        assert all(row.WhichOneof("value") is not None and not row.is_null for row in others)
        node.world.values["bat1/p_w"] = -3.0
        (data,) = await node.until("DDATA")
        assert (data.body.metrics[0].double_value, data.body.metrics[0].is_null) == (-3.0, False)


@shows(
    "principles-rbe-recommended",
    "topics-ndata-topic",
    "topics-ndata-mqtt",
    "topics-ndata-seq-num",
    "topics-ndata-timestamp",
    "topics-ndata-payload",
    "topics-ddata-topic",
    "topics-ddata-mqtt",
    "topics-ddata-seq-num",
    "topics-ddata-timestamp",
    "topics-ddata-payload",
    "topics-nbirth-metric-reqs",
    "topics-dbirth-metric-reqs",
    "operational-behavior-data-publish-nbirth",
    "operational-behavior-data-publish-nbirth-change",
    "operational-behavior-data-publish-dbirth",
    "operational-behavior-data-publish-dbirth-change",
    "payloads-alias-data-cmd-requirement",
    "payloads-metric-datatype-not-req",
    "payloads-ndata-timestamp",
    "payloads-ndata-seq",
    "payloads-ndata-seq-inc",
    "payloads-ndata-qos",
    "payloads-ndata-retain",
    "payloads-ddata-timestamp",
    "payloads-ddata-seq",
    "payloads-ddata-seq-inc",
    "payloads-ddata-qos",
    "payloads-ddata-retain",
)
async def test_data_say_what_changed_under_aliases_the_births_declared(broker: Broker, tmp_path: Path) -> None:
    async with edge_node(broker, tmp_path) as node:
        births = await node.births()
        declared = {row.alias: (word.device, row.name) for word in births for row in word.body.metrics if row.alias}
        await node.world.clock.advance(1)
        await asyncio.sleep(0.1)
        assert len(node.said()) == 3
        node.world.values["bat1/p_w"] = 2000.0
        (device,) = await node.until("DDATA")
        node.world.ladder = 2
        (own,) = await node.until("NDATA")
        for word, seq, topic in ((device, 3, "DDATA/harbour/bat1"), (own, 4, "NDATA/harbour")):
            kind, *rest = topic.split("/")
            assert word.packet.topic == "/".join(("spBv1.0/tieline", kind, *rest))
            assert (word.packet.qos, word.packet.retain) == (0, False)
            assert (word.body.seq, word.body.timestamp) == (seq, START_MS + 1000)
            (row,) = word.body.metrics
            assert not row.HasField("name")
            assert not row.HasField("datatype")
            assert row.timestamp == START_MS + 1000
        assert declared[device.body.metrics[0].alias] == ("bat1", "p_w")
        assert declared[own.body.metrics[0].alias] == (None, "ladder_step")
        assert (device.body.metrics[0].double_value, own.body.metrics[0].double_value) == (2000.0, 2.0)
        node.world.values["bat1/q_var"] = 1.0
        *_, again = await node.until("DBIRTH", 3)
        assert (again.device, "q_var" in again.names, again.body.seq) == ("bat1", True, 5)


@shows("payloads-sequence-num-always-included", "payloads-sequence-num-incrementing")
async def test_the_sequence_is_shared_by_node_and_devices_and_wraps_after_255(broker: Broker, tmp_path: Path) -> None:
    fast = LiveSettings(period_s=0.001, floor_wall_s=0.001, rebirth_wall_s=0.0)
    async with edge_node(broker, tmp_path, settings=fast) as node:
        await node.births()
        async with asyncio.timeout(60):
            while len(node.said()) < 300:
                node.world.values["bat1/p_w"] = float(len(node.said()))
                node.world.ladder = len(node.said()) % 7
                await asyncio.sleep(0.002)
        said = node.said()
        assert {word.kind for word in said} == {"NBIRTH", "DBIRTH", "NDATA", "DDATA"}
        assert [word.body.seq for word in said] == [i % 256 for i in range(len(said))]


@shows(
    "operational-behavior-device-ddeath",
    "topics-ddeath-topic",
    "topics-ddeath-mqtt",
    "topics-ddeath-seq-num",
    "payloads-ddeath-timestamp",
    "payloads-ddeath-seq",
    "payloads-ddeath-seq-inc",
    "payloads-ddeath-seq-number",
)
async def test_a_device_that_stops_answering_dies_and_is_born_again_when_it_answers(broker: Broker, tmp_path: Path) -> None:
    async with edge_node(broker, tmp_path) as node:
        await node.births()
        node.world.offline = frozenset({DeviceId("bat1")})
        (death,) = await node.until("DDEATH")
        assert death.packet.topic == "spBv1.0/tieline/DDEATH/harbour/bat1"
        assert (death.packet.qos, death.packet.retain, death.body.seq, death.body.timestamp) == (0, False, 3, START_MS)
        node.world.offline = frozenset()
        *_, birth = await node.until("DBIRTH", 3)
        assert (birth.device, birth.body.seq) == ("bat1", 4)


@shows(
    "operational-behavior-edge-node-intentional-disconnect-ndeath",
    "operational-behavior-edge-node-intentional-disconnect-packet",
    "payloads-ndeath-will-message-publisher",
    "payloads-ndeath-will-message-publisher-disconnect-mqtt50",
)
async def test_a_stop_says_the_death_then_disconnects_with_the_will(broker: Broker, tmp_path: Path) -> None:
    async with edge_node(broker, tmp_path) as node:
        birth, _, _ = await node.births()
        node.running.cancel()
        await node.wire.until(lambda: node.wire.last.packets[-1].kind == DISCONNECT)
        *_, death, goodbye = node.wire.last.packets
        assert (death.topic, death.qos, death.retain) == ("spBv1.0/tieline/NDEATH/harbour", 1, False)
        assert bdseq(ReferencePayload.FromString(death.payload)) == bdseq(birth.body)
        assert goodbye.reason == 0x04


@shows(
    "operational-behavior-data-commands-rebirth-action-1",
    "operational-behavior-data-commands-rebirth-action-2",
    "operational-behavior-data-commands-rebirth-action-3",
)
async def test_a_rebirth_request_stops_data_at_once_and_repeats_all_births(broker: Broker, tmp_path: Path) -> None:
    slow = LiveSettings(period_s=0.01, floor_wall_s=0.01, rebirth_wall_s=0.6)
    async with edge_node(broker, tmp_path, settings=slow) as node:
        first, _, _ = await node.births()
        node.peer.say(NCMD, command("Node Control/Rebirth"))
        await node.wire.until(lambda: node.lane.counters.rebirths_requested == 1)
        held = len(node.said())
        node.world.values["bat1/p_w"] = 4000.0  # a change that would be said at once
        await node.until("NBIRTH", 2)
        await node.until("DBIRTH", 4)
        again = node.said()[held:]
        assert [word.kind for word in again[:3]] == ["NBIRTH", "DBIRTH", "DBIRTH"]
        assert [word.body.seq for word in again[:3]] == [0, 1, 2]
        assert bdseq(again[0].body) == bdseq(first.body)
        assert next(word for word in again if word.device == "bat1").row("p_w").double_value == 4000.0


@pytest.mark.parametrize(
    ("topic", "body"),
    [
        pytest.param(NCMD, command("ladder_step", 2, INT32), id="node metric"),
        pytest.param("spBv1.0/tieline/DCMD/harbour/bat1", command("p_w", 5, INT32), id="device metric"),
        pytest.param(NCMD, command("Node Control/Reboot"), id="another node control"),
        pytest.param(NCMD, b"\xff\xfe\x00", id="garbage"),
    ],
)
async def test_no_other_command_is_obeyed_and_each_kind_raises_an_event(
    broker: Broker, tmp_path: Path, topic: str, body: bytes
) -> None:
    async with edge_node(broker, tmp_path) as node:
        await node.births()
        node.peer.say(topic, body)
        await node.wire.until(lambda: node.events)
        assert node.lane.counters.commands_refused == 1
        assert [word.kind for word in node.said()] == ["NBIRTH", "DBIRTH", "DBIRTH"]


async def test_a_retained_rebirth_is_of_the_past_and_is_not_obeyed(broker: Broker, tmp_path: Path) -> None:
    peer = Raw(broker.port, "forgetful")
    peer.say(NCMD, command("Node Control/Rebirth"), qos=1, retain=True)
    peer.close()
    async with edge_node(broker, tmp_path) as node:
        await node.births()
        await node.wire.until(lambda: node.events)
        assert (node.events[0][0], node.lane.counters.births) == ("live.command_refused", 1)


@shows(
    "message-flow-edge-node-birth-publish-phid-wait",
    "message-flow-edge-node-birth-publish-phid-wait-id",
    "message-flow-edge-node-birth-publish-phid-wait-online",
    "operational-behavior-edge-node-birth-sequence-wait",
)
async def test_no_birth_before_the_primary_host_itself_says_it_is_online(broker: Broker, tmp_path: Path) -> None:
    async with edge_node(broker, tmp_path, online=False) as node:
        node.peer.state(True, START_MS, host="another")
        node.peer.state(False, START_MS)
        node.peer.say("spBv1.0/STATE/hub", b"ONLINE", qos=1, retain=True)
        await node.wire.until(lambda: node.events)
        assert node.said() == []
        node.peer.state(True, START_MS + 1)
        assert [word.kind for word in await node.births()] == ["NBIRTH", "DBIRTH", "DBIRTH"]


@shows(
    "message-flow-edge-node-birth-publish-phid-wait-timestamp",
    "message-flow-edge-node-birth-publish-phid-offline",
    "operational-behavior-edge-node-termination-host-offline",
    "operational-behavior-edge-node-termination-host-offline-reconnect",
    "operational-behavior-edge-node-termination-host-offline-timestamp",
)
async def test_a_host_that_goes_offline_ends_the_session_unless_its_word_is_old(broker: Broker, tmp_path: Path) -> None:
    async with edge_node(broker, tmp_path) as node:
        first, _, _ = await node.births()
        node.peer.state(False, START_MS - 1)
        await node.wire.until(lambda: node.lane.counters.stale_states == 1)
        node.world.values["bat1/p_w"] = 3.0
        await node.until("DDATA")
        node.peer.state(False, START_MS + 5)
        await node.wire.until(lambda: len(node.wire.connections) == 2)
        ended = node.wire.connections[0]
        assert [word.kind for word in words(ended)][-1] == "NDEATH"
        assert bdseq(words(ended)[-1].body) == bdseq(first.body)
        assert ended.packets[-1].kind == DISCONNECT
        node.peer.state(True, START_MS + 4)  # restored by a broker from before the goodbye
        await node.wire.until(lambda: node.lane.counters.stale_states == 2)
        assert node.said() == []
        node.peer.state(True, START_MS + 6)
        again, _, _ = await node.births()
        assert bdseq(again.body) == bdseq(first.body) + 1


@shows("operational-behavior-primary-application-state-with-multiple-servers-single-server")
async def test_a_flapping_link_keeps_one_connection_with_right_numbers_and_bounded_births(
    broker: Broker, tmp_path: Path
) -> None:
    async with edge_node(broker, tmp_path) as node:
        for round_number in range(1, 9):
            await node.births()
            node.wire.cut()
            await node.wire.until_connected(round_number + 1)
        await node.births()
        assert node.wire.most_open == 1
        numbers = []
        for connection in node.wire.connections:
            will = connection.connect.will
            assert will is not None
            births = [word for word in words(connection) if word.kind == "NBIRTH"]
            assert [bdseq(word.body) for word in births] == [bdseq(ReferencePayload.FromString(will.payload))]
            numbers.append(bdseq(births[0].body))
        assert all(later == before + 1 for before, later in pairwise(numbers))


@shows(
    "intro-group-id-string",
    "intro-group-id-chars",
    "intro-edge-node-id-string",
    "intro-edge-node-id-chars",
    "intro-device-id-string",
    "intro-device-id-chars",
    "topic-structure-namespace-valid-group-id",
    "topic-structure-namespace-valid-edge-node-id",
    "topic-structure-namespace-valid-device-id",
    "case-sensitivity-sparkplug-ids",
)
@pytest.mark.parametrize("text", ["a+b", "a/b", "a#", "", "Harbour", "a\0b", "ä", "x" * 49])
def test_ids_that_would_break_a_topic_or_differ_by_case_only_cannot_be_made(text: str) -> None:
    for kind in (EdgeId, DeviceId):
        with pytest.raises(ValueError, match=r"is no (EdgeId|DeviceId)"):
            kind(text)


@shows(
    "intro-edge-node-id-uniqueness",
    "topic-structure-namespace-unique-edge-node-descriptor",
    "payloads-nbirth-edge-node-descriptor",
    "topic-structure-namespace-duplicate-device-id-across-edge-node",
)
async def test_a_second_node_of_the_same_name_never_speaks_beside_the_first(broker: Broker, tmp_path: Path) -> None:
    # The client id is made of the node's id: the broker itself keeps one session for both.
    async with edge_node(broker, tmp_path) as node:
        await node.births()
        intruder = Raw(broker.port, "harbour-live")
        await node.wire.until(lambda: not node.wire.connections[0].open)
        intruder.close()
        await node.wire.until(lambda: len(node.wire.connections) > 1)
        await node.births()
        deaths = [ReferencePayload.FromString(body) for topic, body, _ in node.peer.heard if "/NDEATH/" in topic]
        assert [bdseq(body) for body in deaths] == [0]


async def test_quality_travels_with_every_value_in_the_codes_of_the_standard(broker: Broker, tmp_path: Path) -> None:
    async with edge_node(broker, tmp_path) as node:
        await node.births()

        async def next_code(quality: Quality) -> int:
            before = len(node.said("DDATA"))
            node.world.quality = quality
            found: Word = (await node.until("DDATA", before + 2))[-1]
            held = dict(zip(found.body.metrics[0].properties.keys, found.body.metrics[0].properties.values, strict=True))
            return int(held["Quality"].int_value)

        assert await next_code(Quality.UNCERTAIN) == 192
        assert await next_code(Quality.STALE) == 500
    assert SETTINGS.host_id == "hub"
