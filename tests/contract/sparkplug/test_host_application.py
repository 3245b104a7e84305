"""What the host application sends, taken off the wire, and what it makes of nodes that a second codec plays."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from typing import Any

import pytest

from tests.conftest import Broker
from tests.contract.sparkplug.reference import BOOLEAN, INT64, ReferencePayload
from tests.contract.sparkplug.shows import shows
from tests.contract.sparkplug.stage import START, START_MS, STATE_TOPIC, host_application
from tests.contract.sparkplug.wire import DISCONNECT, PUBLISH, SUBSCRIBE, Packet
from tieline_core.ids import DeviceId, EdgeId
from tieline_core.quantities import Quality

pytestmark = pytest.mark.broker
HARBOUR = EdgeId("harbour")


def state(packet: Packet) -> tuple[bool, int]:
    body = json.loads(packet.payload.decode("utf-8"))
    assert set(body) == {"online", "timestamp"}
    assert (type(body["online"]), type(body["timestamp"])) == (bool, int)
    return body["online"], body["timestamp"]


@shows(
    "components-ph-state",
    "conformance-primary-host",
    "intro-sparkplug-host-state",
    "host-topic-phid-death-qos",
    "host-topic-phid-death-retain",
    "host-topic-phid-death-topic",
    "host-topic-phid-death-required",
    "host-topic-phid-death-payload",
    "host-topic-phid-death-payload-timestamp-connect",
    "message-flow-phid-sparkplug-clean-session-50",
    "operational-behavior-host-application-connect-will",
    "operational-behavior-host-application-connect-will-topic",
    "operational-behavior-host-application-connect-will-payload",
    "operational-behavior-host-application-connect-will-qos",
    "operational-behavior-host-application-connect-will-retained",
    "payloads-state-will-message",
    "payloads-state-will-message-qos",
    "payloads-state-will-message-retain",
    "payloads-state-will-message-payload",
)
async def test_connect_begins_a_clean_session_and_leaves_an_offline_state_as_a_will(broker: Broker) -> None:
    async with host_application(broker) as host:
        connect = host.wire.last.connect
        assert (connect.version, connect.clean, connect.session_expiry_s) == (5, True, 0)
        will = connect.will
        assert will is not None
        assert (will.topic, will.qos, will.retain) == (STATE_TOPIC, 1, True)
        assert state(will) == (False, START_MS)


@shows("message-flow-phid-sparkplug-clean-session-311")
async def test_an_old_broker_gets_a_clean_session_too(broker: Broker) -> None:
    async with host_application(broker, only_311=True) as host:
        assert [(row.connect.version, row.connect.clean) for row in host.wire.connections] == [(5, True), (4, True)]


@shows(
    "principles-birth-certificates-order",
    "host-topic-phid-birth-message",
    "host-topic-phid-birth-qos",
    "host-topic-phid-birth-retain",
    "host-topic-phid-birth-topic",
    "host-topic-phid-birth-sub-required",
    "host-topic-phid-birth-required",
    "host-topic-phid-birth-payload",
    "host-topic-phid-birth-payload-timestamp",
    "message-flow-phid-sparkplug-subscription",
    "message-flow-phid-sparkplug-state-publish",
    "message-flow-phid-sparkplug-state-publish-payload",
    "message-flow-phid-sparkplug-state-publish-payload-timestamp",
    "operational-behavior-host-application-connect-birth",
    "operational-behavior-host-application-connect-birth-topic",
    "operational-behavior-host-application-connect-birth-payload",
    "operational-behavior-host-application-connect-birth-qos",
    "operational-behavior-host-application-connect-birth-retained",
    "payloads-state-subscribe",
    "payloads-state-birth",
    "payloads-state-birth-payload",
)
async def test_the_first_word_after_the_subscriptions_is_an_online_state_with_the_will_s_stamp(broker: Broker) -> None:
    async with host_application(broker) as host:
        await host.wire.until(lambda: host.spoken("STATE"))
        packets = host.wire.last.packets
        assert [row.kind for row in packets[:3]] == [1, SUBSCRIBE, PUBLISH]
        filters = {topic for row in packets if row.kind == SUBSCRIBE for topic, _ in row.filters}
        assert {STATE_TOPIC, "spBv1.0/tieline/#"} <= filters
        birth, will = packets[2], packets[0].will
        assert will is not None
        assert (birth.topic, birth.qos, birth.retain) == (STATE_TOPIC, 1, True)
        assert state(birth) == (True, state(will)[1])


@shows("operational-behavior-primary-application-state-with-multiple-servers-state")
async def test_every_new_session_has_a_later_stamp_and_a_birth_of_its_own(broker: Broker) -> None:
    async with host_application(broker) as host:
        for count in (1, 2, 3):
            await host.wire.until(lambda: host.wire.last.published)
            host.wire.cut()
            await host.wire.until_connected(count + 1)
        await host.wire.until(lambda: host.wire.last.published)
        wills = [state(row.connect.will) for row in host.wire.connections if row.connect.will is not None]
        births = [state(row.published[0]) for row in host.wire.connections]
        assert [(True, ms) for _, ms in wills] == births
        assert len({ms for _, ms in wills}) == len(wills)


@shows(
    "host-topic-phid-death-payload-timestamp-disconnect-clean",
    "host-topic-phid-death-payload-timestamp-disconnect-with-no-disconnect-packet",
    "operational-behavior-host-application-termination",
    "operational-behavior-host-application-death-topic",
    "operational-behavior-host-application-death-payload",
    "operational-behavior-host-application-death-qos",
    "operational-behavior-host-application-death-retained",
    "operational-behavior-host-application-disconnect-intentional",
)
async def test_a_stop_says_offline_with_the_time_of_the_goodbye_then_disconnects(broker: Broker) -> None:
    async with host_application(broker) as host:
        await host.wire.until(lambda: host.spoken("STATE"))
        await host.clock.advance(60)
        host.running.cancel()
        await host.wire.until(lambda: host.wire.last.packets[-1].kind == DISCONNECT)
        death = host.wire.last.packets[-2]
        assert (death.topic, death.qos, death.retain) == (STATE_TOPIC, 1, True)
        assert state(death) == (False, START_MS + 60_000)


@shows("message-flow-hid-sparkplug-state-message-delivered")
async def test_an_old_offline_under_our_name_is_answered_with_online_and_the_same_stamp(broker: Broker) -> None:
    async with host_application(broker) as host:
        await host.wire.until(lambda: host.spoken("STATE"))
        host.peer.state(False, START_MS - 5)
        await host.wire.until(lambda: len(host.spoken("STATE")) == 2)
        assert [state(row) for row in host.spoken("STATE")] == [(True, START_MS)] * 2
        assert len(host.wire.connections) == 1


@pytest.mark.parametrize("online", [False, True])
async def test_a_state_from_the_future_makes_a_new_session_that_no_edge_takes_for_old(broker: Broker, online: bool) -> None:
    async with host_application(broker) as host:
        await host.wire.until(lambda: host.spoken("STATE"))
        host.peer.state(online, START_MS + 3_600_000)
        await host.wire.until(lambda: len(host.wire.connections) == 2 and host.wire.last.published)
        assert state(host.wire.last.published[0])[1] > START_MS + 3_600_000


@shows("operational-behavior-host-application-host-id")
async def test_another_host_under_our_id_is_noticed(broker: Broker) -> None:
    async with host_application(broker) as host:
        host.peer.state(True, START_MS + 7)
        await host.wire.until(lambda: host.live.counters.rival_hosts == 1)


@shows(
    "topics-ncmd-topic",
    "topics-ncmd-mqtt",
    "topics-ncmd-timestamp",
    "topics-ncmd-payload",
    "operational-behavior-data-commands-ncmd-rebirth-verb",
    "operational-behavior-data-commands-ncmd-rebirth-name",
    "operational-behavior-data-commands-ncmd-rebirth-value",
    "operational-behavior-data-commands-ncmd-verb",
    "operational-behavior-data-commands-ncmd-metric-name",
    "operational-behavior-data-commands-ncmd-metric-value",
    "payloads-name-cmd-requirement",
    "payloads-ncmd-timestamp",
    "payloads-ncmd-seq",
    "payloads-ncmd-qos",
    "payloads-ncmd-retain",
    "operational-behavior-host-reordering-param",
    "operational-behavior-host-reordering-start",
    "operational-behavior-host-reordering-rebirth",
)
async def test_a_message_that_stays_away_costs_one_rebirth_request_after_the_reorder_time(broker: Broker) -> None:
    async with host_application(broker, reorder_s=0.4) as host:
        node = host.node()
        node.births()
        await host.wire.until(lambda: host.live.counters.births == 2)
        node.data(5.0, seq=3)
        node.data(6.0, seq=4)
        await asyncio.sleep(0.15)
        assert host.spoken("NCMD") == []
        await host.wire.until(lambda: host.spoken("NCMD"))
        await asyncio.sleep(0.6)
        (request,) = host.spoken("NCMD")
        assert (request.topic, request.qos, request.retain) == ("spBv1.0/tieline/NCMD/harbour", 0, False)
        body = ReferencePayload.FromString(request.payload)
        assert (body.timestamp, body.HasField("seq")) == (START_MS, False)
        (row,) = body.metrics
        assert (row.name, row.datatype, row.boolean_value, row.timestamp) == ("Node Control/Rebirth", BOOLEAN, True, START_MS)
        assert host.last()["harbour/tr1/p_w"] == (1.0, Quality.GOOD)
        node.births()
        node.data(7.0)
        await host.wire.until(lambda: host.last()["harbour/tr1/p_w"] == (7.0, Quality.GOOD))


@shows("operational-behavior-host-reordering-success")
async def test_a_message_that_was_overtaken_and_comes_in_time_costs_nothing(broker: Broker) -> None:
    async with host_application(broker, reorder_s=0.3) as host:
        node = host.node()
        node.births()
        node.data(6.0, seq=3)
        node.data(5.0, seq=2)
        await host.wire.until(lambda: host.live.counters.data == 2)
        await asyncio.sleep(0.5)
        assert (host.spoken("NCMD"), host.last()["harbour/tr1/p_w"]) == ([], (6.0, Quality.GOOD))


@shows(
    "operational-behavior-edge-node-termination-host-action-ndeath-node-offline",
    "operational-behavior-edge-node-termination-host-action-ndeath-node-tags-stale",
    "operational-behavior-edge-node-termination-host-action-ndeath-devices-offline",
    "operational-behavior-edge-node-termination-host-action-ndeath-devices-tags-stale",
)
async def test_a_death_takes_the_node_its_devices_and_all_of_their_values_along(broker: Broker) -> None:
    async with host_application(broker, third_party_nodes=frozenset({"plant/press"})) as host:
        node = host.node("press", "plant")
        node.births(3)
        node.data(5.0)
        good = {"plant-press/node/load_w": (2.0, Quality.GOOD), "plant-press/tr1/p_w": (5.0, Quality.GOOD)}
        await host.wire.until(lambda: host.last() == good)
        await host.clock.advance(30)
        node.death(2)
        await host.wire.until(lambda: host.live.counters.stale_deaths == 1)
        assert host.last() == good
        node.death(3)
        await host.wire.until(lambda: host.live.counters.deaths == 1)
        assert host.last() == {point: (value, Quality.STALE) for point, (value, _) in good.items()}
        edge = host.fleet.edge(EdgeId("plant-press"))
        assert edge is not None
        assert (edge.online_live, edge.offline_since) == (False, START + timedelta(seconds=30))
        assert {(d.online, d.offline_since) for d in host.fleet.devices()} == {(False, START + timedelta(seconds=30))}
        assert {host.live.stale_since(row.point) for row in host.live.values()} == {START + timedelta(seconds=30)}


@shows(
    "operational-behavior-edge-node-termination-host-action-ddeath-devices-offline",
    "operational-behavior-edge-node-termination-host-action-ddeath-devices-tags-stale",
)
async def test_a_device_s_death_takes_its_own_values_along_and_no_others(broker: Broker) -> None:
    async with host_application(broker) as host:
        node = host.node()
        node.births()
        node.send("DBIRTH", {"name": "p_w", "value": 9.0, "alias": 5}, device="bat1")
        await host.wire.until(lambda: len(host.last()) == 2)
        await host.clock.advance(10)
        node.send("DDEATH", device="tr1")
        await host.wire.until(lambda: host.live.counters.deaths == 1)
        assert host.last() == {"harbour/tr1/p_w": (1.0, Quality.STALE), "harbour/bat1/p_w": (9.0, Quality.GOOD)}
        dead = {d.device_id: (d.online, d.offline_since) for d in host.fleet.devices()}
        assert dead == {DeviceId("tr1"): (False, START + timedelta(seconds=10)), DeviceId("bat1"): (True, None)}


@shows(
    "topics-dcmd-topic",
    "topics-dcmd-mqtt",
    "topics-dcmd-timestamp",
    "topics-dcmd-payload",
    "operational-behavior-data-commands-dcmd-verb",
    "operational-behavior-data-commands-dcmd-metric-name",
    "operational-behavior-data-commands-dcmd-metric-value",
    "payloads-dcmd-timestamp",
    "payloads-dcmd-seq",
    "payloads-dcmd-qos",
    "payloads-dcmd-retain",
)
async def test_the_host_says_its_state_and_asks_for_rebirths_and_never_writes_to_a_device(broker: Broker) -> None:
    async with host_application(broker, third_party_nodes=frozenset({"plant/press"})) as host:
        for node in (host.node(), host.node("press", "plant")):
            node.births()
            node.data(1.0, seq=9)
            node.send("DDATA", {"alias": 77, "value": 1.0}, device="tr9")
            node.death(0)
            node.data(2.0)
        await host.wire.until(lambda: len(host.spoken("NCMD")) >= 2)
        host.running.cancel()
        await host.wire.until(lambda: host.wire.last.packets[-1].kind == DISCONNECT)
        for packet in host.wire.last.published:
            if packet.topic != STATE_TOPIC:
                assert packet.topic.split("/")[2] == "NCMD"
                names = [row.name for row in ReferencePayload.FromString(packet.payload).metrics]
                assert names == ["Node Control/Rebirth"]


@pytest.mark.parametrize(
    ("kind", "rows", "device"),
    [
        pytest.param("DDATA", [{"alias": 99, "value": 1.0}], "tr1", id="an alias nobody declared"),
        pytest.param("DDATA", [{"name": "v_v", "value": 1.0}], "tr1", id="a name nobody declared"),
        pytest.param("DDATA", [{"alias": 2, "value": 1.0}], "tr9", id="a device that was not born"),
        pytest.param("NDATA", [{"alias": 2, "value": 1.0}], None, id="an alias of a device, said by the node"),
    ],
)
async def test_what_no_birth_declared_is_dropped_and_a_rebirth_is_asked_for(
    broker: Broker, kind: str, rows: list[dict[str, Any]], device: str | None
) -> None:
    async with host_application(broker) as host:
        node = host.node()
        node.births()
        node.send(kind, *rows, device=device)
        await host.wire.until(lambda: host.spoken("NCMD"))
        assert host.last() == {"harbour/tr1/p_w": (1.0, Quality.GOOD)}


async def test_data_before_a_birth_are_dropped_and_a_rebirth_is_asked_for(broker: Broker) -> None:
    async with host_application(broker) as host:
        host.node().data(5.0)
        await host.wire.until(lambda: host.spoken("NCMD"))
        assert host.last() == {}


async def test_the_same_messages_twice_change_nothing_and_ask_for_nothing(broker: Broker) -> None:
    async with host_application(broker) as host:
        node = host.node()
        node.births()
        body = node.data(5.0)
        for _ in range(20):
            host.peer.say("spBv1.0/tieline/DDATA/harbour/tr1", body)
        node.data(6.0)
        await host.wire.until(lambda: host.last().get("harbour/tr1/p_w") == (6.0, Quality.GOOD))
        assert (host.live.counters.duplicates, host.spoken("NCMD")) == (20, [])


async def test_a_will_that_comes_after_the_next_birth_kills_nobody(broker: Broker) -> None:
    async with host_application(broker) as host:
        node = host.node()
        node.births(4)
        node.death(3)
        node.data(8.0, seq=2)
        await host.wire.until(lambda: host.last().get("harbour/tr1/p_w") == (8.0, Quality.GOOD))
        status = host.fleet.edge(HARBOUR)
        assert status is not None
        assert (status.online_live, host.live.counters.stale_deaths) == (True, 1)


async def test_births_that_a_broker_retained_are_of_the_past(broker: Broker) -> None:
    async with host_application(broker) as first:
        sender = first.node()
        body = sender.send("NBIRTH", {"name": "bdSeq", "kind": INT64, "value": 1})
        first.peer.say("spBv1.0/tieline/NBIRTH/harbour", body, qos=1, retain=True)
        await first.wire.until(lambda: first.live.counters.duplicates == 1)
    async with host_application(broker) as second:
        await second.wire.until(lambda: second.live.counters.garbage)
        assert second.fleet.edges() == []


async def test_a_large_message_is_not_even_read(broker: Broker) -> None:
    async with host_application(broker) as host:
        node = host.node()
        node.births()
        await host.wire.until(lambda: host.live.counters.births == 2)
        host.peer.say("spBv1.0/tieline/DDATA/harbour/tr1", b"\0" * 20_000_000, qos=1)
        node.data(2.0)
        await host.wire.until(lambda: host.last()["harbour/tr1/p_w"] == (2.0, Quality.GOOD))
        assert (host.live.counters.garbage, len(host.wire.connections)) == (0, 1)
