"""The hub's own half-open links (F16): a dead line is noticed soon, a reader that is held up is not taken for one."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.conftest import Broker
from tests.faults.proxy import Proxy
from tieline_cloud.ingest.connection import HubConnection, Inbound, Wiring
from tieline_cloud.ingest.settings import BrokerAddress
from tieline_edge.settings import MqttEndpoint
from tieline_edge.sync.mqtt_session import LinkTimes
from tieline_edge.sync.transport import MqttLink

pytestmark = pytest.mark.broker
SILENCE_S = 0.8


class Hub:
    """A connection of the hub whose reader can be held up."""

    def __init__(self) -> None:
        self.ups: list[float] = []
        self.downs: list[float] = []
        self.heard: list[bytes] = []
        self.free = threading.Event()
        self.free.set()
        self.wiring = Wiring([("test/#", 1)], self._take, on_up=self._up, on_down=self._down)

    def _up(self, _session: int) -> None:
        self.ups.append(time.monotonic())

    def _down(self) -> None:
        self.downs.append(time.monotonic())

    def _take(self, message: Inbound) -> None:
        self.free.wait(60)
        self.heard.append(message.payload)

    async def until(self, what: list[float] | list[bytes], count: int) -> None:
        async with asyncio.timeout(60):
            while len(what) < count:  # noqa: ASYNC110 (threads fill it)
                await asyncio.sleep(0.02)


@asynccontextmanager
async def connected(broker: Broker) -> AsyncIterator[tuple[Hub, Proxy]]:
    hub = Hub()
    async with Proxy((broker.host, broker.port)) as link, asyncio.TaskGroup() as group:
        address = BrokerAddress(host="127.0.0.1", port=link.port, insecure=True)
        running = group.create_task(HubConnection(address, "hub-test", hub.wiring, SILENCE_S).run())
        try:
            await hub.until(hub.ups, 1)
            yield hub, link
        finally:
            hub.free.set()
            running.cancel()


async def test_f16_the_hub_notices_a_half_open_link_and_connects_again(broker: Broker) -> None:
    async with connected(broker) as (hub, link):
        # A quiet line that answers is left alone.
        await asyncio.sleep(0.9)
        await asyncio.sleep(0.9)
        assert not hub.downs
        await link.half_open()
        began_s = time.monotonic()
        await hub.until(hub.downs, 1)
        assert hub.downs[0] - began_s < 1.5 * SILENCE_S + 1.0
        await link.heal()
        await hub.until(hub.ups, 2)


async def test_a_reader_that_is_held_up_is_not_taken_for_a_dead_line(broker: Broker) -> None:
    async with connected(broker) as (hub, _link):
        hub.free.clear()
        endpoint = MqttEndpoint(host=broker.host, port=broker.port, insecure=True)
        async with MqttLink(endpoint, "talker", LinkTimes()).connect() as session:
            for number in range(50):
                await session.publish("test/a", b"%d" % number)
        for _ in range(4):
            await asyncio.sleep(0.9)
        assert hub.heard == []
        hub.free.set()
        await hub.until(hub.heard, 50)
        assert not hub.downs
