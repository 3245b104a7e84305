"""paho's client of the field broker behind an asyncio queue: its thread hands over, nothing is worked on there."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

from tieline_core.errors import TransientError
from tieline_core.tls import connect_words
from tieline_edge.broker_access import AccessFileError, prepare
from tieline_edge.settings import MqttEndpoint

if TYPE_CHECKING:
    from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage
    from paho.mqtt.properties import Properties
    from paho.mqtt.reasoncodes import ReasonCode

_LOG = logging.getLogger(__name__)
_KEEPALIVE_S: Final = 15
_RECONNECT_S: Final = (1, 8)


class NotOpenedError(TransientError):
    """No connection can be begun: its password or its certificates are not there."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """A message that waits for its PUBACK."""

    topic: str
    payload: bytes
    mid: int
    qos: int
    retained: bool = False


class FieldClient:
    """One connection to the field broker; acknowledges by hand, reconnects by itself.

    Args:
        endpoint: The broker.
        client_id: Unique at that broker.
        topics: What to subscribe to at first, at QoS 1.
        max_waiting: Arrivals held at most; more are dropped without PUBACK or receipt, so their devices repeat them.
    """

    def __init__(self, endpoint: MqttEndpoint, client_id: str, topics: Sequence[str], max_waiting: int = 2000) -> None:
        self._endpoint, self._client_id = endpoint, client_id
        #: Replaced, never changed: the network thread reads it at each connect.
        self._topics = tuple(topics)
        self._queue: asyncio.Queue[Arrival] = asyncio.Queue(max_waiting)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._client: Client | None = None
        #: True once the broker has granted every subscription it was asked for at connect: what is sent before that is lost.
        self.connected = False
        self.dropped = 0
        #: SUBSCRIBEs that are not answered; touched by the network thread only.
        self._asked: set[int | None] = set()
        #: What was said last of a broker that cannot be used; touched by the network thread only.
        self._told = ""

    @property
    def _address(self) -> str:
        return f"{self._endpoint.host}:{self._endpoint.port}"

    async def __aenter__(self) -> Self:
        """Start connecting; returns at once, :attr:`connected` tells when it stands.

        Raises:
            NotOpenedError: What it takes to connect cannot be read now.
        """
        self._loop = asyncio.get_running_loop()
        try:
            client = self._made()
        except (AccessFileError, OSError, ValueError) as error:
            raise NotOpenedError(str(error)) from error
        client.loop_start()
        self._client = client
        return self

    def _made(self) -> Client:
        from paho.mqtt.client import Client
        from paho.mqtt.enums import CallbackAPIVersion

        client = Client(CallbackAPIVersion.VERSION2, client_id=self._client_id, clean_session=True, manual_ack=True)
        endpoint = self._endpoint
        prepare(client, endpoint)
        client.reconnect_delay_set(*_RECONNECT_S)
        client.on_connect = self._on_connect
        client.on_connect_fail = self._on_connect_fail
        client.on_subscribe = self._on_subscribe
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        client.connect_async(endpoint.host, endpoint.port, keepalive=_KEEPALIVE_S)
        return client

    async def __aexit__(self, *exc: object) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.disconnect()
            await asyncio.to_thread(client.loop_stop)

    async def arrivals(self, at_most: int) -> list[Arrival]:
        """Wait for a message, then take with it what else is there."""
        batch = [await self._queue.get()]
        while len(batch) < at_most and not self._queue.empty():
            batch.append(self._queue.get_nowait())
        return batch

    def subscribe(self, topics: Sequence[str]) -> None:
        """Listen to more topics; whoever is heard already stays connected all the while."""
        self._topics = (*self._topics, *topics)
        if self._client is not None and self._client.is_connected():
            self._client.subscribe([(topic, 1) for topic in topics])

    def unsubscribe(self, topics: Sequence[str]) -> None:
        """Listen to some topics no longer."""
        self._topics = tuple(topic for topic in self._topics if topic not in topics)
        if self._client is not None and self._client.is_connected():
            self._client.unsubscribe(list(topics))

    def acknowledge(self, arrival: Arrival) -> None:
        """Send the PUBACK; after a reconnect it is void and the broker delivers again."""
        if self._client is not None and arrival.qos:
            self._client.ack(arrival.mid, arrival.qos)

    def publish(self, topic: str, payload: bytes) -> bool:
        """Send at QoS 0, now or not at all: who waits for it asks again, and no order leaves minutes late.

        Returns:
            False when there is no connection; nothing was sent.
        """
        if self._client is None or not self._client.is_connected():
            return False
        return self._client.publish(topic, payload, qos=0).rc == 0

    def _on_connect(
        self, client: Client, _userdata: object, _flags: ConnectFlags, reason: ReasonCode, _properties: Properties | None
    ) -> None:
        if reason.is_failure:
            self._tell(f"refuses the edge: {reason}")
            return
        if self._told:
            self._told = ""
            _LOG.info("field broker %s: connected", self._address)
        topics = self._topics
        batches = [topics[at : at + 50] for at in range(0, len(topics), 50)]
        self._asked = {client.subscribe([(topic, 1) for topic in batch])[1] for batch in batches}
        self.connected = not self._asked

    def _on_connect_fail(self, _client: Client, _userdata: object) -> None:
        error = sys.exc_info()[1]  # paho calls from where it has caught it, and hands nothing over
        own = self._endpoint.ca_file is not None
        self._tell(f"cannot be reached: {connect_words(error, own_authority=own) if isinstance(error, OSError) else error}")

    def _tell(self, problem: str) -> None:
        """Say once what is said at every attempt."""
        if problem != self._told:
            self._told = problem
            _LOG.warning("field broker %s %s; trying again", self._address, problem)

    def _on_subscribe(
        self, _client: Client, _userdata: object, mid: int, reasons: list[ReasonCode], _properties: Properties | None
    ) -> None:
        refused = [str(reason) for reason in reasons if reason.is_failure]
        if refused:
            _LOG.warning("field broker %s refuses a subscription: %s", self._address, refused[0])
        self._asked.discard(mid)
        self.connected = not self._asked

    def _on_disconnect(
        self,
        _client: Client,
        _userdata: object,
        _flags: DisconnectFlags,
        _reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        self.connected = False

    def _on_message(self, _client: Client, _userdata: object, message: MQTTMessage) -> None:
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop has ended; the device repeats
                arrival = Arrival(message.topic, bytes(message.payload), message.mid, message.qos, message.retain)
                self._loop.call_soon_threadsafe(self._keep, arrival)

    def _keep(self, arrival: Arrival) -> None:
        try:
            self._queue.put_nowait(arrival)
        except asyncio.QueueFull:
            self.dropped += 1
