"""A Kafka cluster in memory: librdkafka's own mock brokers, which speak the real protocol on loopback."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import confluent_kafka
import pytest

from tieline_cloud.settings import KafkaSettings


@dataclass
class Cluster:
    """Mock brokers and a producer beside them."""

    owner: Any
    bootstrap: str

    def send(self, topic: str, bodies: list[bytes | None], partition: int = 0) -> None:
        """Messages onto one partition, acknowledged when this returns."""
        for body in bodies:
            self.owner.produce(topic, body, partition=partition)
        assert self.owner.flush(20) == 0

    def settings(self, **changes: Any) -> KafkaSettings:
        tree: dict[str, Any] = {
            "bootstrap": self.bootstrap,
            "security": "plaintext",
            "properties": {"topic.metadata.refresh.interval.ms": 500, "session.timeout.ms": 6000},
        }
        return KafkaSettings.model_validate(tree | changes)

    def committed(self, group: str, topic: str, partition: int = 0) -> int:
        """Offset the group has committed."""
        reader = confluent_kafka.Consumer({"bootstrap.servers": self.bootstrap, "group.id": group})
        try:
            (place,) = reader.committed([confluent_kafka.TopicPartition(topic, partition)], timeout=20)
            return int(place.offset)
        finally:
            reader.close()

    def read(self, topic: str, count: int) -> list[Any]:
        """Messages of a topic from its start, at least so many."""
        config = {"bootstrap.servers": self.bootstrap, "group.id": "reader", "auto.offset.reset": "earliest"}
        reader = confluent_kafka.Consumer(config)
        found: list[Any] = []
        try:
            reader.subscribe([topic])
            for _ in range(120):
                found += [message for message in reader.consume(500, 0.25) if message.error() is None]
                if len(found) >= count:
                    break
            return found
        finally:
            reader.close()


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """Two mock brokers, fresh for each test; topics come with their first message."""
    owner = confluent_kafka.Producer({"test.mock.num.brokers": 2, "log_level": 3})
    brokers = owner.list_topics(timeout=20).brokers.values()
    yield Cluster(owner, ",".join(f"{broker.host}:{broker.port}" for broker in brokers))
    owner.flush(1)
