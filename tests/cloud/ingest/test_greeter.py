"""Hellos and epochs under floods and false claims, through the whole ledger thread."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from tests.cloud.ingest.test_ledger_thread import EDGE, SETTINGS, T0, Notebook, frame, hello
from tests.cloud.ingest.test_rates import Seconds
from tieline_cloud.ingest.connection import Inbound
from tieline_cloud.ingest.ledger_thread import LedgerThread
from tieline_cloud.ingest.rates import Rate
from tieline_cloud.ingest.settings import EdgeRates, IngestSettings
from tieline_cloud.store.memory_store import MemoryStore
from tieline_cloud.store.ports import Committed, Greeting, LedgerFrame, Verdict, Watermark
from tieline_core import topics
from tieline_core.clock import ManualClock
from tieline_core.frame import Frame, encode
from tieline_core.ids import EdgeId
from tieline_core.messages.telemetry import MAX_EPOCH, FrameKind, Hello, Skip, SkipReason, Stream

ROOMY = replace(SETTINGS, max_pending=10_000, max_pending_per_edge=10_000, commit_frames=10_000)
NO_LIMIT = Rate(1e6, 1e6)


class CountingStore(MemoryStore):
    """Counts what costs a transaction or a query."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[str] = []
        self.greetings: list[int] = []
        self.asked = 0

    def put_document(self, kind: str, key: str, body: bytes, at: object) -> None:
        self.kept.append(key)
        super().put_document(kind, key, body, T0)

    def greet(self, greetings: Sequence[Greeting], at: datetime) -> tuple[int | None, ...]:
        self.greetings.append(len(greetings))
        return super().greet(greetings, at)

    def watermarks(self, edge: EdgeId) -> dict[Stream, Watermark]:
        self.asked += 1
        return super().watermarks(edge)

    def commit(self, frames: Sequence[LedgerFrame]) -> Committed:
        return super().commit(frames)


class Bench:
    """A ledger thread that is driven by hand, one batch a call."""

    def __init__(self, store: MemoryStore, settings: IngestSettings = ROOMY) -> None:
        self.store = store
        self.seconds = Seconds()
        self.notebook = Notebook()
        self.thread = LedgerThread(settings, store, ManualClock(T0), self.notebook, monotonic=self.seconds)

    def take(self, *messages: Inbound) -> None:
        for message in messages:
            self.thread.offer(message)
        self.thread._process(self.thread._next())


def booted(boot: str, epoch: int = 0, next_seq: int = 1) -> Inbound:
    said = hello(epoch=epoch, next_seq=next_seq)
    word = Hello.from_bytes(said.payload, said.topic).model_copy(update={"boot_id": boot})
    return replace(said, payload=word.to_bytes())


def skip(first: int, last: int, epoch: int = 1) -> Inbound:
    body = Skip(first=first, last=last, reason=SkipReason.EVICTED, readings=7).to_bytes()
    payload = encode(Frame(EDGE, epoch, Stream.MEASURE, last, FrameKind.SKIP, body))
    return Inbound(topics.frame(EDGE, "measure"), payload, False, 1, last, 1)


def test_hellos_of_one_boot_are_answered_from_memory() -> None:
    store = CountingStore()
    bench = Bench(store, replace(ROOMY, rates=EdgeRates(hellos=NO_LIMIT)))
    bench.take(hello())
    kept, asked = len(store.kept), store.asked
    for n in range(50):
        bench.take(hello(nonce=f"{n:016d}", epoch=1))
    assert (len(store.kept), store.asked) == (kept, asked)
    assert [word.epoch for word in bench.notebook.answers()] == [1] * 51
    assert bench.notebook.answers()[-1].nonce == f"{49:016d}"
    assert bench.thread.counters.hellos_from_memory == 50


def test_a_herd_is_greeted_out_of_one_transaction_and_each_edge_stands_in_an_epoch_of_its_own() -> None:
    store = CountingStore()
    bench = Bench(store)
    herd = [EdgeId(f"edge{number:03d}") for number in range(200)]
    bench.take(*(hello(edge=edge) for edge in herd))
    assert store.greetings == [200]
    assert {edge for edge in herd if store.watermarks(edge)[Stream.MEASURE].epoch == 1} == set(herd)
    assert [topic for topic, _ in bench.notebook.sent] == [topics.answer(edge) for edge in herd]
    assert len(store.events(limit=1000)) == 200


def test_hellos_and_frames_of_one_batch_are_judged_in_the_order_of_their_edge() -> None:
    """First hello, a frame of the epoch it brings, the same edge booted anew: the frame is committed between the two."""
    store = CountingStore()
    bench = Bench(store)
    bench.take(hello(), frame(1, epoch=1), booted("boot-2", epoch=1, next_seq=2))
    assert store.greetings == [1, 1]
    assert bench.thread.counters.frames[Verdict.ACCEPTED] == 1
    assert store.watermarks(EDGE)[Stream.MEASURE].epoch == 2, "one is committed, none acknowledged, and it has restarted"


def test_a_flood_of_restarts_gets_a_few_epochs_and_then_one_at_a_time() -> None:
    store = MemoryStore()
    bench = Bench(store, replace(ROOMY, rates=EdgeRates(hellos=NO_LIMIT, epochs=Rate(0.2, 3.0))))
    for n in range(100):
        bench.take(booted(f"boot-{n}"))
    assert bench.thread.counters.epochs_granted == 3
    assert bench.thread.counters.epochs_refused == 97
    bench.seconds.now_s += 5.0
    bench.take(booted("boot-last"))
    assert bench.thread.counters.epochs_granted == 4
    assert len(store.events()) <= 10


def test_a_flood_of_hellos_leaves_the_thread_to_the_frames_of_others() -> None:
    bench = Bench(MemoryStore())
    bench.take(hello(), *[hello(nonce=f"{n:016d}", epoch=1) for n in range(500)], frame(1))
    assert bench.thread.counters.hellos <= 8
    assert bench.thread.counters.frames[Verdict.ACCEPTED] == 1
    assert len(bench.notebook.acknowledged) == 502


def test_a_skip_beyond_what_the_hello_announced_moves_nothing_until_it_is_announced() -> None:
    bench = Bench(MemoryStore())
    bench.take(hello(next_seq=6), skip(1, 2**50))
    assert bench.store.watermarks(EDGE)[Stream.MEASURE].seq == 0
    assert bench.thread.counters.skips_refused == 1
    bench.take(skip(1, 5))
    assert bench.notebook.acks()[-1] == (1, 5)
    bench.take(hello(nonce="c" * 16, epoch=1, next_seq=21), skip(6, 20))
    assert bench.notebook.acks()[-1] == (1, 20)


def test_a_hello_from_an_epoch_nobody_can_have_granted_moves_nothing_and_raises_an_alarm() -> None:
    """One forged hello must not use up the numbers: frames carry 32 bits of epoch, and the edge keeps what it was granted."""
    store = MemoryStore()
    bench = Bench(store)
    bench.take(hello())
    bench.take(booted("forger", epoch=MAX_EPOCH))
    assert bench.notebook.answers()[-1].epoch == 1
    assert store.watermarks(EDGE)[Stream.MEASURE].epoch == 1
    assert [event.code for event in store.events()].count("lane.epoch_refused") == 1
    bench.take(frame(1, 1))
    assert store.watermarks(EDGE)[Stream.MEASURE].seq == 1


def test_a_ledger_restored_from_a_backup_goes_on_above_the_epoch_of_the_edge() -> None:
    store = MemoryStore()
    bench = Bench(store)
    bench.take(booted("boot", epoch=900_000))
    assert bench.notebook.answers()[-1].epoch == 900_001


def test_no_epoch_is_granted_that_no_frame_can_carry() -> None:
    store = MemoryStore()
    store.grant_epoch(EDGE, T0, above=MAX_EPOCH - 1)
    bench = Bench(store)
    bench.take(hello())
    assert bench.notebook.answers() == []
    assert store.watermarks(EDGE)[Stream.MEASURE].epoch == MAX_EPOCH
    assert [event.code for event in store.events()] == ["lane.epoch_refused"]


def test_memory_follows_a_watermark_that_somebody_else_moved() -> None:
    store = MemoryStore()
    bench = Bench(store)
    bench.take(hello(), frame(1))
    store.grant_epoch(EDGE, T0)
    bench.take(frame(2))
    assert [word.epoch for word in bench.notebook.answers()] == [1, 2]


def test_a_stream_of_unreadable_frames_raises_some_alarms_and_is_counted_whole() -> None:
    store = MemoryStore()
    bench = Bench(store)
    junk = [
        Inbound(
            topics.frame(EDGE, "measure"),
            encode(Frame(EDGE, 1, Stream.MEASURE, n, FrameKind.READINGS, b"junk %d" % n)),
            False,
            1,
            n,
            1,
        )
        for n in range(1, 201)
    ]
    bench.take(hello(), *junk)
    assert bench.thread.counters.refused_bodies == 200
    assert bench.notebook.acks()[-1] == (1, 200)
    assert len(store.events()) <= 10
    assert bench.thread.counters.events_withheld == 191


def test_garbage_over_time_is_kept_at_a_rate() -> None:
    store = MemoryStore()
    bench = Bench(store)
    for n in range(100):
        bench.take(Inbound(topics.frame(EDGE, "measure"), b"junk", False, 1, n, 1))
    assert store.statistics().quarantined == bench.thread.counters.garbage_kept == 20
    assert bench.thread.counters.garbage == 100


def test_a_whole_frame_that_is_too_long_is_refused_and_the_stream_goes_on_behind_it() -> None:
    bench = Bench(MemoryStore(), replace(ROOMY, limits=replace(ROOMY.limits, frame_bytes=400)))
    long = encode(Frame(EDGE, 1, Stream.MEASURE, 1, FrameKind.READINGS, b"x" * 1000))
    bench.take(hello(), Inbound(topics.frame(EDGE, "measure"), long, False, 1, 1, 1), frame(2))
    assert bench.notebook.acks()[-1] == (1, 2)
    assert bench.thread.counters.refused_bodies == 1
    assert "at most 400 bytes" in bench.store.quarantined()[0].reason


def test_a_retained_hello_or_frame_is_set_aside_once_and_changes_nothing() -> None:
    """F11: a broker's old memory comes with every connect of the hub; no epoch, no alarm, one row in quarantine."""
    store = MemoryStore()
    bench = Bench(store, replace(ROOMY, rates=EdgeRates(hellos=NO_LIMIT)))
    bench.take(hello(), frame(1))
    events, granted = len(store.events()), bench.thread.counters.epochs_granted
    for _ in range(5):
        bench.take(replace(booted("boot-0", epoch=7), retain=True), replace(frame(1, 99.0), retain=True))
    assert (len(store.events()), bench.thread.counters.epochs_granted) == (events, granted)
    assert bench.thread.counters.frames[Verdict.CONFLICT] == 0
    assert bench.thread.counters.retained == 10
    assert bench.thread.counters.garbage_kept == 2
    bench.take(frame(2))
    assert store.watermarks(EDGE)[Stream.MEASURE].seq == 2
