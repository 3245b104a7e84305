"""The live lane: a Sparkplug B 3.0 edge node over its own MQTT connection.

It tells what is true now and may lose a value; the durable lane keeps history. Of all commands that Sparkplug knows it
obeys one, ``Node Control/Rebirth``: a control action is a signed command of the durable lane and nothing else.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from tieline_core import topics
from tieline_core.clock import Clock
from tieline_core.ids import EdgeId
from tieline_core.sparkplug.metric import Payload, SparkplugError
from tieline_core.sparkplug.payload import decode, encode
from tieline_core.sparkplug.session import REBIRTH, HostState, death, next_seq
from tieline_edge.settings import MqttEndpoint
from tieline_edge.sync.durable_file import Counters
from tieline_edge.sync.live_state import LiveTable, LiveView, Publication, payload, to_ms
from tieline_edge.sync.mqtt_session import LinkLostError, Message, MqttSession
from tieline_edge.sync.transport import MqttLink, Will

_log = logging.getLogger(__name__)
_BDSEQ: Final = "bdseq"
_EVENT_EVERY_S: Final = 60.0

#: Records an event: stable code, text for people.
Notify = Callable[[str, str], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class LiveSettings:
    """How the live lane speaks.

    Attributes:
        host_id: Primary host; None = do not wait for one.
        period_s: How often changes are looked for, seconds of the clock.
        floor_wall_s: Never more often than this in wall time.
        refresh_s: Unchanged values are said again after this, seconds of the clock.
        rebirth_wall_s: Shortest wall time between two births on request.
    """

    host_id: str | None = "hub"
    period_s: float = 1.0
    floor_wall_s: float = 0.25
    refresh_s: float = 60.0
    rebirth_wall_s: float = 1.0


@dataclass(slots=True)
class LiveCounters:
    """What happened since the start."""

    births: int = 0
    messages: int = 0
    metrics: int = 0
    rebirths_requested: int = 0
    commands_refused: int = 0
    stale_states: int = 0


def live_link(endpoint: MqttEndpoint, edge: str) -> MqttLink:
    """The link of the live lane, apart from the durable one: Sparkplug's disconnect rules must not stop that."""
    return MqttLink(endpoint, f"{edge}-live", inbox=1000)


class LiveLane:
    """Publishes births, data and deaths of one edge node.

    Args:
        link: From :func:`live_link`.
        edge: The node.
        clock: Stamps and periods.
        numbers: Keeps the birth-death number across restarts.
        view: Gives what is true now; called once a period.
        notify: Called when a command arrives that is not obeyed.
        settings: Periods and host.
    """

    def __init__(
        self,
        link: MqttLink,
        edge: EdgeId,
        clock: Clock,
        numbers: Counters,
        view: Callable[[], LiveView],
        notify: Notify,
        settings: LiveSettings | None = None,
    ) -> None:
        self.link = link
        self.counters = LiveCounters()
        self._edge = edge
        self._clock = clock
        self._numbers = numbers
        self._view = view
        self._notify = notify
        self._settings = settings or LiveSettings()
        self._host: HostState | None = None
        self._state_ms = 0
        self._stirred = asyncio.Event()
        self._rebirth = False
        self._event_at_s: dict[str, float] = {}

    @property
    def host_online(self) -> bool:
        """True when the primary host says so, or none is waited for."""
        return self._may_speak()

    def _may_speak(self) -> bool:
        return self._settings.host_id is None or (self._host is not None and self._host.online)

    async def run(self) -> None:
        """Serve until cancelled, with a death before each clean goodbye."""
        await self.link.run(self._serve, self._fresh_will)

    def _fresh_will(self) -> Will:
        """A death with the next birth-death number; stored before CONNECT, so that no two sessions share one.

        Called in the dialling thread, which may wait for the disk.
        """
        self._numbers.advance(_BDSEQ, self._numbers.last(_BDSEQ) + 1)
        return Will(topics.sparkplug("NDEATH", self._edge), self._death(), qos=1)

    def _bdseq(self) -> int:
        """Of the present session: the first CONNECT ever has 0."""
        return self._numbers.last(_BDSEQ) - 1

    def _death(self) -> bytes:
        return encode(death(self._bdseq(), to_ms(self._clock.now())))

    async def _serve(self, session: MqttSession) -> None:
        self._host = None
        self._rebirth = False
        commands = topics.sparkplug("NCMD", self._edge), topics.sparkplug("DCMD", self._edge, "+")
        host = () if self._settings.host_id is None else (topics.host_state(self._settings.host_id),)
        await session.subscribe(*commands, *host)
        listening = asyncio.create_task(self._listen(session), name="live.listen")
        try:
            await self._speak(session, listening)
        finally:
            listening.cancel()
            await asyncio.wait({listening})
            if not listening.cancelled():
                listening.exception()

    async def _speak(self, session: MqttSession, listening: asyncio.Task[None]) -> None:
        """Births, then changes, until the host goes offline or the connection is lost."""
        while not self._may_speak():
            await self._pause(listening)
        table = LiveTable(timedelta(seconds=self._settings.refresh_s))
        seq = self._publish_births(session, table)
        born_s = time.monotonic()
        try:
            while self._may_speak():
                await self._pause(listening)
                session.ensure_alive()
                if self._rebirth:
                    # From the request on no data may go out; births too fast in a row are put off, not dropped.
                    if time.monotonic() - born_s < self._settings.rebirth_wall_s:
                        continue
                    seq = self._publish_births(session, table)
                    born_s = time.monotonic()
                    continue
                seq = self._publish(session, table.changes(self._view(), self._clock.now()), seq)
            _log.info("host %s is offline: the node says goodbye and waits", self._settings.host_id)
        finally:
            if session.alive:
                session.send(topics.sparkplug("NDEATH", self._edge), self._death(), qos=1)

    async def _pause(self, listening: asyncio.Task[None]) -> None:
        """Wait a period, shorter when something was heard; raises what ended the listening."""
        period_s = max(self._settings.floor_wall_s, self._settings.period_s / self._clock.speed())
        try:
            async with asyncio.timeout(period_s):
                await self._stirred.wait()
        except TimeoutError:
            _log.debug("a quiet period")
        self._stirred.clear()
        if listening.done():
            await listening

    def _publish_births(self, session: MqttSession, table: LiveTable) -> int:
        self._rebirth = False
        births = table.births(self._view(), self._bdseq(), self._clock.now())
        self.counters.births += 1
        return self._publish(session, births, 255)

    def _publish(self, session: MqttSession, publications: list[Publication], seq: int) -> int:
        for publication in publications:
            seq = next_seq(seq)
            body: Payload = payload(publication, seq, self._clock.now())
            topic = topics.sparkplug(publication.kind, self._edge, publication.device)
            session.send(topic, encode(body), qos=0)
            self.counters.messages += 1
            self.counters.metrics += len(body.metrics)
        return seq

    async def _listen(self, session: MqttSession) -> None:
        try:
            while True:
                await self._hear(await session.receive())
        except LinkLostError:
            self._stirred.set()
            raise

    async def _hear(self, message: Message) -> None:
        try:
            if self._settings.host_id is not None and message.topic == topics.host_state(self._settings.host_id):
                self._hear_host(HostState.from_bytes(message.payload))
            elif message.topic == topics.sparkplug("NCMD", self._edge):
                await self._hear_command(message)
            else:
                await self._refuse("live.command_refused", f"DCMD on {message.topic} was not obeyed: commands are signed ones")
        except SparkplugError as error:
            await self._refuse("live.garbage", f"{message.topic}: {error}")

    def _hear_host(self, state: HostState) -> None:
        # Also across sessions: a broker restored from a copy retains what the host has taken back since.
        if state.timestamp_ms < self._state_ms:
            self.counters.stale_states += 1
            return
        self._state_ms = state.timestamp_ms
        self._host = state
        self._stirred.set()

    async def _hear_command(self, message: Message) -> None:
        if message.retain:
            await self._refuse("live.command_refused", f"retained NCMD on {message.topic} not obeyed: clear it at the broker")
            return
        metrics = decode(message.payload).metrics
        others = [metric.label for metric in metrics if metric.name != REBIRTH]
        if others:
            named = ", ".join(others)[:200]
            await self._refuse("live.command_refused", f"NCMD {named} was not obeyed: commands are signed ones")
        elif any(metric.value is True for metric in metrics):
            self.counters.rebirths_requested += 1
            self._rebirth = True
            self._stirred.set()

    async def _refuse(self, code: str, text: str) -> None:
        self.counters.commands_refused += 1
        _log.error("live lane: %s", text)
        now_s = time.monotonic()
        if now_s - self._event_at_s.get(code, float("-inf")) >= _EVENT_EVERY_S:
            self._event_at_s[code] = now_s
            await self._notify(code, text)
