"""How sessions of the edge node begin and end: will, death, stop, primary host, flapping, a second node."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from tests.conftest import Broker
from tests.contract.sparkplug.reference import ReferencePayload, bdseq
from tests.contract.sparkplug.shows import shows
from tests.contract.sparkplug.stage import START_MS, Raw, edge_node, words
from tests.contract.sparkplug.wire import DISCONNECT
from tieline_core.ids import DeviceId

pytestmark = pytest.mark.broker


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
