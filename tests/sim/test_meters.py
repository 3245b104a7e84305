"""Meters: readings by time, repeated until receipted, over a real broker."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt.enums import CallbackAPIVersion

from tests.conftest import Broker
from tests.sim.conftest import Instant
from tieline_sim.devices.mqtt_meter import MEMORY, Message, MeterRow, Outstanding
from tieline_sim.servers.field_mqtt import FieldMeters, serials
from tieline_sim.witness import Witness, read_records
from tieline_sim.world import World

EPOCH = 1_481_729_400.0


def value(place: int) -> dict[str, float]:
    return {"p_w": float(place)}


@given(steps=st.lists(st.floats(0.01, 50), min_size=1, max_size=60))
def test_every_reading_is_made_exactly_once_whatever_the_ticks(steps: list[float]) -> None:
    row, now, ids, stamps = MeterRow(["a", "b", "c"], EPOCH, 60.0), EPOCH, [], []
    for step in steps:
        for instant, message, _ in row.readings(now, now + step, value):
            assert now < instant + 1e-3
            assert instant <= now + step + 1e-3
            ids.append(message.id)
            stamps.append((message.meter, instant))
        now += step
    assert len(ids) == len(set(ids))
    assert len(stamps) == len(set(stamps))
    assert len(ids) >= 3 * int((now - EPOCH) / 60) - 3


def test_a_restart_never_makes_a_reading_twice_and_skips_what_was_never_measured() -> None:
    row = MeterRow(["a"], EPOCH, 60.0)
    made = row.readings(EPOCH, EPOCH + 185, value)
    assert [message.id for _, message, _ in made] == ["a-1", "a-2", "a-3"]
    reborn = MeterRow(["a"], EPOCH, 60.0, {"a": EPOCH + 180})
    assert reborn.readings(EPOCH + 170, EPOCH + 190, value) == []
    assert [message.id for _, message, _ in reborn.readings(EPOCH + 1000, EPOCH + 1030, value)] == ["a-17"]


@given(meters=st.integers(1, 40), period_s=st.sampled_from([5.0, 7.0, 60.0]), down_s=st.floats(0.0, 9.0))
def test_a_restart_makes_no_reading_anew_however_its_instant_was_rounded(meters: int, period_s: float, down_s: float) -> None:
    labels = [str(place) for place in range(meters)]
    died = EPOCH + 3.2 * period_s
    made = MeterRow(labels, EPOCH, period_s).readings(EPOCH, died, value)
    newest: dict[str, float] = {}
    for instant, message, _ in made:
        newest[message.meter] = instant
    reborn = MeterRow(labels, EPOCH, period_s, newest)
    again = [message.id for _, message, _ in reborn.readings(died + down_s, died + down_s + period_s, value)]
    assert not {message.id for _, message, _ in made} & set(again)


def test_messages_repeat_with_back_off_oldest_first_until_receipted() -> None:
    outstanding = Outstanding()
    for number in range(3):
        outstanding.add(Message("a", f"a-{number}", "{}"))
    assert [row.id for row in outstanding.due(0.0, 2)] == ["a-0", "a-1"]
    assert [row.id for row in outstanding.due(0.1, 10)] == ["a-2"]
    assert list(outstanding.due(1.9, 10)) == []
    assert outstanding.receipted("a-0") is not None
    assert outstanding.receipted("a-0") is None
    assert [row.id for row in outstanding.due(2.1, 10)] == ["a-1", "a-2"]
    assert list(outstanding.due(6.0, 10)) == []
    assert [row.id for row in outstanding.due(6.2, 10)] == ["a-1", "a-2"]
    assert [row.id for row in outstanding.due(14.3, 10)] == ["a-1", "a-2"], "the longest wait is 8 s"


def test_memory_is_bounded_and_loses_the_oldest() -> None:
    outstanding = Outstanding()
    for number in range(MEMORY + 5):
        outstanding.add(Message("a", str(number), ""))
    assert len(outstanding.messages) == MEMORY
    assert next(iter(outstanding.messages)) == "5"


class HeadEnd:
    """An edge in miniature: receives readings and, when told to, receipts them."""

    def __init__(self, broker: Broker) -> None:
        self.received: list[dict[str, Any]] = []
        self.receipts = False
        self.came = threading.Event()
        self.client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id="head-end")
        self.client.on_connect = self._connected
        self.client.on_message = self._message
        self.client.connect(broker.host, broker.port)
        self.client.loop_start()

    def _connected(self, client: mqtt.Client, *_: Any) -> None:
        client.subscribe("meters/+/reading", qos=1)

    def _message(self, client: mqtt.Client, _data: Any, message: mqtt.MQTTMessage) -> None:
        body = json.loads(message.payload)
        self.received.append(body)
        if self.receipts:
            client.publish(f"meters/{body['serial']}/receipt", json.dumps({"id": body["id"]}), qos=1)
        self.came.set()

    def stop(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


async def until(condition: Callable[[], bool], seconds: float = 8.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 (the other side is a thread and a broker)
            await asyncio.sleep(0.02)


@pytest.mark.broker
async def test_a_reading_is_repeated_until_its_receipt_and_both_are_witnessed(
    broker: Broker, world: World, instant: Instant, tmp_path: Path
) -> None:
    world.tick(instant.seconds)
    moment = [0.0]
    station = world.substations["harbour"]
    labels = serials(station, 0)
    path = tmp_path / "witness.jsonl"
    head_end = HeadEnd(broker)
    try:
        witness = Witness(path)
        meters = FieldMeters(station, MeterRow(labels, instant.seconds, 60.0), (broker.host, broker.port), witness, instant)
        meters.monotonic = lambda: moment[0]
        meters.start()
        await until(meters._client.is_connected)
        meters.tick(instant.seconds, instant.seconds + 59)
        await until(lambda: len(head_end.received) == 23)
        assert meters.outstanding == 23
        meters.tick(instant.seconds + 59, instant.seconds + 59)
        moment[0] = 2.5
        meters.tick(instant.seconds + 59, instant.seconds + 59)
        await until(lambda: len(head_end.received) == 46)
        assert head_end.received[:23] == head_end.received[23:], "the same ids, the same values"
        meters.stop()
        witness.close()

        reborn_witness = Witness(path)
        assert len(reborn_witness.unreceipted) == 23
        row = MeterRow(labels, instant.seconds, 60.0)
        reborn = FieldMeters(station, row, (broker.host, broker.port), reborn_witness, instant)
        head_end.receipts = True
        reborn.start()
        await until(reborn._client.is_connected)
        reborn.tick(instant.seconds + 59, instant.seconds + 59)
        await until(lambda: reborn.outstanding == 0)
        assert head_end.received[-23:] == head_end.received[:23], "what was made before the kill is sent after it"
        reborn.stop()
        reborn_witness.close()
    finally:
        head_end.stop()
    kinds = [record["kind"] for record in read_records(path)]
    assert kinds.count("sent") == 23
    assert kinds.count("receipt") == 23


@pytest.mark.broker
async def test_a_receipt_of_another_meter_or_of_rubbish_changes_nothing(
    broker: Broker, world: World, instant: Instant, tmp_path: Path
) -> None:
    world.tick(instant.seconds)
    station = world.substations["harbour"]
    labels = serials(station, 0)
    witness = Witness(tmp_path / "witness.jsonl")
    meters = FieldMeters(station, MeterRow(labels, instant.seconds, 60.0), (broker.host, broker.port), witness, instant)
    head_end = HeadEnd(broker)
    try:
        meters.start()
        await until(meters._client.is_connected)
        meters.tick(instant.seconds, instant.seconds + 3)
        await until(lambda: len(head_end.received) == 1)
        body = head_end.received[0]
        for topic, payload in (
            (f"meters/{labels[5]}/receipt", json.dumps({"id": body["id"]})),
            (f"meters/{body['serial']}/receipt", "rubbish"),
            (f"meters/{body['serial']}/receipt", "[]"),
            (f"meters/{body['serial']}/receipt", json.dumps({"id": "unknown-1"})),
        ):
            head_end.client.publish(topic, payload, qos=1).wait_for_publish(5)
        head_end.client.publish(f"meters/{body['serial']}/receipt", json.dumps({"id": body["id"]}), qos=1)
        await until(lambda: meters.outstanding == 0)
    finally:
        head_end.stop()
        meters.stop()
        witness.close()
    assert [row["kind"] for row in read_records(tmp_path / "witness.jsonl")] == ["sent", "receipt"]
