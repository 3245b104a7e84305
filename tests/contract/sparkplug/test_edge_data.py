"""What the edge node says after its births, taken off the wire and read by a second codec."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.conftest import Broker
from tests.contract.sparkplug.shows import shows
from tests.contract.sparkplug.stage import SETTINGS, START_MS, Word, edge_node
from tieline_core.quantities import Quality
from tieline_edge.sync.live import LiveSettings

pytestmark = pytest.mark.broker


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
