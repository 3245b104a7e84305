"""The hub's word to its edges over MQTT: its own connection, acknowledged publishes, reconnect by itself."""

from __future__ import annotations

import asyncio
import logging
import sys
from types import TracebackType
from typing import Any, Final, Protocol, Self

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from tieline_cloud.broker_access import prepare
from tieline_cloud.settings import MqttSettings
from tieline_core.errors import TransientError
from tieline_core.tls import connect_words

_LOG = logging.getLogger(__name__)
_KEEPALIVE_S: Final = 15
_PUBACK_S: Final = 5.0


class Publisher(Protocol):
    """What dispatch asks of a broker connection."""

    async def publish(self, topic: str, payload: bytes, *, retain: bool) -> None:
        """Publish with QoS 1; returns when the broker has acknowledged.

        Raises:
            TransientError: When the broker is away or silent.
        """
        ...


class PublishFailedError(TransientError):
    """The broker did not take a message in time."""


class MqttPublisher:
    """One paho connection with its own thread; entered and left as an async context.

    Args:
        settings: Which broker.
        client_id: Unique at the broker; two hubs with one id would throw each other out.
    """

    def __init__(self, settings: MqttSettings, client_id: str) -> None:
        self._settings = settings
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=client_id, protocol=mqtt.MQTTv311)
        self._client.reconnect_delay_set(min_delay=1, max_delay=5)
        prepare(self._client, settings)
        self._client.on_publish = self._on_publish
        self._client.on_connect = self._on_connect
        self._client.on_connect_fail = self._on_connect_fail
        self._client.on_disconnect = self._on_disconnect
        self._waiting: dict[int, asyncio.Future[None]] = {}
        self._early: set[int] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._problem: str | None = None

    @property
    def _address(self) -> str:
        return f"{self._settings.host}:{self._settings.port}"

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._client.connect_async(self._settings.host, self._settings.port, keepalive=_KEEPALIVE_S)
        self._client.loop_start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.disconnect()
        await asyncio.to_thread(self._client.loop_stop)

    @property
    def problem(self) -> str | None:
        """Why there is no connection, in words; None while there is one, or none was tried."""
        return None if self.connected else self._problem

    @property
    def connected(self) -> bool:
        """True while the broker answers."""
        return self._client.is_connected()

    async def publish(self, topic: str, payload: bytes, *, retain: bool) -> None:
        """Publish with QoS 1 and wait for the acknowledgement (see :class:`Publisher`)."""
        if not self._client.is_connected():
            raise PublishFailedError(f"{topic}: the broker {self._address} is not connected")
        info = self._client.publish(topic, payload, qos=1, retain=retain)
        if info.rc != mqtt.MQTT_ERR_SUCCESS:
            raise PublishFailedError(f"{topic}: {mqtt.error_string(info.rc)}")
        if info.mid in self._early:
            self._early.discard(info.mid)
            return
        future = asyncio.get_running_loop().create_future()
        self._waiting[info.mid] = future
        try:
            await asyncio.wait_for(future, _PUBACK_S)
        except TimeoutError as error:
            raise PublishFailedError(f"{topic}: no acknowledgement from the broker within {_PUBACK_S:g} s") from error
        finally:
            self._waiting.pop(info.mid, None)

    def _on_publish(
        self, _client: mqtt.Client, _data: Any, mid: int, _code: ReasonCode, _properties: Properties | None
    ) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._acknowledged, mid)

    def _acknowledged(self, mid: int) -> None:
        future = self._waiting.get(mid)
        if future is None:
            self._early.add(mid)
        elif not future.done():
            future.set_result(None)

    def _on_connect(
        self, _client: mqtt.Client, _data: Any, _flags: mqtt.ConnectFlags, code: ReasonCode, _properties: Properties | None
    ) -> None:
        if code.is_failure:
            self._tell(f"broker {self._address} refuses the connection: {code}")
        else:
            self._problem = None

    def _on_connect_fail(self, _client: mqtt.Client, _data: Any) -> None:
        error = sys.exc_info()[1]  # paho calls from where it has caught it, and hands nothing over
        own = self._settings.ca_file is not None
        reason = connect_words(error, own_authority=own) if isinstance(error, OSError) else str(error)
        self._tell(f"broker {self._address} cannot be reached: {reason}")

    def _tell(self, problem: str) -> None:
        """Keep the reason, and log it once, not at every attempt."""
        if problem != self._problem:
            _LOG.error("hub-dispatch: %s", problem)
        self._problem = problem

    def _on_disconnect(
        self, _client: mqtt.Client, _data: Any, _flags: mqtt.DisconnectFlags, code: ReasonCode, _properties: Properties | None
    ) -> None:
        if code.is_failure and self._problem is None:
            self._problem = f"broker {self._address}: the connection was lost ({code})"
            _LOG.warning("Lost the dispatch connection (%s); trying again", code)
