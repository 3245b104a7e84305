"""Committed readings for other systems: replayed from the ledger, the position kept after the brokers' acknowledgement.

Within a life of the hub nothing comes twice (idempotent producer). A hub killed between acknowledgement and position sends
the last positions again with the same headers ``position`` and ``part``, by which a reader can drop them.
"""

from __future__ import annotations

import threading
from datetime import datetime
from typing import Any, Final, Protocol

from tieline_cloud.owned_thread import for_ever
from tieline_cloud.settings import KafkaProducerSettings, KafkaSettings
from tieline_cloud.streams.client import StreamCounters, client_config, error_text, library
from tieline_cloud.streams.payload import OutMessage, messages
from tieline_core.clock import Clock
from tieline_core.errors import TransientError
from tieline_core.frame import ReadingBatch

DOCUMENTS: Final = "stream"
_FLUSH_S: Final = 60.0
_FULL_S: Final = 0.2


class ReplayedLedger(Protocol):
    """What the producer asks of the ledger."""

    def replay(self, after: int, limit_rows: int) -> tuple[int, ReadingBatch]:
        """Readings stored after a position."""
        ...

    def put_document(self, kind: str, key: str, body: bytes, at: datetime) -> None:
        """Keep the position."""
        ...

    def documents(self, kind: str) -> dict[str, bytes]:
        """Kept positions."""
        ...


class NotAcknowledgedError(TransientError):
    """The brokers did not take everything; it will be sent again."""


class StreamProducer:
    """Gives committed readings to one topic.

    Args:
        kafka: Cluster.
        settings: Topic, form, sizes.
        ledger: Where readings come from and the position is kept.
        clock: For stamps.

    Attributes:
        counters: Since the start.
        problem: Why nothing goes out, None while all is well.

    Raises:
        MissingExtraError: The extra is not installed.
    """

    def __init__(self, kafka: KafkaSettings, settings: KafkaProducerSettings, ledger: ReplayedLedger, clock: Clock) -> None:
        self._kafka = library()
        self._config = client_config(kafka) | {
            "enable.idempotence": True,
            "acks": "all",
            "compression.type": "zstd",
            "linger.ms": 20,
            "message.timeout.ms": int(_FLUSH_S * 1000),
            "queue.buffering.max.kbytes": 64 * 1024,
        }
        self._settings = settings
        self._ledger = ledger
        self._clock = clock
        self.counters = StreamCounters()
        self.problem: str | None = None

    async def run(self) -> None:
        """Follow the ledger, for ever."""
        await for_ever("Kafka producer", self.serve, self._failed)

    def _failed(self, text: str) -> None:
        self.counters.failures += 1
        self.problem = text

    def serve(self, stop: threading.Event) -> None:
        """Produce until the event is set.

        Raises:
            NotAcknowledgedError: The brokers did not take everything: begin again at the kept position.
        """
        producer = self._kafka.Producer(self._config)
        try:
            position = self._kept()
            while not stop.is_set():
                after, batch = self._ledger.replay(position, self._settings.replay_rows)
                if after == position:
                    stop.wait(self._settings.poll_s)
                    continue
                self._send(producer, after, batch, stop)
                if stop.is_set():
                    return
                position = after
                self._ledger.put_document(DOCUMENTS, self._settings.name, b"%d" % position, self._clock.now())
                self.problem = None
        finally:
            producer.purge()
            producer.flush(1.0)

    def _kept(self) -> int:
        body = self._ledger.documents(DOCUMENTS).get(self._settings.name, b"0")
        return int(body) if body.isdigit() else 0

    def _send(self, producer: Any, position: int, batch: ReadingBatch, stop: threading.Event) -> None:
        failed: list[str] = []

        def reported(error: Any, _message: Any) -> None:
            if error is not None:
                failed.append(error_text(error))

        sent = readings = 0
        for part, message in enumerate(messages(batch, self._settings.message_rows, self._settings.format)):
            headers = [("position", b"%d" % position), ("part", b"%d" % part)]
            self._produce(producer, message, headers, reported, stop)
            sent, readings = sent + 1, readings + message.readings
        left = producer.flush(_FLUSH_S)
        if failed or left:
            raise NotAcknowledgedError(f"{self._settings.topic}: {left + len(failed)} messages not taken: {failed[:1]}")
        self.counters.messages += sent
        self.counters.readings += readings

    def _produce(self, producer: Any, message: OutMessage, headers: Any, reported: Any, stop: threading.Event) -> None:
        while not stop.is_set():
            try:
                producer.produce(
                    self._settings.topic, message.body, key=message.edge.encode(), headers=headers, on_delivery=reported
                )
            except BufferError:
                producer.poll(_FULL_S)
                continue
            producer.poll(0)
            return
