"""The durable lane's rim: moves frames from the outbox to the broker as :mod:`tieline_edge.sync.uplink_state` decides."""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

from tieline_core import topics
from tieline_core.clock import Clock
from tieline_core.errors import BadInputError, TransientError
from tieline_core.frame import encode
from tieline_core.messages.telemetry import Ack, Hello, HelloAnswer, Stream
from tieline_edge.outbox.store import Outbox
from tieline_edge.sync import uplink_state as core
from tieline_edge.sync.mqtt_session import Message, MqttSession

_log = logging.getLogger(__name__)
_MAX_BYTES: Final = 16 * 1024
_TICK_S: Final = 0.25
#: ... while nothing is due and nothing is out: whatever happens then stirs.
_IDLE_TICK_S: Final = 1.0
#: Nonces of this many hellos are still good for a desired state that answers one of them.
_NONCES: Final = 8


class TokenBucket:
    """Bounds how fast a backlog drains, so that live values and alarms keep their share of a thin line.

    Args:
        rate_per_s: Tokens that come back a second.
        burst: Most tokens it holds.
        monotonic: Seconds; None = the computer's, looked up when the bucket is made.
    """

    def __init__(self, rate_per_s: float, burst: int, monotonic: Callable[[], float] | None = None) -> None:
        self._rate = rate_per_s
        self._burst = burst
        self._monotonic = monotonic = monotonic or time.monotonic
        self._tokens = float(burst)
        self._at_s = monotonic()

    def available(self) -> int:
        """Whole tokens there are now."""
        now_s = self._monotonic()
        self._tokens = min(float(self._burst), self._tokens + (now_s - self._at_s) * self._rate)
        self._at_s = now_s
        return int(self._tokens)

    def take(self, count: int) -> None:
        """Use tokens that :meth:`available` has shown."""
        self._tokens -= count


@dataclass(frozen=True, slots=True)
class UplinkSettings:
    """Times and rates of the lane; all of them wall time."""

    times: core.UplinkTimes = field(default_factory=core.UplinkTimes)
    drain_frames_per_s: float = 200.0
    drain_burst: int = 128


@dataclass(slots=True)
class UplinkCounters:
    """What happened since the start."""

    hellos: int = 0
    frames_sent: int = 0
    frames_acknowledged: int = 0
    go_backs: int = 0
    refused: int = 0
    epochs: int = 0


class Uplink:
    """Sends what the outbox holds over one session after the other.

    Args:
        outbox: Where frames come from.
        clock: For the instant in a hello.
        software: Name and version for the hello.
        boot_id: One value for the life of the process.
        settings: Times and rates.
        rng: Source of the jitter of hellos.
    """

    def __init__(
        self,
        outbox: Outbox,
        clock: Clock,
        software: str,
        boot_id: str,
        settings: UplinkSettings | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self.counters = UplinkCounters()
        self.nonces: deque[str] = deque(maxlen=_NONCES)
        self._outbox = outbox
        self._clock = clock
        self._software = software
        self._boot_id = boot_id
        self._settings = settings or UplinkSettings()
        self._rng = rng or random.Random()
        self._bucket = TokenBucket(self._settings.drain_frames_per_s, self._settings.drain_burst)
        nothing = dict.fromkeys(Stream, 0)
        self._state = core.begin(0, nothing, nothing)
        self._way = core.NOTHING_ON_THE_WAY
        #: When the hub last answered or acknowledged anything; None = not since the start.
        self.heard_at: datetime | None = None
        #: The outbox file whose sequence numbers the state speaks of; None = not asked yet.
        self._generation: int | None = None
        self._stirred = asyncio.Event()
        #: Streams of which all is sent that may be: the disk is not asked again before something has stirred.
        self._dry: set[Stream] = set()
        self._lock = asyncio.Lock()

    @property
    def state(self) -> core.UplinkState:
        """Present state of the lane, for status pages."""
        return self._state

    @property
    def online(self) -> bool:
        """True while the hub answers: the newest hello has been answered and the connection stands."""
        return self._state.open

    def topics(self) -> Sequence[str]:
        """What a session has to subscribe to before :meth:`serve`."""
        return topics.answer(self._outbox.edge), topics.ack(self._outbox.edge)

    async def serve(self, session: MqttSession) -> None:
        """Run the lane over one session until it is lost.

        Raises:
            LinkLostError: The connection is gone.
            TransientError: The outbox refused to note something; the caller tries again with a new session.
        """
        if self._generation != self._outbox.generation:
            generation = self._outbox.generation
            states = await self._outbox.states()
            acked = {stream: state.acked_seq for stream, state in states.items()}
            recorded = {stream: state.next_seq - 1 for stream, state in states.items()}
            self._state = core.begin(await self._outbox.epoch(), acked, recorded)
            self._generation = generation
        self._way = core.NOTHING_ON_THE_WAY
        self._stirred.set()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._watch_outbox(), name="uplink.watch")
                await self._pump(session)
        finally:
            self._state = core.disconnected(self._state)

    async def take(self, message: Message) -> None:
        """Handle a message of :meth:`topics`; what cannot be read is counted and reported, never obeyed."""
        try:
            if message.topic == topics.answer(self._outbox.edge):
                answer = HelloAnswer.from_bytes(message.payload, message.topic, _MAX_BYTES)
                _for(answer.edge_id, self._outbox.edge, message.topic)
                self.heard_at = self._clock.now()
                async with self._lock:
                    self._ensure_same_outbox()
                    state, effects = core.answered(self._state, answer, time.monotonic())
                    await self._adopt(state, effects)
            else:
                ack = Ack.from_bytes(message.payload, message.topic, _MAX_BYTES)
                _for(ack.edge_id, self._outbox.edge, message.topic)
                self.heard_at = self._clock.now()
                async with self._lock:
                    self._ensure_same_outbox()
                    state, effects = core.acknowledged(self._state, ack, time.monotonic(), self._settings.times, self._way)
                    await self._adopt(state, effects)
        except BadInputError as error:
            await self._refuse(core.Refuse("uplink.garbage", str(error)))

    def _ensure_same_outbox(self) -> None:
        if self._generation != self._outbox.generation:
            raise TransientError("the outbox was repaired: its frames have new numbers, hello has to be said again")

    async def _adopt(self, state: core.UplinkState, effects: Sequence[core.Effect]) -> None:
        """Do what follows from a step, durably first, then take the new state."""
        for effect in effects:
            match effect:
                case core.Relabel(epoch, held):
                    self.counters.epochs += 1
                    await self._outbox.relabel(epoch, held)
                case core.Acknowledge(stream, seq):
                    self.counters.frames_acknowledged += await self._outbox.mark_acknowledged(stream, seq)
                case core.Rewind(stream, seq):
                    await self._outbox.rewind(stream, seq)
                case core.Refuse():
                    await self._refuse(effect)
        self.counters.go_backs += sum(state.streams[s].sent < self._state.streams[s].sent for s in Stream)
        self._state = state
        self._hold()
        self._stirred.set()

    def _hold(self) -> None:
        for stream, progress in self._state.streams.items():
            self._outbox.hold(stream, min(progress.highest, progress.acked + self._settings.times.window))

    async def _refuse(self, refusal: core.Refuse) -> None:
        self.counters.refused += 1
        _log.error("durable lane: %s", refusal.text)
        # One event a code and burst is enough: the counter goes on counting.
        if self.counters.refused == 1 or self.counters.refused % 100 == 0:
            await self._outbox.alarm(refusal.code, refusal.text)

    async def _watch_outbox(self) -> None:
        while True:
            await self._outbox.wait_for_more()
            self._stirred.set()

    async def _pump(self, session: MqttSession) -> None:
        look_back = True
        while session.alive:
            async with self._lock:
                self._ensure_same_outbox()
                before = self._state
                self._state, effects = core.tick(before, time.monotonic(), self._settings.times, self._way)
                gone_back = {s for s in Stream if self._state.streams[s].sent < before.streams[s].sent}
                self.counters.go_backs += len(gone_back)
                self._dry -= gone_back
                if self._stirred.is_set():
                    # Cleared before the disk is asked: what is committed meanwhile stirs again.
                    self._stirred.clear()
                    self._dry.clear()
                    look_back = True
                if effects:
                    await self._say_hello(session)
                more = await self._send_some(session)
                if not more and look_back and self._state.open:
                    more = look_back = await self._outbox.take_back()
                    self._dry -= set(Stream) if more else set()
            if more:
                await asyncio.sleep(0)
                continue
            try:
                async with asyncio.timeout(_IDLE_TICK_S if self._idle else _TICK_S):
                    await self._stirred.wait()
            except TimeoutError:
                continue
        session.ensure_alive()

    @property
    def _idle(self) -> bool:
        nothing_out = all(progress.sent == progress.acked for progress in self._state.streams.values())
        return self._state.open and nothing_out and len(self._dry) == len(Stream)

    async def _say_hello(self, session: MqttSession) -> None:
        # A hello that is repeated keeps its nonce: a hub slower than our patience would else never answer the newest one.
        unanswered = None if self._state.open else self._state.nonce
        nonce = unanswered or secrets.token_hex(16)
        wait_s = core.hello_wait_s(self._state, self._settings.times) * self._rng.uniform(0.75, 1.25)
        self._state = core.hello_said(self._state, nonce, time.monotonic() + wait_s)
        if nonce != unanswered:
            self.nonces.append(nonce)
        hello = Hello(
            edge_id=self._outbox.edge,
            epoch=self._state.epoch,
            boot_id=self._boot_id,
            nonce=nonce,
            streams=await self._outbox.states(),
            software=self._software,
            at=self._clock.now(),
        )
        self.counters.hellos += 1
        session.send(topics.hello(self._outbox.edge), hello.to_bytes())

    def _send(self, session: MqttSession, topic: str, payload: bytes) -> None:
        confirmed = session.send(topic, payload)
        self._way = replace(self._way, count=self._way.count + 1)

        def note(_done: asyncio.Future[None]) -> None:
            # A session that has ended confirms nothing: the next one counts anew.
            if session.alive:
                self._way = core.OnTheWay(self._way.count - 1, time.monotonic())

        confirmed.add_done_callback(note)

    async def _send_some(self, session: MqttSession) -> bool:
        """Send what window and bucket allow, alarms first; true when something went out."""
        count = 0
        for stream in Stream:
            room = self._state.room(stream, self._settings.times)
            if stream is not Stream.ALARM:
                room = min(room, self._bucket.available())
            if room == 0 or stream in self._dry:
                continue
            frames = await self._outbox.next_frames(stream, self._state.streams[stream].sent, room)
            if len(frames) < room:
                self._dry.add(stream)
            for frame in frames:
                # Noted first: a session that ends in this moment may have sent it, and the hub's word for it must be believed.
                self._state = core.sent(self._state, stream, frame.seq, time.monotonic())
                self._send(session, topics.frame(self._outbox.edge, stream), encode(frame))
                count += 1
                if stream is not Stream.ALARM:
                    self._bucket.take(1)
            self._hold()
        self.counters.frames_sent += count
        return count > 0


def _for(named: str, edge: str, topic: str) -> None:
    if named != edge:
        raise BadInputError(topic, "edge_id", named, f"this is {edge}")
