"""Which of all commands the edge node obeys."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Broker
from tests.contract.sparkplug.reference import BOOLEAN, INT32, ReferencePayload, bdseq, metric
from tests.contract.sparkplug.shows import shows
from tests.contract.sparkplug.stage import START_MS, Raw, edge_node
from tieline_edge.sync.live import LiveSettings

pytestmark = pytest.mark.broker
NCMD = "spBv1.0/tieline/NCMD/harbour"


def command(name: str, value: Any = True, kind: int = BOOLEAN) -> bytes:
    payload = ReferencePayload(timestamp=START_MS)
    metric(payload, name, kind, value, timestamp=START_MS)
    return bytes(payload.SerializeToString())


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
