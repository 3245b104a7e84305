"""One MQTT connection from CONNECT to its end, as structured asyncio on top of paho's network thread."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import paho.mqtt.client as paho
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.reasoncodes import ReasonCode

from tieline_core.errors import PermanentError, TransientError

_log = logging.getLogger(__name__)
_Answer = TypeVar("_Answer")
_TAKEN_OVER = 0x8E


class LinkLostError(TransientError):
    """There is no connection (any more): connect again and repeat what was not answered."""


class ConnectRefusedError(LinkLostError):
    """One side says no: to credentials, to a client id, to a certificate. Tried again, in case it is set right there."""


class PublishRefusedError(PermanentError):
    """The broker does not let this client publish there (MQTT 5 only; 3.1.1 brokers stay silent)."""


class NoAnswerError(LinkLostError):
    """The broker closed before it answered CONNECT: perhaps it does not speak this version."""


@dataclass(frozen=True, slots=True)
class Message:
    """A received message."""

    topic: str
    payload: bytes
    qos: int = 0
    retain: bool = False


@dataclass(frozen=True, slots=True)
class LinkTimes:
    """Wall times of the protocol [s]; they never follow a simulated clock.

    A line that is dead without having been closed is noticed within 1.5 ``keepalive_s``.
    """

    connect_s: float = 5.0
    answer_s: float = 5.0
    keepalive_s: int = 15
    backoff_s: float = 0.25
    backoff_cap_s: float = 15.0
    takeover_s: float = 30.0
    takeover_cap_s: float = 1800.0

    @property
    def announced_keepalive_s(self) -> int:
        """What CONNECT says: paho asks after that long a silence, and gives up after as long again without an answer."""
        return max(1, self.keepalive_s * 3 // 4)


@dataclass(slots=True)
class LinkCounters:
    """What happened on a link since it was made."""

    connects: int = 0
    failures: int = 0
    losses: int = 0
    published: int = 0
    received: int = 0
    dropped: int = 0
    refused: int = 0
    takeovers: int = 0


class Client(paho.Client):
    """paho's client, except that the end of the network thread is always heard of, whatever ended it."""

    on_thread_end: Callable[[str], None] | None = None
    speaks_will: bool = False
    """A will went into CONNECT."""

    def loop_forever(self, timeout: float = 1.0, retry_first_connection: bool = False) -> MQTTErrorCode:
        reason = "the network thread ended"
        try:
            return super().loop_forever(timeout, retry_first_connection)
        except Exception as error:  # noqa: BLE001 (paho raises all sorts on malformed packets; all of them end the session)
            reason = f"broken packet: {error!r}"
            return MQTTErrorCode.MQTT_ERR_PROTOCOL
        finally:
            if self.on_thread_end is not None:
                self.on_thread_end(reason)

    def release(self) -> None:
        """Close every socket now; paho itself leaves its internal pair to the garbage collector."""
        self._reset_sockets()


class MqttSession:
    """One connection; made by :meth:`MqttLink.connect`, used from one event loop.

    Attributes:
        protocol: ``5`` or ``3.1.1``.
        taken_over: The broker ended it because another client came with the same id (MQTT 5 says so).
    """

    def __init__(self, client: Client, protocol: str, times: LinkTimes, counters: LinkCounters, inbox: int) -> None:
        self.protocol = protocol
        self.taken_over = False
        self._client = client
        self._times = times
        self._counters = counters
        self._inbox_limit = inbox
        self._inbox: deque[Message] = deque()
        self._arrived = asyncio.Event()
        self._ended: str | None = None
        self._unanswered: dict[int, asyncio.Future[None]] = {}
        self._subscribing: dict[int, asyncio.Future[list[ReasonCode]]] = {}
        self._answered: asyncio.Future[ReasonCode] = asyncio.get_running_loop().create_future()
        self._wire(asyncio.get_running_loop())

    def _wire(self, loop: asyncio.AbstractEventLoop) -> None:
        """Hand every callback of the network thread over to the event loop."""

        def on_loop(call: Callable[..., None], *args: object) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(call, *args)

        def on_connect(_client: paho.Client, _data: object, _flags: object, code: ReasonCode, _props: object) -> None:
            on_loop(self._take_answer, code)

        def on_disconnect(_client: paho.Client, _data: object, _flags: object, code: ReasonCode, _props: object) -> None:
            if code.value == _TAKEN_OVER:
                self.taken_over = True
            on_loop(self.end, str(code))

        def on_message(_client: paho.Client, _data: object, got: paho.MQTTMessage) -> None:
            on_loop(self._take, Message(got.topic, bytes(got.payload), got.qos, got.retain))

        def on_publish(_client: paho.Client, _data: object, mid: int, code: ReasonCode, _props: object) -> None:
            on_loop(self._take_puback, mid, code)

        def on_subscribe(_client: paho.Client, _data: object, mid: int, codes: list[ReasonCode], _props: object) -> None:
            on_loop(self._take_suback, mid, codes)

        self._client.on_thread_end = lambda reason: on_loop(self.end, reason)
        self._client.on_connect = on_connect
        self._client.on_disconnect = on_disconnect
        self._client.on_message = on_message
        self._client.on_publish = on_publish
        self._client.on_subscribe = on_subscribe

    def _take_answer(self, code: ReasonCode) -> None:
        if not self._answered.done():
            self._answered.set_result(code)

    def _take(self, message: Message) -> None:
        if len(self._inbox) >= self._inbox_limit:
            if self._counters.dropped == 0:
                _log.error("MQTT inbox is full (%d messages), dropping new ones", self._inbox_limit)
            self._counters.dropped += 1
            return
        self._counters.received += 1
        self._inbox.append(message)
        self._arrived.set()

    def _take_puback(self, mid: int, code: ReasonCode) -> None:
        future = self._unanswered.pop(mid, None)
        if future is None or future.done():
            return
        if code.is_failure:
            self._counters.refused += 1
            future.set_exception(PublishRefusedError(f"the broker refused a publish: {code}"))
        else:
            future.set_result(None)

    def _take_suback(self, mid: int, codes: list[ReasonCode]) -> None:
        future = self._subscribing.pop(mid, None)
        if future is not None and not future.done():
            future.set_result(codes)

    def end(self, reason: str) -> None:
        """Mark the session as over: whoever waits on it gets :class:`LinkLostError`. The first reason stays."""
        if self._ended is not None:
            return
        self._ended = reason
        self._arrived.set()
        waiting: list[asyncio.Future[Any]] = [self._answered, *self._unanswered.values(), *self._subscribing.values()]
        for future in waiting:
            if not future.done():
                future.set_exception(LinkLostError(f"MQTT connection lost: {reason}"))
                future.exception()
        self._unanswered.clear()
        self._subscribing.clear()

    @property
    def alive(self) -> bool:
        """False once the connection is known to be gone."""
        return self._ended is None

    def ensure_alive(self) -> None:
        """Raise :class:`LinkLostError` when the connection is gone."""
        if self._ended is not None:
            raise LinkLostError(f"MQTT connection lost: {self._ended}")

    async def answer(self) -> ReasonCode:
        """The broker's answer to CONNECT; used while connecting."""
        try:
            async with asyncio.timeout(self._times.answer_s):
                return await self._answered
        except TimeoutError as error:
            # Some brokers are silent to a protocol they do not speak: the older one is tried then.
            raise NoAnswerError(f"the broker did not answer CONNECT within {self._times.answer_s:g} s") from error
        except LinkLostError as error:
            raise NoAnswerError(str(error)) from error

    async def receive(self) -> Message:
        """The next message, in order of arrival.

        Raises:
            LinkLostError: The connection is gone and everything received has been taken.
        """
        while not self._inbox:
            self.ensure_alive()
            self._arrived.clear()
            await self._arrived.wait()
        return self._inbox.popleft()

    async def subscribe(self, *topics: str, qos: int = 1) -> None:
        """Subscribe and wait for the answer.

        Raises:
            LinkLostError: No answer in time, or the connection is gone.
            PublishRefusedError: The broker refuses one of them.
        """
        result, mid = self._client.subscribe([(topic, qos) for topic in topics])
        if result != paho.MQTT_ERR_SUCCESS or mid is None:
            raise LinkLostError(f"cannot subscribe: {paho.error_string(result)}")
        future: asyncio.Future[list[ReasonCode]] = asyncio.get_running_loop().create_future()
        self._subscribing[mid] = future
        codes = await self._in_time(future, f"SUBSCRIBE {', '.join(topics)}")
        for topic, code in zip(topics, codes, strict=False):
            if code.is_failure:
                raise PublishRefusedError(f"the broker refused the subscription to {topic}: {code}")

    def send(self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False) -> asyncio.Future[None]:
        """Hand a message to the network thread.

        Returns:
            For QoS 1 a future that is done with the PUBACK and fails with :class:`PublishRefusedError` or
            :class:`LinkLostError`; it may be left alone. For QoS 0 it is done at once.

        Raises:
            LinkLostError: There is no connection.
        """
        self.ensure_alive()
        info = self._client.publish(topic, payload, qos=qos, retain=retain)
        if info.rc != paho.MQTT_ERR_SUCCESS:
            raise LinkLostError(f"cannot publish: {paho.error_string(info.rc)}")
        self._counters.published += 1
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        # A caller that repeats by itself may ignore the future; its failure is then no unheard error.
        future.add_done_callback(lambda done: done.cancelled() or done.exception())
        if qos == 0:
            future.set_result(None)
        else:
            self._unanswered[info.mid] = future
        return future

    async def publish(self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False) -> None:
        """Publish, and with QoS 1 wait for the PUBACK.

        Raises:
            LinkLostError: No answer in time, or the connection is gone.
            PublishRefusedError: The broker refuses it (MQTT 5).
        """
        await self._in_time(self.send(topic, payload, qos=qos, retain=retain), f"PUBLISH {topic}")

    async def _in_time(self, future: asyncio.Future[_Answer], what: str) -> _Answer:
        try:
            async with asyncio.timeout(self._times.answer_s):
                return await future
        except TimeoutError as error:
            self.end(f"no answer to {what} within {self._times.answer_s:g} s")
            raise LinkLostError(f"no answer to {what} within {self._times.answer_s:g} s") from error

    def cut(self) -> None:
        """Break the connection without DISCONNECT, so that the broker speaks the will."""
        self._break_socket()
        self.end("cut")

    def _break_socket(self) -> None:
        raw = self._client.socket()
        if isinstance(raw, socket.socket):
            try:
                raw.shutdown(socket.SHUT_RDWR)
            except OSError:
                _log.debug("the MQTT socket was closed already")

    async def close(self) -> None:
        """Say DISCONNECT, end the network thread and close the socket; never takes longer than a few seconds.

        Where there is a will, MQTT 5 is told to speak it: Sparkplug wants a death certificate after every goodbye.
        """
        if self._ended is None:
            last_words = self._client.speaks_will and self.protocol == "5"
            self._client.disconnect(ReasonCode(PacketTypes.DISCONNECT, "Disconnect with will message") if last_words else None)
        stopping = asyncio.create_task(asyncio.to_thread(self._client.loop_stop))
        _, late = await asyncio.wait({stopping}, timeout=1.0)
        if late:
            self._break_socket()
            await stopping
        self._client.release()
        self.end("closed")
