"""The live host over a real broker: STATE, births, values, rebirth, third parties, reports."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Protocol, Self

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from tieline_cloud.fleet.registry import FleetRegistry
from tieline_cloud.ingest.live import LiveHost, LiveNotices
from tieline_cloud.ingest.rebirth import RebirthPace
from tieline_cloud.ingest.settings import BrokerAddress, IngestSettings
from tieline_cloud.store.ports import LastValue
from tieline_core import topics
from tieline_core.clock import SystemClock
from tieline_core.ids import EdgeId, PointId
from tieline_core.messages.desired import LadderStep, Reported
from tieline_core.quantities import Quality
from tieline_core.sparkplug.metric import DataType, Metric, Payload, quality_properties
from tieline_core.sparkplug.payload import decode, encode
from tieline_core.sparkplug.session import REBIRTH, AliasTable, bdseq_metric, death

pytestmark = pytest.mark.broker

T0 = datetime(2026, 1, 15, tzinfo=UTC)
HARBOUR = EdgeId("harbour")
T0_MS = int(T0.timestamp() * 1000)


class RunningBroker(Protocol):
    """What the broker fixture gives."""

    host: str
    port: int

    def start(self) -> None: ...
    def kill(self) -> None: ...


class Peer:
    """A node with a client of its own that hears the host."""

    def __init__(self, broker: RunningBroker, name: str = "harbour", group: str = topics.GROUP) -> None:
        self.name, self.group = name, group
        self.aliases = AliasTable()
        self.seq = 0
        self.heard: list[tuple[str, bytes]] = []
        self._changed = threading.Condition()
        self._client = paho.Client(CallbackAPIVersion.VERSION2, f"{name}-live", protocol=paho.MQTTv311)
        self._client.on_connect = lambda c, *_: c.subscribe([("spBv1.0/STATE/#", 1), (f"spBv1.0/{group}/NCMD/#", 0)])
        self._client.on_message = self._hear
        self._client.connect(broker.host, broker.port)

    def _hear(self, _client: object, _data: object, got: paho.MQTTMessage) -> None:
        with self._changed:
            self.heard.append((got.topic, bytes(got.payload)))
            self._changed.notify_all()

    def __enter__(self) -> Self:
        self._client.loop_start()
        return self

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()
        self._client._reset_sockets()

    async def until(self, test: Callable[[str, bytes], bool]) -> None:
        def wait() -> bool:
            with self._changed:
                return self._changed.wait_for(lambda: any(test(*row) for row in self.heard), 10)

        assert await asyncio.to_thread(wait), self.heard

    async def until_host_is(self, online: bool) -> None:
        await self.until(lambda topic, body: topic == "spBv1.0/STATE/hub" and json.loads(body)["online"] is online)

    def send(self, topic: str, body: bytes, *, qos: int = 0, retain: bool = False) -> None:
        self._client.publish(topic, body, qos, retain)

    def say(self, kind: str, *metrics: Metric, device: str | None = None, skip: int = 0) -> None:
        self.seq = 0 if kind == "NBIRTH" else (self.seq + 1 + skip) % 256
        payload = Payload(metrics, T0_MS, self.seq)
        self.send(topics.sparkplug(kind, self.name, device, self.group), encode(payload))

    def power(self, value: float | None, quality: Quality = Quality.GOOD) -> Metric:
        return Metric(
            name="p_w",
            value=value,
            datatype=DataType.DOUBLE,
            timestamp_ms=T0_MS,
            properties=quality_properties(quality),
        )

    def births(self, bdseq: int = 0) -> None:
        self.say("NBIRTH", bdseq_metric(bdseq, T0_MS))
        role = Metric(name="role", value="transformer", datatype=DataType.STRING)
        self.say("DBIRTH", role, self.aliases.birth("tr1", self.power(1.0)), device="tr1")

    def data(self, value: float | None, quality: Quality = Quality.GOOD, skip: int = 0) -> None:
        self.say("DDATA", self.aliases.data("tr1", self.power(value, quality)), device="tr1", skip=skip)


class Running:
    """A host, its fleet and what it told."""

    def __init__(self, broker: RunningBroker, **changes: Any) -> None:
        self.values: list[LastValue] = []
        self.reports: list[Reported] = []
        self.fleet = FleetRegistry(SystemClock())
        settings = IngestSettings(
            BrokerAddress(broker.host, broker.port, insecure=True), rebirths=RebirthPace(pause_s=0.0), reorder_s=0.05, **changes
        )
        self.host = LiveHost(settings, self.fleet, SystemClock(), LiveNotices(self.values.extend, self.reports.append))

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self.host.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.wait({self._task})

    async def until(self, test: Callable[[], bool]) -> None:
        async with asyncio.timeout(60):
            while not test():  # noqa: ASYNC110 (what is waited for changes in many places)
                await asyncio.sleep(0.01)

    def last(self) -> list[tuple[str, float | None, int]]:
        return [(value.point, value.value, value.quality) for value in self.host.values()]


async def test_state_is_online_while_the_host_runs_and_offline_after(broker: RunningBroker) -> None:
    with Peer(broker) as peer:
        async with Running(broker):
            await peer.until_host_is(online=True)
        await peer.until_host_is(online=False)
    topic, body = peer.heard[-1]
    assert topic == "spBv1.0/STATE/hub"
    assert json.loads(body)["timestamp"] > 0


async def test_births_and_data_become_devices_and_last_values(broker: RunningBroker) -> None:
    async with Running(broker) as running:
        with Peer(broker) as peer:
            await peer.until_host_is(online=True)
            peer.births()
            peer.data(-7.5)
            await running.until(lambda: running.last() == [("harbour/tr1/p_w", -7.5, Quality.GOOD)])
            peer.data(None, Quality.BAD)
            await running.until(lambda: running.last() == [("harbour/tr1/p_w", None, Quality.BAD)])
            status = running.fleet.edge(HARBOUR)
            assert status is not None
            assert status.online_live
            assert [(d.device_id, d.online, d.metrics, d.role) for d in running.fleet.devices()] == [
                ("tr1", True, ("p_w",), "transformer")
            ]
            peer.send(topics.sparkplug("NDEATH", "harbour"), encode(death(9, T0_MS)))
            peer.send(topics.sparkplug("NDEATH", "harbour"), encode(death(0, T0_MS)))
            await running.until(lambda: not running.fleet.devices()[0].online)
            assert running.host.counters.stale_deaths == 1
    assert [(value.value, value.quality) for value in running.values] == [
        (1.0, Quality.GOOD),
        (-7.5, Quality.GOOD),
        (None, Quality.BAD),
        (None, Quality.STALE),
    ]
    assert running.host.stale_since(PointId("harbour/tr1/p_w")) is not None
    assert running.host.values([PointId("harbour/tr1/v_v")]) == []


async def test_a_gap_is_answered_by_a_rebirth_request_and_by_nothing_else(broker: RunningBroker) -> None:
    def is_rebirth(topic: str, body: bytes) -> bool:
        return topic == "spBv1.0/tieline/NCMD/harbour" and [m.name for m in decode(body).metrics] == [REBIRTH]

    async with Running(broker) as running:
        with Peer(broker) as peer:
            await peer.until_host_is(online=True)
            peer.births()
            await running.until(lambda: running.last() != [])
            peer.data(2.0, skip=1)
            await peer.until(is_rebirth)
            assert running.last() == [("harbour/tr1/p_w", 1.0, Quality.GOOD)]
            peer.births(1)
            peer.data(3.0)
            await running.until(lambda: running.last() == [("harbour/tr1/p_w", 3.0, Quality.GOOD)])
            assert [topic for topic, _ in peer.heard if "STATE" not in topic] == ["spBv1.0/tieline/NCMD/harbour"]


async def test_strangers_garbage_and_unknown_topics_change_nothing(broker: RunningBroker) -> None:
    async with Running(broker, third_party_nodes=frozenset({"plant/press"})) as running:
        with Peer(broker, "intruder", "plant") as intruder, Peer(broker, "press", "plant") as press:
            await intruder.until_host_is(online=True)
            intruder.births()
            intruder.send("spBv1.0/tieline/NBIRTH/harbour", b"\xff\xff")
            intruder.send("spBv1.0/tieline/NBIRTH/Not Canonical", b"")
            intruder.send("spBv1.0/a/b/c/d/e/f", b"")
            press.births()
            await running.until(lambda: running.last() == [("plant-press/tr1/p_w", 1.0, Quality.GOOD)])
            await running.until(lambda: running.host.counters.garbage == 2)
            assert running.host.counters.not_admitted == 2
            assert [(row.edge_id, row.third_party, row.online_live) for row in running.fleet.edges()] == [
                ("plant-press", "plant/press", True)
            ]


async def test_reports_reach_the_fleet_and_the_callback(broker: RunningBroker) -> None:
    report = Reported(
        edge_id=HARBOUR,
        at=T0,
        software="1",
        boot_id="b",
        monitor_only=True,
        ladder=LadderStep.DEVICE_DEFAULT,
        ladder_reason="no plan",
    )
    with Peer(broker) as peer:
        peer.send(topics.reported("harbour"), report.to_bytes(), qos=1, retain=True)
        peer.send(topics.reported("mill"), report.to_bytes(), qos=1)
        async with Running(broker) as running:
            await running.until(lambda: running.reports == [report])
            status = running.fleet.edge(HARBOUR)
            assert status is not None
            assert (status.reported, status.online_durable) == (report, False)
            peer.send(topics.reported("harbour"), report.to_bytes(), qos=1, retain=True)
            await running.until(lambda: len(running.reports) == 2)
            status = running.fleet.edge(HARBOUR)
            assert status is not None
            assert status.online_durable


async def test_after_the_broker_came_back_the_host_is_online_again_and_asks_for_births(broker: RunningBroker) -> None:
    async with Running(broker) as running:
        with Peer(broker) as peer:
            await peer.until_host_is(online=True)
            peer.births()
            await running.until(lambda: running.last() != [])
        broker.kill()
        await running.until(lambda: not running.fleet.edges()[0].online_live)
        broker.start()
        with Peer(broker) as peer:
            await peer.until_host_is(online=True)
            await running.until(lambda: running.host.counters.rebirths_requested == 1)


async def test_a_stale_offline_state_of_an_earlier_session_is_corrected(broker: RunningBroker) -> None:
    async with Running(broker):
        with Peer(broker) as peer:
            await peer.until_host_is(online=True)
            peer.heard.clear()
            peer.send("spBv1.0/STATE/hub", b'{"online": false, "timestamp": 1}', qos=1, retain=True)
            await peer.until_host_is(online=False)
            await peer.until_host_is(online=True)
