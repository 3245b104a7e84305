"""The hub's connections to its broker: one paho client a session, kept alive by one asyncio task.

Messages are handed over in the network thread. Whoever blocks there stops the reading of this one socket, and nothing
else: that is how the durable lane bounds itself, because brokers do not bound a subscriber that acknowledges.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from tieline_cloud.broker_access import prepare
from tieline_cloud.ingest.settings import BrokerAddress
from tieline_core.errors import BadInputError
from tieline_core.tls import connect_words

_log = logging.getLogger(__name__)
#: What the broker is told: longer than any commit, because a blocked reader cannot ask and must not be thrown out.
KEEPALIVE_S: Final = 60
#: A broker that is silent for so long is asked, and given up after half as long again.
SILENCE_S: Final = 15.0
_CONNECT_S: Final = 5.0
_UNSUPPORTED_VERSION: Final = 0x84
_BACKOFF_S: Final = (0.2, 5.0)


@dataclass(frozen=True, slots=True)
class Inbound:
    """A message as it came in; ``session`` and ``mid`` say what to acknowledge."""

    topic: str
    payload: bytes
    retain: bool
    qos: int
    mid: int
    session: int


@dataclass(frozen=True, slots=True)
class Will:
    """What the broker publishes when the connection dies."""

    topic: str
    payload: bytes
    retain: bool = False


@dataclass(frozen=True, slots=True)
class Wiring:
    """What a connection is for.

    Attributes:
        subscriptions: Topic filters with their QoS.
        on_message: Called in the network thread.
        on_up: Called in the event loop once the broker has granted the subscriptions; argument: session number.
        on_down: Called in the event loop when a session that was up has ended.
        will: Asked before every CONNECT, in a thread.
        farewell: Published before a clean disconnect.
        manual_ack: PUBACK is sent by :meth:`HubConnection.acknowledge` only.
        packet_bytes: Largest packet the broker may send (MQTT 5): it drops a larger one, which is never read here; None = any.
    """

    subscriptions: Sequence[tuple[str, int]]
    on_message: Callable[[Inbound], None]
    on_up: Callable[[int], None] = lambda _session: None
    on_down: Callable[[], None] = lambda: None
    will: Callable[[], Will | None] = lambda: None
    farewell: Callable[[], Will | None] = lambda: None
    manual_ack: bool = False
    packet_bytes: int | None = None


class _Client(paho.Client):
    """paho's client, except that the end of its network thread is always heard of, whatever ended it."""

    on_thread_end: Callable[[], None] | None = None
    #: While the owner does not take the next message nothing is read, and silence means nothing.
    taking = False
    free_since_s = 0.0

    def silence_s(self) -> float:
        """For how long nothing came although somebody listened."""
        last_s = max(self._last_bytes_received, self.free_since_s)
        return 0.0 if self.taking else max(0.0, time.monotonic() - last_s)

    def ask(self) -> None:
        """Have the broker say something, before the keepalive asks for it."""
        self._send_pingreq()

    def abort(self) -> None:
        """End the connection without another word; the network thread hears of it and ends."""
        found = self.socket()
        if isinstance(found, socket.socket):
            with contextlib.suppress(OSError):
                found.shutdown(socket.SHUT_RDWR)

    def loop_forever(self, timeout: float = 1.0, retry_first_connection: bool = False) -> MQTTErrorCode:
        try:
            return super().loop_forever(timeout, retry_first_connection)
        except Exception:  # noqa: BLE001 (paho raises all sorts on malformed packets; all of them end the session)
            _log.exception("MQTT: the network thread failed")
            return MQTTErrorCode.MQTT_ERR_PROTOCOL
        finally:
            if self.on_thread_end is not None:
                self.on_thread_end()

    def release(self) -> None:
        """Close every socket now; paho itself leaves its internal pair to the garbage collector."""
        self.loop_stop()
        self._reset_sockets()


class HubConnection:
    """Stays connected under one client id while :meth:`run` runs."""

    def __init__(self, broker: BrokerAddress, client_id: str, wiring: Wiring, silence_s: float = SILENCE_S) -> None:
        self.broker = broker
        self.client_id = client_id
        self._wiring = wiring
        self._silence_s = silence_s
        self._lock = threading.Lock()
        self._client: _Client | None = None
        self._session = 0
        #: Why there is no connection, in words; None while there is one, or none was tried.
        self.problem: str | None = None
        self._refused = False
        # MQTT 5 where the broker speaks it: only there a denied publish is visible.
        self._protocol = MQTTProtocolVersion.MQTTv5

    @property
    def address(self) -> str:
        """Host and port, for messages to people."""
        return f"{self.broker.host}:{self.broker.port}"

    def publish(self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False) -> bool:
        """Hand a message to the network thread, from any thread; false when there is no connection.

        Nothing waits for the broker's answer: whatever the hub publishes here is repeated when the other side asks again.
        """
        with self._lock:
            client = self._client
        if client is None:
            return False
        return client.publish(topic, payload, qos=qos, retain=retain).rc == MQTTErrorCode.MQTT_ERR_SUCCESS

    def acknowledge(self, messages: Sequence[Inbound]) -> None:
        """Send PUBACK, from any thread; messages of an earlier session are passed over, their ids mean others now."""
        with self._lock:
            client, session = self._client, self._session
        if client is None:
            return
        for message in messages:
            if message.qos and message.session == session:
                client.ack(message.mid, message.qos)

    async def run(self) -> None:
        """Connect, serve, connect again, until cancelled."""
        failures = 0
        while True:
            try:
                lived = await self._serve_once()
            except (OSError, BadInputError) as error:
                lived = False
                own = self.broker.ca_file is not None
                reason = connect_words(error, own_authority=own) if isinstance(error, OSError) else str(error)
                self._tell(f"broker {self.address} cannot be reached: {reason}", logging.WARNING)
            failures = 0 if lived else failures + 1
            first, cap = _BACKOFF_S
            await asyncio.sleep(random.uniform(0.5, 1.0) * min(cap, first * 2.0 ** min(failures, 10)))

    def _tell(self, problem: str, level: int) -> None:
        """Keep the reason, and log it once, not at every attempt."""
        _log.log(level if problem != self.problem else logging.DEBUG, "%s: %s", self.client_id, problem)
        self.problem = problem

    async def _serve_once(self) -> bool:
        """One session; true when it was up."""
        loop = asyncio.get_running_loop()
        up: asyncio.Future[None] = loop.create_future()
        ended: asyncio.Future[None] = loop.create_future()
        will = await asyncio.to_thread(self._wiring.will)
        client = self._make(will)
        self._refused = False
        self._wire(client, up, ended)
        dialling = asyncio.ensure_future(asyncio.to_thread(self._dial, client))
        try:
            await asyncio.shield(dialling)
            client.loop_start()
            await asyncio.wait({up, ended}, timeout=_CONNECT_S, return_when=asyncio.FIRST_COMPLETED)
            if not up.done():
                if not self._refused:
                    self._fall_back()
                return False
            self.problem = None
            self._wiring.on_up(self._session)
            try:
                await self._watch(client, ended)
            finally:
                self._wiring.on_down()
        finally:
            # Dialling cannot be interrupted; it ends within its own time-out, and its socket must not be left open.
            await asyncio.wait({dialling})
            await self._close(client)
        return True

    async def _watch(self, client: _Client, ended: asyncio.Future[None]) -> None:
        """Return when the session has ended; one whose line is dead without having been closed is ended here."""
        asked = False
        while not ended.done():
            await asyncio.wait({ended}, timeout=self._silence_s / 8)
            silent_s = client.silence_s()
            if silent_s >= 1.375 * self._silence_s and asked:
                _log.warning("%s: broker %s is silent for %.0f s, connecting anew", self.client_id, self.address, silent_s)
                client.abort()
                return
            if silent_s >= self._silence_s and not asked:
                client.ask()
            asked = silent_s >= self._silence_s

    def renew(self) -> None:
        """End the present session with its farewell and connect again with a fresh will."""
        with self._lock:
            client = self._client
        if client is not None:
            self._say_farewell(client)
            client.disconnect()

    def _say_farewell(self, client: _Client) -> None:
        word = self._wiring.farewell()
        if word is not None and client.is_connected():
            client.publish(word.topic, word.payload, 1, word.retain)

    def _dial(self, client: _Client) -> None:
        properties = None
        if self._protocol is MQTTProtocolVersion.MQTTv5 and self._wiring.packet_bytes is not None:
            properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # paho has no types here
            properties.MaximumPacketSize = self._wiring.packet_bytes
        client.connect(self.broker.host, self.broker.port, KEEPALIVE_S, properties=properties)

    def _fall_back(self) -> None:
        if self._protocol is MQTTProtocolVersion.MQTTv5:
            self._protocol = MQTTProtocolVersion.MQTTv311
            _log.warning("%s: broker %s does not answer in MQTT 5, trying 3.1.1", self.client_id, self.address)
        else:
            self._protocol = MQTTProtocolVersion.MQTTv5

    async def _close(self, client: _Client) -> None:
        with self._lock:
            if self._client is client:
                self._client = None
        self._say_farewell(client)
        client.disconnect()
        await asyncio.shield(asyncio.to_thread(client.release))

    def _make(self, will: Will | None) -> _Client:
        clean: dict[str, Any] = {} if self._protocol is MQTTProtocolVersion.MQTTv5 else {"clean_session": True}
        client = _Client(
            CallbackAPIVersion.VERSION2,
            self.client_id,
            protocol=self._protocol,
            manual_ack=self._wiring.manual_ack,
            reconnect_on_failure=False,
            **clean,
        )
        client.connect_timeout = _CONNECT_S
        prepare(client, self.broker)
        if will is not None:
            client.will_set(will.topic, will.payload, 1, will.retain)
        return client

    def _wire(self, client: _Client, up: asyncio.Future[None], ended: asyncio.Future[None]) -> None:
        """Hand what the network thread hears over to the event loop and to the owner."""
        loop = up.get_loop()
        self._session += 1
        session = self._session

        def settle(future: asyncio.Future[None]) -> None:
            if not future.done():
                future.set_result(None)

        def on_loop(future: asyncio.Future[None]) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(settle, future)

        def on_connect(_c: paho.Client, _d: object, _f: object, code: ReasonCode, _p: object) -> None:
            if code.is_failure:
                if code.value != _UNSUPPORTED_VERSION:
                    self._refused = True
                    self._tell(f"broker {self.address} refuses the connection: {code}", logging.ERROR)
                on_loop(ended)
                return
            with self._lock:
                self._client = client
            client.subscribe(list(self._wiring.subscriptions))

        def on_subscribe(_c: paho.Client, _d: object, _mid: int, codes: list[ReasonCode], _p: object) -> None:
            refused = [str(code) for code in codes if code.is_failure]
            if refused:
                _log.error("%s: broker %s refuses a subscription: %s", self.client_id, self.address, ", ".join(refused))
            on_loop(up)

        def on_message(_c: paho.Client, _d: object, got: paho.MQTTMessage) -> None:
            client.taking = True
            try:
                self._wiring.on_message(Inbound(got.topic, bytes(got.payload), got.retain, got.qos, got.mid, session))
            finally:
                client.free_since_s = time.monotonic()
                client.taking = False

        client.on_connect = on_connect
        client.on_subscribe = on_subscribe
        client.on_message = on_message
        client.on_thread_end = lambda: on_loop(ended)
