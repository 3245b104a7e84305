"""Committed readings out of the ledger: all, in order of each edge, the position after the brokers' word."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial

import pytest

from tests.cloud.mirror.replay_log import START, MemoryLog, many, readings
from tests.cloud.streams.conftest import Cluster
from tieline_cloud.doors.deliveries import FRAME, JSON, read_delivery
from tieline_cloud.settings import KafkaProducerSettings
from tieline_cloud.streams.payload import messages
from tieline_cloud.streams.producer import DOCUMENTS, NotAcknowledgedError, StreamProducer
from tieline_core.clock import SystemClock
from tieline_core.frame import ReadingBatch
from tieline_core.ids import EdgeId, PointId
from tieline_core.quantities import Quality, Reading

SETTINGS = KafkaProducerSettings(topic="readings", message_rows=100, poll_s=0.05)


def produce_until(producer: StreamProducer, true: Callable[[], bool], seconds: float = 30) -> None:
    stop = threading.Event()
    thread = threading.Thread(target=producer.serve, args=(stop,))
    thread.start()
    deadline, wake = time.monotonic() + seconds, threading.Event()
    while not true() and time.monotonic() < deadline:
        wake.wait(0.05)
    stop.set()
    thread.join(30)
    assert true()


def _stands_at(log: MemoryLog, want: bytes) -> bool:
    return log.documents(DOCUMENTS).get("kafka") == want


@pytest.mark.parametrize("form", ["json", "frame"])
def test_every_committed_reading_leaves_once_and_reads_back(cluster: Cluster, form: str) -> None:
    log = MemoryLog()
    log.add(many(40, 25))
    log.add(readings(50))
    settings = SETTINGS.model_copy(update={"format": form})
    producer = StreamProducer(cluster.settings(producer=settings), settings, log, SystemClock())
    produce_until(producer, lambda: log.documents(DOCUMENTS).get("kafka") == b"2")
    found = cluster.read("readings", 11)
    kind = JSON if form == "json" else FRAME
    rows = [row for one in found for row in read_delivery(one.value(), kind, "test", (EdgeId("harbour"),)).readings()]
    assert len(rows) == len(set(rows)) == 1050
    assert set(rows) == set(many(40, 25).readings()) | set(readings(50))
    assert {one.key() for one in found} == {b"harbour"}
    assert len({tuple(one.headers()) for one in found}) == len(found)


def test_a_later_life_goes_on_at_the_kept_position(cluster: Cluster) -> None:
    log = MemoryLog()
    for life in range(3):
        log.add(readings(10, f"m{life}"))
        producer = StreamProducer(cluster.settings(producer=SETTINGS), SETTINGS, log, SystemClock())
        want = b"%d" % (life + 1)
        produce_until(producer, partial(_stands_at, log, want))
    assert len(cluster.read("readings", 3)) == 3


def test_what_the_brokers_did_not_take_moves_no_position(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tieline_cloud.streams.producer._FLUSH_S", 1.0)
    log = MemoryLog()
    log.add(readings(10))
    away = cluster.settings(producer=SETTINGS).model_copy(update={"bootstrap": "127.0.0.1:9"})
    producer = StreamProducer(away, SETTINGS, log, SystemClock())
    with pytest.raises(NotAcknowledgedError):
        producer.serve(threading.Event())
    assert not log.documents(DOCUMENTS)


def test_messages_hold_one_edge_each_in_the_order_of_the_batch() -> None:
    rows = [
        Reading(PointId(f"{edge}/m/p_w"), None if number == 2 else float(number), START, Quality.STALE)
        for number, edge in enumerate(["mill", "harbour", "mill", "mill"])
    ]
    parts = list(messages(ReadingBatch.of(rows), 2, "json"))
    assert [(part.edge, part.readings) for part in parts] == [("mill", 2), ("mill", 1), ("harbour", 1)]
