"""Readings from topics into the ledger: the offset follows the store, and an offset that comes again stores nothing.

A message is one delivery (rows, columns or the readings body of the wire contract) of the configured sources. It is
stored under (topic, partition, offset, hash) in the transaction of its readings; only then is its offset committed. What
cannot be read goes to quarantine with its place and the reason, and the partition goes on.
"""

from __future__ import annotations

import hashlib
import logging
import threading
from collections import deque
from datetime import datetime
from typing import Any, Final, Protocol

from tieline_cloud.doors.deliveries import FRAME, JSON, read_delivery
from tieline_cloud.doors.intake import MAX_PLAIN_BYTES, OnceLedger
from tieline_cloud.owned_thread import for_ever
from tieline_cloud.settings import KafkaConsumerSettings, KafkaSettings
from tieline_cloud.store.ports import Ingested
from tieline_cloud.streams.client import StreamCounters, client_config, error_text, library
from tieline_core.clock import Clock
from tieline_core.errors import BadInputError, PermanentError, TransientError

_LOG = logging.getLogger(__name__)
_POLL_S: Final = 0.2
_BATCH: Final = 200
_RETRY_S: Final = 1.0
_PROBE_S: Final = 2.0


class StreamLedger(OnceLedger, Protocol):
    """What the consumer asks of the ledger."""

    def quarantine(self, edge: str, topic: str, payload: bytes, reason: str, at: datetime) -> None:
        """Keep what cannot be read."""
        ...


class StreamConsumer:
    """One member of a consumer group.

    Args:
        kafka: Cluster.
        settings: Topics, group, sources.
        ledger: Where readings go.
        clock: Gives the stamp of arrival.

    Attributes:
        counters: Since the start.
        problem: Why nothing comes, None while all is well.

    Raises:
        MissingExtraError: The extra is not installed.
    """

    def __init__(self, kafka: KafkaSettings, settings: KafkaConsumerSettings, ledger: StreamLedger, clock: Clock) -> None:
        self._kafka = library()
        self._config = client_config(kafka) | {
            "group.id": settings.group,
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "auto.offset.reset": settings.start,
            "queued.max.messages.kbytes": 32 * 1024,
            "error_cb": self._noticed,
        }
        self._settings = settings
        self._ledger = ledger
        self._clock = clock
        self._waiting: deque[Any] = deque()
        self.counters = StreamCounters()
        self.problem: str | None = None

    async def run(self) -> None:
        """Consume, for ever."""
        await for_ever("Kafka consumer", self.serve, self._failed)

    def _failed(self, text: str) -> None:
        self.counters.failures += 1
        self.problem = text

    def _noticed(self, error: Any) -> None:
        if error.fatal() or error.code() == self._kafka.KafkaError._ALL_BROKERS_DOWN:  # noqa: SLF001 (the library's public constant)
            self.problem = error_text(error)

    def serve(self, stop: threading.Event) -> None:
        """Consume until the event is set.

        Raises:
            KafkaException: The client cannot go on; a new one may.
        """
        consumer = self._kafka.Consumer(self._config)
        self._waiting.clear()
        try:
            consumer.subscribe(list(self._settings.topics))
            while not stop.is_set():
                messages = consumer.consume(_BATCH, _POLL_S)
                self._waiting.extend(messages)
                if self._waiting:
                    self._take(consumer, stop)
                elif self.problem is not None:
                    self._probe(consumer)
        finally:
            consumer.close()

    def _probe(self, consumer: Any) -> None:
        try:
            consumer.list_topics(timeout=_PROBE_S)
        except self._kafka.KafkaException as error:
            self.problem = error_text(error)
        else:
            self.problem = None

    def _take(self, consumer: Any, stop: threading.Event) -> None:
        done: dict[tuple[str, int], int] = {}
        while self._waiting:
            message = self._waiting.popleft()
            if (error := message.error()) is not None:
                self.problem = error_text(error)
                continue
            if not self._store(consumer, message, stop):
                break
            done[message.topic(), message.partition()] = message.offset() + 1
            self.problem = None
        if not done:
            return
        offsets = [self._kafka.TopicPartition(topic, number, offset) for (topic, number), offset in done.items()]
        try:
            consumer.commit(offsets=offsets, asynchronous=False)
        except self._kafka.KafkaException as error:
            # Another member has the partition now, or the coordinator moved: it will come again and store nothing.
            _LOG.info("Offsets were not committed, their messages will be offered again: %s", error_text(error))

    def _store(self, consumer: Any, message: Any, stop: threading.Event) -> bool:
        """Store one message or set it aside, however long the ledger needs; false when asked to end before."""
        paused = False
        while not stop.is_set():
            try:
                self._once(message)
            except TransientError as error:
                self.problem = f"the ledger does not store: {error}"
                self.counters.failures += 1
                # A member that does not poll is thrown out of its group: go on polling, with nothing to be had.
                consumer.pause(consumer.assignment())
                paused = True
                overtaken = consumer.poll(0)  # of a partition that was assigned just now: it waits its turn
                if overtaken is not None:
                    self._waiting.append(overtaken)
                stop.wait(_RETRY_S)
                continue
            if paused:
                consumer.resume(consumer.assignment())
            return True
        return False

    def _once(self, message: Any) -> None:
        body: bytes = message.value() or b""
        place = f"kafka/{message.topic()}/{message.partition()}@{message.offset()}"
        now = self._clock.now()
        try:
            if not 0 < len(body) <= MAX_PLAIN_BYTES:
                raise BadInputError(place, "value", f"{len(body)} bytes", f"1 to {MAX_PLAIN_BYTES} bytes are read")
            kind = JSON if self._settings.format == "json" else FRAME
            batch = read_delivery(body, kind, place, self._settings.sources)
        except PermanentError as error:
            self._ledger.quarantine("kafka", place, body, str(error), now)
            self.counters.poison += 1
            _LOG.warning("Set aside %s", error)
            return
        sha256 = hashlib.sha256(body).hexdigest()
        # The hash in the key tells a topic that was made anew, with offsets from 0, from a repeat.
        key = f"{message.partition()}/{message.offset()}/{sha256[:16]}"
        outcome, _ = self._ledger.ingest_once(batch, f"kafka/{message.topic()}", key, sha256, now)
        self.counters.messages += 1
        if outcome is Ingested.STORED:
            self.counters.readings += len(batch)
        else:
            self.counters.repeated += 1
