"""What the edge node declares at birth, taken off the wire and read by a second codec."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import Broker
from tests.contract.sparkplug.reference import BOOLEAN, INT32, ReferencePayload, bdseq
from tests.contract.sparkplug.shows import shows
from tests.contract.sparkplug.stage import START_MS, edge_node
from tests.contract.sparkplug.wire import PUBLISH, SUBSCRIBE
from tieline_core.ids import DeviceId, EdgeId

pytestmark = pytest.mark.broker
#: Enumerated datatypes of the specification.
DATATYPES = range(1, 35)


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
        assert (filters["spBv1.0/tieline/NCMD/harbour"], filters["spBv1.0/tieline/DCMD/harbour/+"]) == (1, 1)
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
