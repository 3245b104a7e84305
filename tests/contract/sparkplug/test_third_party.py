"""Nodes of others, as lax as they are found in the field: what is shown, what is stored, what is refused."""

from __future__ import annotations

import asyncio
import math
import time

import pytest

from tests.conftest import Broker
from tests.contract.sparkplug.reference import BOOLEAN, FLOAT, INT32, INT64, STRING, UINT64
from tests.contract.sparkplug.stage import START_MS, Host, Sender, host_application
from tieline_cloud.ingest.rebirth import RebirthPace
from tieline_core.ids import EdgeId
from tieline_core.quantities import Quality

pytestmark = pytest.mark.broker
PRESS = frozenset({"Plant 1/press"})
EDGE = EdgeId("plant_1-press")


def births(node: Sender, *, bdseq: int = 0) -> None:
    """As a widely used JavaScript client says them: bdSeq as UInt64 that never grows, types in data, no aliases."""
    node.send("NBIRTH", {"name": "bdSeq", "kind": UINT64, "value": bdseq}, {"name": "Load (W)", "value": 4.5})
    node.send(
        "DBIRTH",
        {"name": "Motor/Speed", "kind": FLOAT, "value": 1.5},
        {"name": "Running", "kind": BOOLEAN, "value": True},
        {"name": "Counter", "kind": INT64, "value": -5},
        {"name": "Serial", "kind": STRING, "value": "X-1"},
        device="Drive A",
    )


async def stored(host: Host, rows: int) -> list[tuple[str, float | None, int, int]]:
    await host.wire.until(lambda: len(host.stored.rows) >= rows)
    return sorted(host.stored.rows, key=lambda row: (row[2], row[0]))


async def test_an_admitted_node_is_shown_and_stored_under_well_formed_names(broker: Broker) -> None:
    async with host_application(broker, third_party_nodes=PRESS) as host:
        (silent,) = host.fleet.edges()
        assert (silent.edge_id, silent.third_party, silent.online_live, silent.last_heard) == (
            EDGE,
            "Plant 1/press",
            False,
            None,
        )
        node = host.node("press", "Plant 1")
        births(node)
        points = {
            "plant_1-press/node/load_w": 4.5,
            "plant_1-press/drive_a/motor_speed": 1.5,
            "plant_1-press/drive_a/running": 1.0,
            "plant_1-press/drive_a/counter": -5.0,
        }
        assert sorted(await stored(host, 4)) == sorted((p, v, START_MS, Quality.GOOD) for p, v in points.items())
        assert host.last() == {point: (value, Quality.GOOD) for point, value in points.items()}
        (edge,) = host.fleet.edges()
        assert (edge.third_party, edge.online_live) == ("Plant 1/press", True)
        devices = {str(row.device_id): row.metrics for row in host.fleet.devices(EDGE)}
        assert devices == {"node": ("load_w",), "drive_a": ("motor_speed", "running", "counter")}
        assert host.live.counters.texts_ignored == 1


async def test_history_is_stored_at_its_own_time_and_is_no_last_value(broker: Broker) -> None:
    async with host_application(broker, third_party_nodes=PRESS) as host:
        node = host.node("press", "Plant 1")
        births(node)
        old = {"name": "Running", "kind": BOOLEAN, "is_historical": True}
        node.send(
            "DDATA",
            {**old, "value": False, "timestamp": START_MS - 7_200_000},
            {**old, "value": True, "timestamp": START_MS - 3_600_000},
            {"name": "Counter", "kind": INT64, "value": 6, "timestamp": START_MS + 5, "is_transient": True},
            device="Drive A",
        )
        rows = await stored(host, 6)
        assert rows[:2] == [
            ("plant_1-press/drive_a/running", 0.0, START_MS - 7_200_000, Quality.GOOD),
            ("plant_1-press/drive_a/running", 1.0, START_MS - 3_600_000, Quality.GOOD),
        ]
        assert host.last()["plant_1-press/drive_a/running"] == (1.0, Quality.GOOD)
        assert host.last()["plant_1-press/drive_a/counter"] == (6.0, Quality.GOOD)
        assert 6.0 not in {row[1] for row in rows}


async def test_a_birth_that_repeats_what_was_said_stores_nothing_twice(broker: Broker) -> None:
    async with host_application(broker, third_party_nodes=PRESS) as host:
        node = host.node("press", "Plant 1")
        births(node)
        await stored(host, 4)
        node.send("DDATA", {"name": "Counter", "kind": INT64, "value": 7, "timestamp": START_MS + 10}, device="Drive A")
        await stored(host, 5)
        node.send("NDEATH", {"name": "bdSeq", "kind": UINT64, "value": 0})
        node.send("NBIRTH", {"name": "bdSeq", "kind": UINT64, "value": 0}, {"name": "Load (W)", "value": 4.5})
        await host.wire.until(lambda: host.live.counters.third_party_repeated == 1)
        assert host.last()["plant_1-press/node/load_w"] == (4.5, Quality.GOOD)
        assert len(host.stored.rows) == 5
        assert len(set(host.stored.keys)) == len(host.stored.keys)


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
async def test_a_number_that_is_none_is_bad_and_costs_no_other_value(broker: Broker, number: float) -> None:
    async with host_application(broker, third_party_nodes=PRESS) as host:
        node = host.node("press", "Plant 1")
        births(node)
        node.at_ms += 1
        node.send("DDATA", {"name": "Motor/Speed", "kind": FLOAT, "value": number}, device="Drive A")
        node.send("DDATA", {"name": "Counter", "kind": INT64, "value": 8}, device="Drive A")
        await host.wire.until(lambda: host.last().get("plant_1-press/drive_a/counter") == (8.0, Quality.GOOD))
        assert host.last()["plant_1-press/drive_a/motor_speed"] == (None, Quality.BAD)
        assert ("plant_1-press/drive_a/motor_speed", None, START_MS + 1, Quality.BAD) in await stored(host, 6)
        assert (host.live.counters.not_finite, host.spoken("NCMD/press")[1:]) == (1, [])


async def test_names_that_would_become_one_point_are_both_refused(broker: Broker) -> None:
    async with host_application(broker, third_party_nodes=PRESS) as host:
        node = host.node("press", "Plant 1")
        node.send("NBIRTH", {"name": "bdSeq", "kind": INT64, "value": 0})
        node.send("DBIRTH", {"name": "Flow A", "value": 1.0}, {"name": "flow-a", "value": 3.0}, device="pump")
        node.send("DBIRTH", {"name": "speed", "value": 1.0}, {"name": "Speed", "value": 2.0}, device="fan")
        node.send("DBIRTH", {"name": "speed", "value": 9.0}, device="FAN 2")
        await host.wire.until(lambda: host.live.counters.births == 4)
        assert host.last() == {
            "plant_1-press/pump/flow_a": (1.0, Quality.GOOD),
            "plant_1-press/pump/flow-a": (3.0, Quality.GOOD),
            "plant_1-press/fan_2/speed": (9.0, Quality.GOOD),
        }
        assert host.live.counters.names_refused == 1


async def test_a_value_of_another_datatype_than_declared_is_refused_alone(broker: Broker) -> None:
    async with host_application(broker, third_party_nodes=PRESS) as host:
        node = host.node("press", "Plant 1")
        births(node)
        node.at_ms += 1
        node.send("DDATA", {"name": "Running", "kind": INT32, "value": 7}, device="Drive A")
        node.send("DDATA", {"name": "Counter", "kind": INT64, "value": 9}, device="Drive A")
        await host.wire.until(lambda: host.last().get("plant_1-press/drive_a/counter") == (9.0, Quality.GOOD))
        assert host.last()["plant_1-press/drive_a/running"] == (1.0, Quality.GOOD)
        assert host.live.counters.garbage == 1


async def test_a_stranger_of_the_same_group_is_not_taken(broker: Broker) -> None:
    async with host_application(broker, third_party_nodes=PRESS) as host:
        births(host.node("intruder", "Plant 1"))
        births(host.node("press", "elsewhere"))
        await host.wire.until(lambda: host.live.counters.not_admitted == 2)
        assert (host.last(), host.stored.rows, len(host.fleet.edges())) == ({}, [], 1)


async def test_nobody_of_our_own_group_may_take_a_third_party_s_id(broker: Broker) -> None:
    async with host_application(broker, third_party_nodes=frozenset({"plant/press"})) as host:
        births(host.node("plant-press", "tieline"))
        await host.wire.until(lambda: host.live.counters.not_admitted == 2)
        assert host.last() == {}


async def test_a_thousand_nodes_without_births_are_asked_at_a_bounded_pace_while_the_hub_stays_awake(broker: Broker) -> None:
    pace = RebirthPace(pause_s=60.0, per_s=100.0, burst=50)
    async with host_application(broker, rebirths=pace) as host:
        nodes = [host.node(f"edge{number}") for number in range(1000)]
        late: list[float] = []

        async def watch() -> None:
            while True:
                before_s = time.monotonic()
                await asyncio.sleep(0.005)
                late.append(time.monotonic() - before_s - 0.005)

        watching = asyncio.create_task(watch())
        started_s = time.monotonic()

        def storm() -> None:
            for _ in range(3):
                for node in nodes:
                    node.data(1.0)

        await asyncio.to_thread(storm)
        await host.wire.until(lambda: len(host.spoken("NCMD")) >= 200)
        elapsed_s = time.monotonic() - started_s
        watching.cancel()
        asked = [row.topic for row in host.spoken("NCMD")]
        assert len(asked) <= 50 + 100 * (elapsed_s + 0.2)
        assert len(set(asked)) == len(asked)
        assert sorted(late)[int(0.99 * len(late))] < 0.5


async def test_a_thousand_births_at_once_are_all_taken_and_nobody_is_asked_again(broker: Broker) -> None:
    async with host_application(broker) as host:
        nodes = [host.node(f"edge{number}") for number in range(1000)]

        def storm() -> None:
            for node in nodes:
                node.births()

        await asyncio.to_thread(storm)
        await host.wire.until(lambda: host.live.counters.births == 2000, 30)
        assert sum(row.online_live for row in host.fleet.edges()) == 1000
        assert (host.spoken("NCMD"), host.live.counters.dropped) == ([], 0)
