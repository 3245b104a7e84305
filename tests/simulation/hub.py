"""The hub as the edge sees it: it commits frames in order, signs plans, policies and commands, and sometimes is an impostor."""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from tests.simulation.network import Network, Parcel, SimClient
from tests.simulation.timeline import Timeline
from tieline_core import topics
from tieline_core.errors import TransientError
from tieline_core.frame import Frame, decode, decode_readings
from tieline_core.ids import EdgeId
from tieline_core.messages.command import Command, CommandState
from tieline_core.messages.desired import Desired, Reported
from tieline_core.messages.plan import Plan
from tieline_core.messages.policy import Policy
from tieline_core.messages.telemetry import Ack, FrameKind, Hello, HelloAnswer, Skip, Stream
from tieline_core.signing import EnvelopeType, Signer

_DAY: Final = timedelta(days=1)
_MOST: Final = 1 << 20


@dataclass(slots=True)
class Order:
    """Something the hub has asked for, as the oracle knows it.

    Attributes:
        genuine: Signed by the hub for this edge, new, and with an end in the future when it was sent.
        taken_s: When the edge has said that it took it.
        over: Its end has passed on the edge's own clock, or it was withdrawn.
    """

    name: str
    genuine: bool
    command: Command | None = None
    plan: Plan | None = None
    taken_s: float | None = None
    over: bool = False


@dataclass(slots=True)
class Store:
    """What the hub has committed of one edge."""

    epoch: int = 0
    marks: dict[Stream, int] = field(default_factory=lambda: dict.fromkeys(Stream, 0))
    readings: Counter[tuple[str, int]] = field(default_factory=Counter)
    skipped: int = 0
    frames: int = 0
    digest: str = ""


class SimHub:
    """One hub, one edge.

    Args:
        timeline: Time.
        edge: Whose hub it is.
        rng: Chance.
        now: The hub's own (right) clock.
        private: Seed of its key.
    """

    def __init__(
        self,
        timeline: Timeline,
        edge: EdgeId,
        rng: random.Random,
        now: Callable[[], datetime],
        private: bytes,
        log: Callable[[str, str], None],
    ) -> None:
        self.edge = edge
        self.signer = Signer(private)
        self.impostor = Signer(rng.randbytes(32))
        self.store = Store()
        self.orders: list[Order] = []
        self.artifacts: dict[str, bytes] = {}
        self.net = Network(timeline, rng, self._arrived, self._subscribed)
        self.reported: Reported | None = None
        self.refused = 0
        self.bogus_acks = 0
        self.last_plan_id: str | None = None
        self.sent_seq: dict[Stream, int] = dict.fromkeys(Stream, 0)
        self._line = timeline
        self._rng = rng
        self.now = now
        self.log = log
        self._nonce: str | None = None
        self._desired = Desired(edge_id=edge)
        self._retained: bytes | None = None
        self._said: list[bytes] = []

    def _arrived(self, topic: str, payload: bytes) -> None:
        if topic == topics.hello(self.edge):
            self._greet(Hello.from_bytes(payload, topic, _MOST))
        elif topic == topics.reported(self.edge):
            self._heard(Reported.from_bytes(payload, topic, _MOST))
        elif topic.startswith(topics.frame(self.edge, "")):
            self._take(decode(payload))

    def _greet(self, hello: Hello) -> None:
        store = self.store
        if hello.epoch != store.epoch or store.epoch == 0:
            store.epoch = max(hello.epoch, store.epoch) + 1
            store.marks = dict.fromkeys(Stream, 0)
        self.log(
            "hello",
            f"epoch {hello.epoch} of {store.epoch}, {[(one.acked_seq, one.next_seq) for one in hello.streams.values()]}",
        )
        answer = HelloAnswer(edge_id=self.edge, nonce=hello.nonce, epoch=store.epoch, watermarks=dict(store.marks))
        self._nonce = hello.nonce
        self.net.deliver(topics.answer(self.edge), answer.to_bytes())
        self.say_desired()

    def _take(self, frame: Frame) -> None:
        store, stream = self.store, frame.stream
        self.log("frame", f"{stream} {frame.epoch}/{frame.seq} {frame.sha256[:12]}, {store.epoch}/{store.marks[stream]} held")
        first = frame.seq
        if frame.kind is FrameKind.SKIP:
            skip = Skip.from_bytes(frame.body, "skip")
            first = skip.first if skip.last == frame.seq else 0
        if frame.epoch == store.epoch and 1 <= first <= store.marks[stream] + 1 <= frame.seq:
            store.marks[stream] = frame.seq
            store.frames += 1
            store.digest = hashlib.sha256((store.digest + frame.sha256).encode()).hexdigest()
            self._commit(frame)
        self.acknowledge(stream)

    def acknowledge(self, stream: Stream, beyond: int = 0) -> None:
        """Say what is committed; ``beyond`` claims more than that."""
        ack = Ack(edge_id=self.edge, epoch=max(1, self.store.epoch), committed={stream: self.store.marks[stream] + beyond})
        if beyond:
            self.bogus_acks += 1
            self.log("bogus", f"{stream} {self.store.marks[stream]} + {beyond}")
        self.net.deliver(topics.ack(self.edge), ack.to_bytes())

    def _commit(self, frame: Frame) -> None:
        if frame.kind is FrameKind.READINGS:
            batch = decode_readings(frame.body)
            points = [batch.points[place] for place in batch.point_index.tolist()]
            self.store.readings.update(zip(points, batch.at_us.tolist(), strict=True))
        elif frame.kind is FrameKind.SKIP:
            self.store.skipped += Skip.from_bytes(frame.body, "skip").readings

    def _heard(self, reported: Reported) -> None:
        self.reported = reported
        taken = {one.command_id for one in reported.commands if one.state is not CommandState.REFUSED}
        for order in self.orders:
            named = order.command.command_id if order.command is not None else ""
            plan = order.plan.plan_id if order.plan is not None else None
            if order.taken_s is None and (named in taken or (plan is not None and plan == reported.plan_id)):
                order.taken_s = self._line.now_s

    def _subscribed(self, client: SimClient, wanted: Sequence[str]) -> None:
        if topics.desired(self.edge) in wanted and self._retained is not None:
            client.hand_on(Parcel(topics.desired(self.edge), self._retained, 1, retain=True))

    def pull(self, sha256: str, most: int) -> bytes:
        """What HTTP would give; called in a job of the edge."""
        loop = self.net.loop
        if not self.net.line.whole or loop is None:
            if loop is not None:
                loop.blocked_s = 10.0 if not self.net.line.refused else 0.01
            raise TransientError(f"artifact {sha256[:16]}…: unreachable")
        loop.blocked_s = self._rng.uniform(0.001, self.net.line.delay_s)
        data = self.artifacts.get(sha256)
        if data is None or len(data) > most:
            raise TransientError(f"artifact {sha256[:16]}…: the hub answered 404")
        return data

    def seal(self, kind: EnvelopeType, payload: bytes, *, nonce: str | None = None, edge: EdgeId | None = None) -> bytes:
        """Sign for the edge, valid for a day."""
        now = self.now()
        return self.signer.seal(
            kind, edge or self.edge, payload, now=now, valid=(now - timedelta(minutes=2), now + _DAY), nonce=nonce
        )

    def say_desired(self) -> None:
        """Publish what should run, as an answer to the newest hello."""
        if self._nonce is None:
            return
        self._retained = self.seal(EnvelopeType.DESIRED, self._desired.to_bytes(), nonce=self._nonce)
        self._said.append(self._retained)
        del self._said[:-20]
        self.net.deliver(topics.desired(self.edge), self._retained)

    def _offer(self, kind: EnvelopeType, payload: bytes) -> str:
        data = self.seal(kind, payload)
        sha256 = hashlib.sha256(data).hexdigest()
        self.artifacts[sha256] = data
        return sha256

    def send_plan(self, plan: Plan) -> Order:
        """Make a plan the desired one."""
        self.last_plan_id = plan.plan_id
        parts = "; ".join(f"{part.device_id} {part.mode} {part.values_w}" for part in plan.devices)
        self.log("plan", f"{plan.plan_id} from {plan.start} in steps of {plan.step_s} s: {parts}")
        order = Order(plan.plan_id, genuine=plan.edge_id == self.edge, plan=plan)
        self.orders.append(order)
        self._desired = self._desired.model_copy(update={"plan": self._offer(EnvelopeType.PLAN, plan.to_bytes())})
        self.say_desired()
        return order

    def send_policy(self, policy: Policy) -> None:
        """Make a policy the desired one."""
        self._desired = self._desired.model_copy(update={"policy": self._offer(EnvelopeType.POLICY, policy.to_bytes())})
        self.say_desired()

    def send_command(self, command: Command, spoilt: str | None = None) -> Order:
        """Send a command, perhaps one that must not be obeyed.

        Args:
            command: What is asked for.
            spoilt: ``tampered``, ``forged`` (another key) or ``elsewhere`` (signed for another edge); None = genuine.
        """
        order = Order(command.command_id, genuine=spoilt is None and command.expires_at > self.now(), command=command)
        self.orders.append(order)
        what = f"{command.device_id} {command.action} {command.value_w} until {command.expires_at}"
        self.log("command", f"{command.command_id} {what} {spoilt or ''}")
        data = self.seal(EnvelopeType.COMMAND, command.to_bytes())
        if spoilt == "tampered":
            data = data.replace(b'"payload":"', b'"payload":"e30', 1)
        elif spoilt == "forged":
            self.signer, self.impostor = self.impostor, self.signer
            data = self.seal(EnvelopeType.COMMAND, command.to_bytes())
            self.signer, self.impostor = self.impostor, self.signer
        elif spoilt == "elsewhere":
            data = self.seal(EnvelopeType.COMMAND, command.to_bytes(), edge=EdgeId("another"))
        self._said.append(data)
        self.net.deliver(topics.command(self.edge), data)
        return order

    def replay(self) -> None:
        """Somebody sends again what was said before."""
        if self._said:
            data = self._rng.choice(self._said)
            what = topics.command if self._rng.random() < 0.5 else topics.desired
            self.net.deliver(what(self.edge), data)
