"""The dispatch connection against a real broker."""

from __future__ import annotations

import asyncio
import queue
from pathlib import Path

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from tests.conftest import Broker
from tests.tls_front import make_authority, tls_front
from tieline_cloud.dispatch.publisher import MqttPublisher, PublishFailedError
from tieline_cloud.settings import MqttSettings


async def connected(publisher: MqttPublisher) -> None:
    for _ in range(100):
        if publisher.connected:
            return
        await asyncio.sleep(0.05)
    pytest.fail("the publisher did not connect within 5 s")


@pytest.mark.broker
async def test_what_was_published_retained_reaches_a_later_subscriber(broker: Broker) -> None:
    settings = MqttSettings(host=broker.host, port=broker.port, insecure=True)
    async with MqttPublisher(settings, "hub-dispatch") as publisher:
        await connected(publisher)
        await publisher.publish("tieline/v1/harbour/down/desired", b"signed", retain=True)
    got: queue.Queue[tuple[bytes, bool]] = queue.Queue()
    reader = mqtt.Client(CallbackAPIVersion.VERSION2)
    reader.on_message = lambda _client, _data, message: got.put((bytes(message.payload), message.retain))
    reader.connect(broker.host, broker.port)
    reader.subscribe("tieline/v1/+/down/desired", qos=1)
    reader.loop_start()
    try:
        assert got.get(timeout=60) == (b"signed", True)
    finally:
        reader.disconnect()
        reader.loop_stop()


@pytest.mark.broker
async def test_a_broker_that_is_away_is_said_at_once(broker: Broker) -> None:
    broker.kill()
    settings = MqttSettings(host=broker.host, port=broker.port, insecure=True)
    async with MqttPublisher(settings, "hub-dispatch") as publisher:
        with pytest.raises(PublishFailedError, match="is not connected"):
            await publisher.publish("tieline/v1/harbour/down/command", b"signed", retain=False)


@pytest.mark.broker
async def test_why_it_does_not_connect_is_known_in_words_until_it_does(broker: Broker, tmp_path: Path) -> None:
    authority = make_authority(tmp_path)
    async with tls_front(tmp_path, broker.port) as port:
        async with MqttPublisher(MqttSettings(host="127.0.0.1", port=port), "hub-dispatch") as publisher:
            async with asyncio.timeout(20):
                while publisher.problem is None:  # noqa: ASYNC110 - paho's thread finds it
                    await asyncio.sleep(0.02)
            assert "not one this system trusts; name the authority's in ca_file" in publisher.problem
        async with MqttPublisher(MqttSettings(host="127.0.0.1", port=port, ca_file=authority), "hub-dispatch") as publisher:
            await connected(publisher)
            assert publisher.problem is None
