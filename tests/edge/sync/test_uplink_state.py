"""The durable lane's state machine against a model hub over a link that loses, doubles and reorders."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tieline_core.ids import EdgeId
from tieline_core.messages.telemetry import Ack, HelloAnswer, Stream
from tieline_edge.sync import uplink_state as core

EDGE = EdgeId("harbour")
TIMES = core.UplinkTimes(window=4)


@dataclass(frozen=True)
class Sent:
    epoch: int
    stream: Stream
    seq: int
    content: int


@dataclass(frozen=True)
class Hello:
    epoch: int
    nonce: str
    boot: int
    next_seq: dict[Stream, int]
    acked: dict[Stream, int]


@dataclass
class ModelOutbox:
    """Content by epoch; ``base`` = how much of the whole content the present epoch does not hold."""

    epoch: int = 0
    content: dict[Stream, list[int]] = field(default_factory=lambda: {stream: [] for stream in Stream})
    acked: dict[Stream, int] = field(default_factory=lambda: dict.fromkeys(Stream, 0))

    def relabel(self, epoch: int) -> None:
        self.epoch = epoch
        for stream in Stream:
            self.content[stream] = self.content[stream][self.acked[stream] :]
            self.acked[stream] = 0


@dataclass
class ModelHub:
    """Accepts ``watermark + 1`` only; grants a new epoch when anything is unclear; knows committed content by itself."""

    epoch: int = 0
    boot: int = -1
    unsure: bool = False
    marks: dict[Stream, int] = field(default_factory=lambda: dict.fromkeys(Stream, 0))
    committed: dict[Stream, list[int]] = field(default_factory=lambda: {stream: [] for stream in Stream})

    def hello(self, hello: Hello) -> HelloAnswer:
        clear = not self.unsure and hello.epoch == self.epoch != 0 and all(hello.next_seq[s] > self.marks[s] for s in Stream)
        if clear and hello.boot != self.boot:
            clear = all(hello.acked[s] == self.marks[s] for s in Stream)
        if not clear:
            self.epoch += 1
            self.marks = dict.fromkeys(Stream, 0)
        self.boot, self.unsure = hello.boot, False
        return HelloAnswer(edge_id=EDGE, nonce=hello.nonce, epoch=self.epoch, watermarks=dict(self.marks))

    def frame(self, frame: Sent) -> Ack:
        if frame.epoch == self.epoch and frame.seq == self.marks[frame.stream] + 1:
            self.marks[frame.stream] = frame.seq
            if frame.content not in self.committed[frame.stream]:
                self.committed[frame.stream].append(frame.content)
        return Ack(edge_id=EDGE, epoch=self.epoch or 1, committed=dict(self.marks))


class Lane(RuleBasedStateMachine):
    """Edge, link and hub; every rule is something that can happen to them."""

    def __init__(self) -> None:
        super().__init__()
        self.outbox = ModelOutbox()
        self.hub = ModelHub()
        self.recorded: dict[Stream, list[int]] = {stream: [] for stream in Stream}
        self.up: list[Hello | Sent] = []
        self.down: list[HelloAnswer | Ack] = []
        self.now_s = 0.0
        self.boot = 0
        self.nonces = 0
        self.refused: list[core.Refuse] = []
        self.old_up: list[Hello | Sent] = []
        self.old_down: list[HelloAnswer | Ack] = []
        self.start()

    def start(self) -> None:
        recorded = {stream: len(self.outbox.content[stream]) for stream in Stream}
        self.state = core.begin(self.outbox.epoch, self.outbox.acked, recorded)

    def adopt(self, step: tuple[core.UplinkState, list[core.Effect]]) -> None:
        self.state = step[0]
        for effect in step[1]:
            match effect:
                case core.Relabel(epoch):
                    self.outbox.relabel(epoch)
                case core.Acknowledge(stream, seq):
                    assert seq > self.outbox.acked[stream]
                    self.outbox.acked[stream] = seq
                case core.Rewind(stream, seq):
                    self.outbox.acked[stream] = seq
                case core.SayHello():
                    self.say_hello()
                case core.Refuse():
                    self.refused.append(effect)

    def say_hello(self) -> None:
        self.nonces += 1
        nonce = f"nonce-{self.nonces:012d}"
        self.state = core.hello_said(self.state, nonce, self.now_s + core.hello_wait_s(self.state, TIMES))
        next_seq = {stream: len(self.outbox.content[stream]) + 1 for stream in Stream}
        self.up.append(Hello(self.outbox.epoch, nonce, self.boot, next_seq, dict(self.outbox.acked)))

    def pump(self) -> None:
        self.adopt(core.tick(self.state, self.now_s, TIMES))
        for stream in Stream:
            position = self.state.streams[stream].sent
            for seq in range(position + 1, position + 1 + self.state.room(stream, TIMES)):
                if seq <= len(self.outbox.content[stream]):
                    self.up.append(Sent(self.state.epoch, stream, seq, self.outbox.content[stream][seq - 1]))
                    self.state = core.sent(self.state, stream, seq, self.now_s)

    @rule(stream=st.sampled_from(Stream), count=st.integers(1, 6))
    def record(self, stream: Stream, count: int) -> None:
        for _ in range(count):
            content = len(self.recorded[stream])
            self.recorded[stream].append(content)
            self.outbox.content[stream].append(content)

    @rule(seconds=st.sampled_from([0.0, 0.1, 0.5, 2.0, 6.0, 20.0]))
    def time_passes(self, seconds: float) -> None:
        self.now_s += seconds
        self.pump()

    @rule(data=st.data(), keep=st.booleans())
    def something_reaches_the_hub(self, data: st.DataObject, keep: bool) -> None:
        if self.up:
            index = data.draw(st.integers(0, len(self.up) - 1))
            self.reach_hub(self.up[index])
            if not keep:
                del self.up[index]

    def reach_hub(self, message: Hello | Sent) -> None:
        self.down.append(self.hub.hello(message) if isinstance(message, Hello) else self.hub.frame(message))

    @rule(data=st.data(), keep=st.booleans())
    def something_reaches_the_edge(self, data: st.DataObject, keep: bool) -> None:
        if self.down:
            index = data.draw(st.integers(0, len(self.down) - 1))
            self.reach_edge(self.down[index])
            if not keep:
                del self.down[index]

    def reach_edge(self, message: HelloAnswer | Ack) -> None:
        if isinstance(message, HelloAnswer):
            self.adopt(core.answered(self.state, message, self.now_s))
        else:
            self.adopt(core.acknowledged(self.state, message, self.now_s, TIMES))

    @rule(rounds=st.integers(1, 4))
    def the_link_is_good_for_a_while(self, rounds: int) -> None:
        for _ in range(rounds):
            self.good_round()

    @rule(data=st.data())
    def something_old_reaches_the_edge(self, data: st.DataObject) -> None:
        if self.old_down:
            self.reach_edge(data.draw(st.sampled_from(self.old_down)))

    @rule(data=st.data())
    def something_old_reaches_the_hub(self, data: st.DataObject) -> None:
        if self.old_up:
            self.reach_hub(data.draw(st.sampled_from(self.old_up)))

    @rule()
    def the_hub_becomes_unsure_and_the_link_is_cut(self) -> None:
        self.hub.unsure = True
        self.everything_under_way_is_lost()

    @rule()
    def everything_under_way_is_lost(self) -> None:
        self.up.clear()
        self.down.clear()
        self.state = core.disconnected(self.state)

    @rule()
    def the_edge_restarts(self) -> None:
        self.boot += 1
        self.start()

    @rule()
    def the_hub_restarts(self) -> None:
        self.hub.boot = -1

    @invariant()
    def nothing_is_committed_twice_or_out_of_order(self) -> None:
        for stream in Stream:
            assert self.hub.committed[stream] == self.recorded[stream][: len(self.hub.committed[stream])]

    @invariant()
    def the_edge_forgets_nothing_the_hub_has_not(self) -> None:
        for stream in Stream:
            held = self.outbox.content[stream][self.outbox.acked[stream] :]
            assert set(self.recorded[stream]) <= {*self.hub.committed[stream], *held}

    @invariant()
    def an_honest_hub_is_never_refused(self) -> None:
        assert self.refused == []

    def good_round(self) -> None:
        self.now_s += 1.0
        self.pump()
        up, self.up = self.up, []
        for message in up:
            self.reach_hub(message)
        down, self.down = self.down, []
        for answer in down:
            self.reach_edge(answer)
        self.old_up = (self.old_up + up)[-30:]
        self.old_down = (self.old_down + down)[-30:]

    def teardown(self) -> None:
        """Over a good link everything arrives, exactly once."""
        for _ in self.rounds():
            self.good_round()
        assert self.hub.committed == self.recorded
        assert all(self.outbox.acked[stream] == len(self.outbox.content[stream]) for stream in Stream)

    def rounds(self) -> Iterator[int]:
        for number in range(400):
            if self.hub.committed == self.recorded and all(
                self.outbox.acked[stream] == len(self.outbox.content[stream]) for stream in Stream
            ):
                return
            yield number


TestDurableLane = Lane.TestCase
TestDurableLane.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)


def opened(recorded: int = 10, epoch: int = 3) -> core.UplinkState:
    state = core.begin(epoch, dict.fromkeys(Stream, 0), dict.fromkeys(Stream, recorded))
    state = core.hello_said(state, "n" * 16, 2.0)
    answer = HelloAnswer(edge_id=EDGE, nonce="n" * 16, epoch=epoch, watermarks=dict.fromkeys(Stream, 0))
    return core.answered(state, answer, 0.0)[0]


def ack(epoch: int = 3, **committed: int) -> Ack:
    return Ack(edge_id=EDGE, epoch=epoch, committed={Stream(name): seq for name, seq in committed.items()})


def test_nothing_may_be_sent_before_the_answer_to_the_newest_hello() -> None:
    state = core.begin(3, dict.fromkeys(Stream, 0), dict.fromkeys(Stream, 9))
    assert state.room(Stream.ALARM, TIMES) == 0
    state = core.hello_said(core.hello_said(state, "a" * 16, 1.0), "b" * 16, 1.0)
    late = HelloAnswer(edge_id=EDGE, nonce="a" * 16, epoch=3, watermarks={})
    assert core.answered(state, late, 0.0) == (state, [])


def test_an_acknowledgement_above_the_highest_sent_is_refused_as_a_whole() -> None:
    state = core.sent(opened(recorded=0), Stream.MEASURE, 1, 0.0)
    after, effects = core.acknowledged(state, ack(measure=1, alarm=5), 0.1, TIMES)
    assert after == state
    (refusal,) = effects
    assert isinstance(refusal, core.Refuse)
    assert (refusal.code, "alarm 5" in refusal.text) == ("uplink.ack", True)


def test_a_late_answer_never_leads_back_into_an_epoch_that_was_left() -> None:
    state = core.sent(opened(epoch=3), Stream.MEASURE, 1, 0.0)
    for epoch, nonce in ((4, "n" * 16), (3, "n" * 16)):
        answer = HelloAnswer(edge_id=EDGE, nonce=nonce, epoch=epoch, watermarks={})
        state, effects = core.answered(state, answer, 1.0)
        assert effects == ([core.Relabel(4)] if epoch == 4 else [])
    assert (state.epoch, state.streams[Stream.MEASURE].highest) == (4, 0)
    assert core.acknowledged(state, ack(epoch=3, measure=1), 1.0, TIMES) == (state, [])


def test_a_watermark_above_everything_ever_sent_is_refused() -> None:
    state = core.hello_said(opened(recorded=7), "m" * 16, 2.0)
    answer = HelloAnswer(edge_id=EDGE, nonce="m" * 16, epoch=3, watermarks={Stream.MEASURE: 8})
    after, effects = core.answered(state, answer, 0.0)
    assert not after.open
    assert [type(effect) for effect in effects] == [core.Refuse]


def test_the_window_closes_and_opens_with_the_acknowledgement() -> None:
    state = opened()
    for seq in range(1, 5):
        state = core.sent(state, Stream.MEASURE, seq, 0.0)
    assert state.room(Stream.MEASURE, TIMES) == 0
    state, effects = core.acknowledged(state, ack(measure=3), 0.1, TIMES)
    assert effects == [core.Acknowledge(Stream.MEASURE, 3)]
    assert state.room(Stream.MEASURE, TIMES) == 3


def test_a_stall_goes_back_and_a_long_one_says_hello_again() -> None:
    state = core.sent(core.sent(opened(), Stream.BULK, 1, 1.0), Stream.BULK, 2, 1.1)
    assert core.tick(state, 2.4, TIMES)[0].streams[Stream.BULK].sent == 2
    state, effects = core.tick(state, 2.6, TIMES)
    assert (state.streams[Stream.BULK].sent, effects) == (0, [])
    state = core.sent(state, Stream.BULK, 1, 2.6)
    assert core.tick(state, 6.0, TIMES)[1] == [core.SayHello()]


def test_a_repeated_watermark_goes_back_but_not_at_every_repetition() -> None:
    state = core.sent(opened(), Stream.MEASURE, 1, 1.0)
    early, _ = core.acknowledged(state, ack(measure=0), 1.1, TIMES)
    assert early.streams[Stream.MEASURE].sent == 1
    late, _ = core.acknowledged(state, ack(measure=0), 1.3, TIMES)
    assert late.streams[Stream.MEASURE].sent == 0


def test_a_restored_hub_makes_the_edge_rewind() -> None:
    state = core.begin(3, dict.fromkeys(Stream, 9), dict.fromkeys(Stream, 9))
    state = core.hello_said(state, "m" * 16, 2.0)
    answer = HelloAnswer(edge_id=EDGE, nonce="m" * 16, epoch=3, watermarks={Stream.ALARM: 9, Stream.MEASURE: 4, Stream.BULK: 9})
    state, effects = core.answered(state, answer, 0.0)
    assert effects == [core.Rewind(Stream.MEASURE, 4)]
    assert state.streams[Stream.MEASURE].sent == 4


def test_unanswered_hellos_wait_longer_and_longer() -> None:
    state, waits = opened(), []
    state = core.disconnected(state)
    for _ in range(6):
        waits.append(core.hello_wait_s(state, TIMES))
        state = core.hello_said(state, "x" * 16, 0.0)
    assert waits == [2.0, 4.0, 8.0, 15.0, 15.0, 15.0]


def test_what_the_line_still_carries_is_not_sent_again_until_it_has_been_silent_for_long() -> None:
    state = core.sent(core.sent(opened(), Stream.BULK, 1, 1.0), Stream.BULK, 2, 1.1)
    way = core.OnTheWay(count=1, heard_s=4.0)
    assert core.tick(state, 8.9, TIMES, way) == (state, [])
    assert core.acknowledged(state, ack(bulk=0), 8.9, TIMES, way)[0] == state
    after, effects = core.tick(state, 9.0, TIMES, way)
    assert (after.streams[Stream.BULK].sent, effects) == (0, [core.SayHello()])


def test_a_broker_that_confirms_repetitions_does_not_hide_a_silent_hub() -> None:
    state = core.sent(opened(), Stream.BULK, 1, 1.0)
    assert core.tick(state, 6.0, TIMES, core.OnTheWay(0, heard_s=5.9))[1] == [core.SayHello()]
