"""Hellos, epochs and answers: where every edge stands, kept in memory so that a question costs the ledger nothing.

The ledger stays the judge. What is remembered is what its last commit or grant said, and it is read again whenever a
verdict shows that somebody else moved it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from tieline_cloud.ingest.counters import DurableCounters
from tieline_cloud.ingest.hello import judge_hello
from tieline_cloud.ingest.outlet import Notices, Outlet
from tieline_cloud.ingest.rates import Buckets
from tieline_cloud.ingest.settings import EdgeRates
from tieline_cloud.store.ports import Greeting, Ledger, Watermark
from tieline_core import topics
from tieline_core.clock import Clock
from tieline_core.ids import EdgeId
from tieline_core.messages.base import Message
from tieline_core.messages.telemetry import MAX_EPOCH, Ack, Event, Held, Hello, HelloAnswer, Severity, Skip, Stream
from tieline_core.timegrid import to_us

_log = logging.getLogger(__name__)
HELLO_DOCUMENTS: Final = "hello"
#: What this hub held of an edge when it was seen to be a restored one.
RESTORED_DOCUMENTS: Final = "restored"
#: How far an edge's epoch may be ahead of the ledger's: a ledger restored from a backup lacks the epochs granted since, one
#: in five seconds at the most. A claim beyond that would use up the numbers of the edge for ever.
_MOST_AHEAD: Final = 1_000_000


class Restored(Message):
    """A restored hub held no more than this of an edge in epoch ``lost``; the edge is told until it has left that epoch."""

    lost: int
    held: Held


@dataclass(frozen=True, slots=True)
class _Welcome:
    """What will be true of an edge once its hello is in the ledger."""

    hello: Hello
    greeting: Greeting
    reason: str | None = None
    restored: Restored | None = None

    @property
    def weightless(self) -> bool:
        """True when the ledger need not know of it."""
        return self.greeting.above is None and not self.greeting.documents


class Greeter:
    """Used by the ledger thread only.

    Args:
        ledger: Grants epochs and keeps the newest hello of each boot.
        clock: For stamps in records.
        outlet: Where answers go.
        notices: Who wants to know.
        counters: What happened.
        rates: How often an edge may get an epoch or cause an event.
        monotonic: Seconds for the rates.
    """

    def __init__(
        self,
        ledger: Ledger,
        clock: Clock,
        outlet: Outlet,
        notices: Notices,
        counters: DurableCounters,
        rates: EdgeRates,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ledger = ledger
        self._clock = clock
        self._outlet = outlet
        self._notices = notices
        self._counters = counters
        self._epochs = Buckets(rates.epochs, monotonic)
        self._events = Buckets(rates.events, monotonic)
        self._hellos = {
            edge: Hello.from_bytes(body, f"{HELLO_DOCUMENTS}/{edge}")
            for edge, body in ledger.documents(HELLO_DOCUMENTS).items()
        }
        self._restored = {
            edge: Restored.from_bytes(body, f"{RESTORED_DOCUMENTS}/{edge}")
            for edge, body in ledger.documents(RESTORED_DOCUMENTS).items()
        }
        self._marks: dict[EdgeId, dict[Stream, Watermark]] = {}
        self._raised = 0

    # Where an edge stands

    def marks(self, edge: EdgeId) -> dict[Stream, Watermark]:
        """Watermarks of an edge; empty when it was never granted an epoch."""
        known = self._marks.get(edge)
        if known is None:
            known = self._ledger.watermarks(edge)
            if known:  # names nobody was granted an epoch for are not remembered: there is no end of them
                self._marks[edge] = known
        return known

    def moved(self, edge: EdgeId, marks: Mapping[Stream, Watermark]) -> None:
        """A commit left these watermarks."""
        known = self._marks.get(edge)
        if known is not None:
            known.update(marks)
            if len({mark.epoch for mark in known.values()}) > 1:
                self.forget(edge)

    def forget(self, edge: EdgeId) -> None:
        """What is remembered may be wrong: ask the ledger again."""
        self._marks.pop(edge, None)

    def overreaches(self, edge: EdgeId, stream: Stream, skip: Skip) -> bool:
        """Whether a skip claims numbers the edge had not given out when it last said hello.

        One false claim would otherwise use up a stream's numbers for ever. An honest edge whose outbox has meanwhile
        overflowed that far gets no acknowledgement, says hello again and is believed then.
        """
        hello = self._hellos.get(edge)
        state = None if hello is None else hello.streams.get(stream)
        return state is None or skip.last >= state.next_seq

    # Words to the edge

    def greet(self, hellos: Sequence[Hello]) -> None:
        """Answer hellos of different edges, with a new epoch where the past is in doubt, out of one transaction.

        One that asks for too many epochs gets no answer for now.
        """
        welcomes = [welcome for hello in hellos if (welcome := self._judge(hello)) is not None]
        weighty = [welcome for welcome in welcomes if not welcome.weightless]
        if weighty:
            epochs = self._ledger.greet([welcome.greeting for welcome in weighty], self._clock.now())
            for welcome, epoch in zip(weighty, epochs, strict=True):
                self._granted(welcome, epoch)
        self._counters.hellos_from_memory += len(welcomes) - len(weighty)
        for welcome in welcomes:
            edge = welcome.hello.edge_id
            self._hellos[edge] = welcome.hello
            self.answer(edge)
            self._notices.heard(edge)
            self._notices.hello(welcome.hello, next(iter(self.marks(edge).values())).epoch)

    def _judge(self, hello: Hello) -> _Welcome | None:
        """What the ledger is to keep of a hello; None when it gets no answer."""
        edge = hello.edge_id
        self._counters.hellos += 1
        marks = self.marks(edge)
        before = self._hellos.get(edge)
        epoch = next(iter(marks.values())).epoch if marks else 0
        if hello.epoch > epoch + _MOST_AHEAD:
            self._counters.epochs_refused += 1
            text = f"a hello claims epoch {hello.epoch}, the ledger stands at {epoch}: nobody granted it; not answered"
            self.raise_event(edge, "lane.epoch_refused", text)
            return None

        def committed(stream: Stream, seq: int) -> str | None:
            return self._ledger.frame_sha256(edge, stream, epoch, seq)

        verdict = judge_hello(hello, marks, committed, before.boot_id if before else None)
        if verdict.reason is None:
            known = before is not None and before.boot_id == hello.boot_id
            documents = {} if known else {HELLO_DOCUMENTS: hello.to_bytes()}
            return _Welcome(hello, Greeting(edge, None, documents))
        restored = Restored(lost=hello.epoch, held=self._held(hello, marks)) if verdict.restored else None
        return self._doubt(hello, marks, verdict.reason, alarming=verdict.alarming, restored=restored)

    def _doubt(
        self, hello: Hello, marks: Mapping[Stream, Watermark], reason: str, *, alarming: bool, restored: Restored | None
    ) -> _Welcome | None:
        """A welcome with a new epoch; None when the edge has had too many of late, or all there are."""
        edge = hello.edge_id
        if not self._may_have_epoch(edge, hello.epoch, marks):
            return None
        documents = {HELLO_DOCUMENTS: hello.to_bytes()}
        if restored is not None:
            # In the same transaction: the sign of it is gone with the grant.
            documents[RESTORED_DOCUMENTS] = restored.to_bytes()
        event = self._event(edge, "lane.new_epoch", _granted_words(reason), _severity(alarming=alarming))
        return _Welcome(hello, Greeting(edge, hello.epoch, documents, event), reason, restored)

    def _granted(self, welcome: _Welcome, epoch: int | None) -> None:
        """Remember what a transaction has left of a hello."""
        edge = welcome.hello.edge_id
        if epoch is not None:
            self._start_epoch(edge, epoch, welcome.reason or "")
        if welcome.restored is not None:
            self._restored[edge] = welcome.restored
        if welcome.greeting.events:
            self._notices.events(welcome.greeting.events)

    def _held(self, hello: Hello, marks: Mapping[Stream, Watermark]) -> Held:
        """What a restored hub holds; less when it was restored before and the edge has not heard of that yet."""
        untold = self._untold(hello)
        if untold is not None or not marks:
            return untold or Held(epoch=0)
        epoch = next(iter(marks.values())).epoch
        return Held(epoch=epoch, watermarks={stream: mark.seq for stream, mark in marks.items()})

    def _untold(self, hello: Hello) -> Held | None:
        """What an edge has to be told with its next epoch, as it has not left the one that was lost here."""
        restored = self._restored.get(hello.edge_id)
        return restored.held if restored is not None and hello.epoch <= restored.lost else None

    def answer(self, edge: EdgeId) -> None:
        """Answer the newest hello of an edge; an edge that never said one has to say it first."""
        hello = self._hellos.get(edge)
        marks = self.marks(edge)
        if hello is None or not marks:
            return
        word = HelloAnswer(
            edge_id=edge,
            nonce=hello.nonce,
            epoch=next(iter(marks.values())).epoch,
            watermarks={stream: mark.seq for stream, mark in marks.items()},
            held=self._untold(hello),
        )
        self._outlet.publish(topics.answer(edge), word.to_bytes())

    def acknowledge(self, edge: EdgeId, marks: Mapping[Stream, Watermark]) -> None:
        """Tell an edge what is committed."""
        if marks:
            epoch = next(iter(marks.values())).epoch
            word = Ack(edge_id=edge, epoch=epoch, committed={stream: mark.seq for stream, mark in marks.items()})
            self._counters.acknowledgements += self._outlet.publish(topics.ack(edge), word.to_bytes())

    def part(self, edge: EdgeId) -> None:
        """Two senders use one name: whoever said hello last goes on in a new epoch, the other has to say hello again."""
        reason = "one label came with two contents: two senders under one name"
        if not self._may_have_epoch(edge, 0, self.marks(edge)):
            return
        events = self._event(edge, "lane.new_epoch", _granted_words(reason), Severity.ALARM)
        (epoch,) = self._ledger.greet([Greeting(edge, 0, {}, events)], self._clock.now())
        if epoch is not None:
            self._start_epoch(edge, epoch, reason)
        self._notices.events(events)
        self.answer(edge)

    def _may_have_epoch(self, edge: EdgeId, above: int, marks: Mapping[Stream, Watermark]) -> bool:
        if not self._epochs.allow(edge):
            self._counters.epochs_refused += 1
            return False
        if max(above, max((mark.epoch for mark in marks.values()), default=0)) >= MAX_EPOCH:
            self._counters.epochs_refused += 1
            self.raise_event(edge, "lane.epoch_refused", f"the epochs of {edge} are used up; it needs a new name")
            return False
        return True

    def _start_epoch(self, edge: EdgeId, epoch: int, reason: str) -> None:
        self._marks[edge] = {stream: Watermark(epoch, 0, None) for stream in Stream}
        self._counters.epochs_granted += 1
        _log.info("Edge %s gets epoch %d: %s", edge, epoch, reason)

    def raise_event(self, edge: EdgeId, code: str, text: str, severity: Severity = Severity.ALARM) -> None:
        """Record an event of the hub's own about an edge; more than a person can read are counted only."""
        events = self._event(edge, code, text, severity)
        if events:
            self._ledger.record_events(events)
            self._notices.events(events)

    def _event(self, edge: EdgeId, code: str, text: str, severity: Severity) -> tuple[Event, ...]:
        """An event to be recorded; none when the edge has caused too many of late."""
        if not self._events.allow(edge):
            self._counters.events_withheld += 1
            return ()
        at = self._clock.now()
        self._raised += 1
        name = f"hub-{to_us(at)}-{self._raised}"
        return (Event(event_id=name, edge_id=edge, severity=severity, code=code, text=text[:500], at=at),)


def _granted_words(reason: str) -> str:
    return f"a new epoch is granted: {reason}"


def _severity(*, alarming: bool) -> Severity:
    return Severity.ALARM if alarming else Severity.INFORMATION
