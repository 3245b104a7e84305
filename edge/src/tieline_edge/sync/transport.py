"""One MQTT connection at a time, as structured asyncio on top of paho's network thread.

:class:`MqttLink` knows how to connect; a :class:`MqttSession` is one connection from CONNECT to its end. Nothing survives
a session: the next one has a fresh client, a fresh will and no messages of the old one, because every lane of Tieline
repeats by itself what it has not been answered. MQTT 5 where the broker speaks it, because only there a denied publish
is visible; else 3.1.1 with a warning.
"""

from __future__ import annotations

import asyncio
import logging
import random
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from tieline_core.errors import TransientError
from tieline_core.tls import connect_words
from tieline_edge.broker_access import AccessFileError, prepare
from tieline_edge.settings import MqttEndpoint
from tieline_edge.sync.mqtt_session import (
    Client,
    ConnectRefusedError,
    LinkCounters,
    LinkLostError,
    LinkTimes,
    Message,
    MqttSession,
    NoAnswerError,
    PublishRefusedError,
)

__all__ = [
    "Backoff",
    "ConnectRefusedError",
    "LinkCounters",
    "LinkLostError",
    "LinkTimes",
    "Message",
    "MqttLink",
    "MqttSession",
    "PublishRefusedError",
    "Will",
]

_log = logging.getLogger(__name__)
DEFAULT_TIMES: Final = LinkTimes()
_UNSUPPORTED_VERSION: Final = 0x84
#: A session that lived this long was a good one: the next back-off starts small again.
_GOOD_SESSION_S: Final = 5.0
#: One that lived this long was nobody else's: an owner that comes then is the first one again.
_OWNED_S: Final = 3600.0
_TELL_S: Final = 60.0
#: A reason that stays the same is said again after so long: a hub that is away for weeks must not fill the log.
_REPEAT_S: Final = 3600.0
#: What an MQTT 5 broker is told not to exceed: a larger message is dropped there and never read here [bytes].
MAX_PACKET: Final = 2 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Will:
    """What the broker says when the connection dies."""

    topic: str
    payload: bytes
    qos: int = 1
    retain: bool = False


def no_will() -> Will | None:
    """For links that leave without a word."""
    return None


@dataclass(frozen=True, slots=True)
class Backoff:
    """Capped exponential back-off with full jitter: many edges must not knock at the same moment."""

    first_s: float
    cap_s: float
    rng: random.Random = field(default_factory=random.Random)

    def delay_s(self, failures: int) -> float:
        """How long to wait after this many failures in a row (from 1 on)."""
        ceiling = min(self.cap_s, self.first_s * 2.0 ** min(failures - 1, 30))
        return self.rng.uniform(ceiling / 4, ceiling)


class MqttLink:
    """How one client id reaches one broker.

    Args:
        endpoint: Broker address and credentials.
        client_id: Unique at the broker; one link, one id.
        times: Protocol wall times.
        inbox: Messages that may wait to be received; newer ones are dropped and counted.
        rng: Source of the back-off's jitter.
    """

    def __init__(
        self,
        endpoint: MqttEndpoint,
        client_id: str,
        times: LinkTimes = DEFAULT_TIMES,
        inbox: int = 10_000,
        rng: random.Random | None = None,
    ) -> None:
        self.endpoint = endpoint
        self.client_id = client_id
        self.counters = LinkCounters()
        self._times = times
        self._inbox = inbox
        rng = rng or random.Random()
        self._backoff = Backoff(times.backoff_s, times.backoff_cap_s, rng)
        self._takeover_backoff = Backoff(times.takeover_s, times.takeover_cap_s, rng)
        self._warned = False
        self._taken_over = 0
        #: Told when another client came with the same id, with words for an alarm; at most once a minute.
        self.on_takeover: Callable[[str], Awaitable[None]] | None = None
        self._told_s = float("-inf")
        self._lost, self._lost_told_s = "", float("-inf")

    @property
    def address(self) -> str:
        """Host and port, for messages to people."""
        return f"{self.endpoint.host}:{self.endpoint.port}"

    @asynccontextmanager
    async def connect(self, will: Callable[[], Will | None] = no_will) -> AsyncIterator[MqttSession]:
        """One session: connected on entry, cleanly disconnected on exit.

        Args:
            will: Asked before every CONNECT packet, in the dialling thread, once the broker can be reached.

        Raises:
            LinkLostError: The broker cannot be reached or does not answer.
            ConnectRefusedError: The broker refuses the credentials.
        """
        session = await self._open(will)
        self.counters.connects += 1
        try:
            yield session
        finally:
            await session.close()

    async def _open(self, will: Callable[[], Will | None]) -> MqttSession:
        try:
            return await self._attempt(MQTTProtocolVersion.MQTTv5, will)
        except NoAnswerError:
            session = await self._attempt(MQTTProtocolVersion.MQTTv311, will)
        if not self._warned:
            self._warned = True
            _log.warning("broker %s does not speak MQTT 5: a denied publish will not be visible", self.address)
        return session

    def _client(self, protocol: MQTTProtocolVersion, will: Callable[[], Will | None]) -> Client:
        clean: dict[str, Any] = {} if protocol is MQTTProtocolVersion.MQTTv5 else {"clean_session": True}
        client = Client(CallbackAPIVersion.VERSION2, self.client_id, protocol=protocol, reconnect_on_failure=False, **clean)
        client.connect_timeout = self._times.connect_s
        prepare(client, self.endpoint)

        def write_will(_client: object, _data: object, _socket: object) -> None:
            # The broker answers on TCP and CONNECT comes next: a dial that fails uses up no will.
            last_words = will()
            if last_words is not None:
                client.will_set(last_words.topic, last_words.payload, last_words.qos, last_words.retain)
                client.speaks_will = True

        client.on_socket_open = write_will
        return client

    async def _attempt(self, protocol: MQTTProtocolVersion, will: Callable[[], Will | None]) -> MqttSession:
        version = "5" if protocol is MQTTProtocolVersion.MQTTv5 else "3.1.1"
        client = self._client(protocol, will)
        session = MqttSession(client, version, self._times, self.counters, self._inbox)
        wishes: dict[str, Any] = {}
        if protocol is MQTTProtocolVersion.MQTTv5:
            wishes["properties"] = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call] # (paho leaves it bare)
            wishes["properties"].MaximumPacketSize = MAX_PACKET
        dialling = asyncio.create_task(
            asyncio.to_thread(
                client.connect, self.endpoint.host, self.endpoint.port, self._times.announced_keepalive_s, **wishes
            )
        )
        try:
            await asyncio.shield(dialling)
            client.loop_start()
            code = await session.answer()
        except OSError as error:
            await session.close()
            kind = ConnectRefusedError if isinstance(error, ssl.SSLCertVerificationError) else LinkLostError
            reason = connect_words(error, own_authority=self.endpoint.ca_file is not None)
            raise kind(f"broker {self.address} cannot be reached: {reason}") from error
        except BaseException:
            # Dialling cannot be interrupted; it ends within its own time-out, and its socket must not be left open.
            await asyncio.wait({dialling})
            await session.close()
            raise
        if not code.is_failure:
            return session
        await session.close()
        if code.value == _UNSUPPORTED_VERSION:
            raise NoAnswerError(f"broker {self.address}: {code}")
        raise ConnectRefusedError(f"broker {self.address} refuses client {self.client_id}: {code}")

    async def run(self, serve: Callable[[MqttSession], Awaitable[None]], will: Callable[[], Will | None] = no_will) -> None:
        """Stay connected: serve one session after the other until cancelled.

        Args:
            serve: Lives as long as its session; it ends by raising :class:`LinkLostError` or another TransientError, also
                inside a group, or by returning, which disconnects cleanly and connects again.
            will: As for :meth:`connect`.
        """
        failures = 0
        while True:
            started_s = time.monotonic()
            session: MqttSession | None = None
            try:
                async with self.connect(will) as session:
                    self._note_back()
                    await serve(session)
            except* TransientError as lost:
                self._note(lost)
            lived_s = time.monotonic() - started_s
            failures = 1 if lived_s > _GOOD_SESSION_S else failures + 1
            if session is not None and session.taken_over:
                await self._step_back()
                continue
            if lived_s > _OWNED_S:
                self._taken_over = 0
            await asyncio.sleep(self._backoff.delay_s(failures))

    async def _step_back(self) -> None:
        """Two owners of one id would throw each other out for ever: who is thrown out waits, longer each time."""
        self.counters.takeovers += 1
        self._taken_over += 1
        delay_s = self._takeover_backoff.delay_s(self._taken_over)
        text = (
            f"another client connected as {self.client_id} and took over: two edges use one id, or an image was cloned; "
            f"this one stays away for {delay_s:.0f} s"
        )
        _log.error("link %s: %s", self.client_id, text)
        if self.on_takeover is not None and time.monotonic() - self._told_s >= _TELL_S:
            self._told_s = time.monotonic()
            try:
                await self.on_takeover(text)
            except TransientError as error:
                _log.warning("link %s: %s", self.client_id, error)
        await asyncio.sleep(delay_s)

    def _note(self, group: BaseExceptionGroup[TransientError]) -> None:
        self.counters.losses += 1
        text, now_s = "; ".join(_reasons(group)), time.monotonic()
        if text == self._lost and now_s - self._lost_told_s < _REPEAT_S:
            _log.debug("link %s: %s", self.client_id, text)
            return
        self._lost, self._lost_told_s = text, now_s
        refused = group.subgroup((ConnectRefusedError, AccessFileError))
        _log.log(logging.ERROR if refused else logging.INFO, "link %s: %s; trying again", self.client_id, text)

    def _note_back(self) -> None:
        if self._lost:
            self._lost = ""
            _log.info("link %s: connected to %s again", self.client_id, self.address)


def _reasons(group: BaseExceptionGroup[BaseException]) -> Sequence[str]:
    return [
        text for part in group.exceptions for text in (_reasons(part) if isinstance(part, BaseExceptionGroup) else [str(part)])
    ]
