"""The thread between socket and ledger: order, answers, pressure and a full disk, without a broker."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from tieline_cloud.ingest.connection import Inbound
from tieline_cloud.ingest.ledger_thread import LedgerThread
from tieline_cloud.ingest.settings import BrokerAddress, IngestSettings
from tieline_cloud.store.duckdb_file import StoreRefusedError
from tieline_cloud.store.memory_store import MemoryStore
from tieline_cloud.store.ports import Committed, LedgerFrame, Verdict
from tieline_core import topics
from tieline_core.clock import ManualClock
from tieline_core.errors import PermanentError
from tieline_core.frame import Frame, encode, encode_readings
from tieline_core.ids import EdgeId, PointId
from tieline_core.messages.telemetry import Ack, FrameKind, Hello, HelloAnswer, Stream, StreamState
from tieline_core.quantities import Reading

T0 = datetime(2026, 1, 15, tzinfo=UTC)
EDGE = EdgeId("harbour")
SETTINGS = IngestSettings(BrokerAddress("127.0.0.1", 1, insecure=True), commit_after_s=0.0, max_pending=4, commit_frames=4)


class Notebook:
    """Writes down what would be sent."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, bytes]] = []
        self.acknowledged: list[int] = []
        self.changed = threading.Condition()

    def publish(self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False) -> bool:
        with self.changed:
            self.sent.append((topic, payload))
            self.changed.notify_all()
        return True

    def acknowledge(self, messages: Sequence[Inbound]) -> None:
        with self.changed:
            self.acknowledged += [message.mid for message in messages]
            self.changed.notify_all()

    def wait_for(self, count: int) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.acknowledged) >= count, 60)

    def acks(self) -> list[tuple[int, int]]:
        words = [Ack.from_bytes(payload, topic) for topic, payload in self.sent if topic == topics.ack(EDGE)]
        return [(word.epoch, word.committed[Stream.MEASURE]) for word in words]

    def answers(self) -> list[HelloAnswer]:
        return [HelloAnswer.from_bytes(payload, topic) for topic, payload in self.sent if topic == topics.answer(EDGE)]


def hello(nonce: str = "a" * 16, epoch: int = 0, next_seq: int = 1, mid: int = 900, edge: EdgeId = EDGE) -> Inbound:
    state = StreamState(next_seq=next_seq, oldest_seq=1, acked_seq=0)
    word = Hello(
        edge_id=edge,
        epoch=epoch,
        boot_id="boot-1",
        nonce=nonce,
        streams={Stream.MEASURE: state},
        software="test",
        at=T0,
    )
    return Inbound(topics.hello(edge), word.to_bytes(), False, 1, mid, 1)


def frame(seq: int, value: float | None = None, epoch: int = 1) -> Inbound:
    body = encode_readings([Reading(PointId("harbour/m1/p_w"), float(seq) if value is None else value, T0)])
    payload = encode(Frame(EDGE, epoch, Stream.MEASURE, seq, FrameKind.READINGS, body))
    return Inbound(topics.frame(EDGE, "measure"), payload, False, 1, seq, 1)


@contextmanager
def running(store: MemoryStore, settings: IngestSettings = SETTINGS) -> Iterator[tuple[LedgerThread, Notebook]]:
    notebook = Notebook()
    worker = LedgerThread(settings, store, ManualClock(T0), notebook)
    thread = threading.Thread(target=worker.run)
    thread.start()
    try:
        yield worker, notebook
    finally:
        worker.stop()
        thread.join(10)
        assert not thread.is_alive()


def test_a_hello_is_answered_and_frames_are_acknowledged_after_the_commit() -> None:
    store = MemoryStore()
    with running(store) as (worker, notebook):
        for message in (hello(), frame(1), frame(2)):
            worker.offer(message)
        notebook.wait_for(3)
    assert [(word.nonce, word.epoch, word.watermarks[Stream.MEASURE]) for word in notebook.answers()] == [("a" * 16, 1, 0)]
    assert notebook.acks()[-1] == (1, 2)
    assert notebook.acknowledged == [900, 1, 2]
    assert worker.counters.frames[Verdict.ACCEPTED] == 2


def test_a_gap_makes_the_hub_repeat_its_watermark() -> None:
    with running(MemoryStore()) as (worker, notebook):
        worker.offer(hello())
        worker.offer(frame(1))
        notebook.wait_for(2)
        worker.offer(frame(3))
        notebook.wait_for(3)
    assert notebook.acks()[-1] == (1, 1)
    assert worker.counters.frames[Verdict.GAP] == 1


def test_a_frame_of_an_old_epoch_is_answered_with_the_last_hello() -> None:
    with running(MemoryStore()) as (worker, notebook):
        worker.offer(hello())
        worker.offer(frame(1, epoch=7))
        notebook.wait_for(2)
    assert [word.epoch for word in notebook.answers()] == [1, 1]
    assert notebook.acks() == []


def test_a_frame_of_an_edge_that_never_said_hello_gets_no_word() -> None:
    with running(MemoryStore()) as (worker, notebook):
        worker.offer(frame(1))
        notebook.wait_for(1)
    assert notebook.sent == []
    assert worker.counters.frames[Verdict.FOREIGN] == 1


def test_a_hub_that_restarted_goes_on_without_a_new_hello() -> None:
    store = MemoryStore()
    with running(store) as (worker, notebook):
        worker.offer(hello())
        worker.offer(frame(1))
        notebook.wait_for(2)
    with running(store) as (worker, notebook):
        worker.offer(frame(2))
        notebook.wait_for(1)
        worker.offer(hello(nonce="b" * 16, epoch=1, next_seq=3))
        notebook.wait_for(2)
    assert notebook.acks() == [(1, 2)]
    assert [(word.nonce, word.epoch, word.watermarks[Stream.MEASURE]) for word in notebook.answers()] == [("b" * 16, 1, 2)]


def test_two_contents_under_one_label_start_a_new_epoch_and_raise_an_alarm() -> None:
    store = MemoryStore()
    with running(store) as (worker, notebook):
        worker.offer(hello())
        worker.offer(frame(1))
        notebook.wait_for(2)
        worker.offer(frame(1, value=99.0))
        notebook.wait_for(3)
    assert [word.epoch for word in notebook.answers()] == [1, 2]
    assert "two senders" in store.events()[0].text
    assert store.statistics().readings == 1


def test_the_socket_is_not_read_while_too_many_frames_wait() -> None:
    notebook = Notebook()
    worker = LedgerThread(SETTINGS, MemoryStore(), ManualClock(T0), notebook)
    offered: list[int] = []

    def network() -> None:
        for seq in range(1, 8):
            worker.offer(frame(seq))
            offered.append(seq)

    thread = threading.Thread(target=network)
    thread.start()
    thread.join(0.3)
    assert offered == [1, 2, 3, 4]
    assert worker.counters.pending == 4
    ledger = threading.Thread(target=worker.run)
    ledger.start()
    notebook.wait_for(7)
    assert offered == [1, 2, 3, 4, 5, 6, 7]
    worker.stop()
    thread.join()
    ledger.join()


def test_stopping_lets_a_blocked_network_thread_go() -> None:
    worker = LedgerThread(replace(SETTINGS, max_pending=0), MemoryStore(), ManualClock(T0), Notebook())
    thread = threading.Thread(target=worker.offer, args=(frame(1),))
    thread.start()
    worker.stop()
    thread.join(10)
    assert not thread.is_alive()


class FullDisk(MemoryStore):
    """Refuses the first commits."""

    refusals = 2

    def commit(self, frames: Sequence[LedgerFrame]) -> Committed:
        if frames and self.refusals:
            self.refusals -= 1
            raise StoreRefusedError("disk full")
        return super().commit(frames)


def test_a_full_disk_is_waited_for_and_nothing_is_acknowledged_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tieline_cloud.ingest.ledger_thread._RETRY_S", 0.01)
    store = FullDisk()
    with running(store) as (worker, notebook):
        worker.offer(hello())
        worker.offer(frame(1))
        notebook.wait_for(2)
    assert worker.counters.commit_failures == 2
    assert notebook.acks() == [(1, 1)]
    assert store.statistics().readings == 1


class BrokenLedger(MemoryStore):
    """Cannot go on."""

    def commit(self, frames: Sequence[LedgerFrame]) -> Committed:
        raise PermanentError("given up")


def test_a_ledger_that_cannot_go_on_ends_the_thread_and_nothing_is_acknowledged() -> None:
    notebook = Notebook()
    worker = LedgerThread(SETTINGS, BrokenLedger(), ManualClock(T0), notebook)
    worker.offer(frame(1))
    with pytest.raises(PermanentError, match="given up"):
        worker.run()
    assert notebook.acknowledged == []


def test_a_flood_of_garbage_is_counted_whole_and_kept_in_part() -> None:
    store = MemoryStore()
    settings = replace(SETTINGS, max_pending=100, commit_frames=100)
    notebook = Notebook()
    worker = LedgerThread(settings, store, ManualClock(T0), notebook)
    for n in range(50):
        worker.offer(Inbound(topics.frame(EDGE, "measure"), b"junk %d" % n, False, 1, n, 1))
    thread = threading.Thread(target=worker.run)
    thread.start()
    notebook.wait_for(50)
    worker.stop()
    thread.join()
    assert worker.counters.garbage == 50
    assert store.statistics().quarantined == 5
