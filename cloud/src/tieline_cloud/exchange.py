"""The hub's borders to other systems that follow the ledger: mirrors and streams, as one thing to run and to look at."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from tieline_cloud.metrics import Sample
from tieline_cloud.mirror.mirror import Mirror
from tieline_cloud.settings import HubSettings
from tieline_cloud.store.ports import Store
from tieline_core.clock import Clock

if TYPE_CHECKING:
    from tieline_cloud.streams.consumer import StreamConsumer
    from tieline_cloud.streams.producer import StreamProducer


@dataclass(frozen=True, slots=True)
class Exchange:
    """Mirrors by name, and the two directions of Kafka where configured."""

    mirrors: Mapping[str, Mirror] = field(default_factory=dict)
    consumer: StreamConsumer | None = None
    producer: StreamProducer | None = None

    @classmethod
    def of(cls, settings: HubSettings, store: Store, clock: Clock, stack: ExitStack | Any) -> Self:
        """Make what the settings name; ``stack`` closes the targets.

        Raises:
            BadInputError: When a token file cannot be used.
            MissingExtraError: Kafka is configured and its extra is not installed.
        """
        mirrors = {}
        for one in settings.mirrors:
            from tieline_cloud.mirror.target import InfluxTarget

            mirrors[one.name] = Mirror(one, store, stack.enter_context(InfluxTarget(one)), clock)
        kafka = settings.kafka
        if kafka is None:
            return cls(mirrors)
        from tieline_cloud.streams.consumer import StreamConsumer
        from tieline_cloud.streams.producer import StreamProducer

        return cls(
            mirrors,
            StreamConsumer(kafka, kafka.consumer, store, clock) if kafka.consumer else None,
            StreamProducer(kafka, kafka.producer, store, clock) if kafka.producer else None,
        )

    def duties(self) -> dict[str, Callable[[], Coroutine[Any, Any, None]]]:
        """Endless tasks by name; none of them ends when a system outside is away."""
        table: dict[str, Callable[[], Coroutine[Any, Any, None]]] = {
            f"mirror {name}": mirror.run for name, mirror in self.mirrors.items()
        }
        if self.consumer is not None:
            table["kafka consumer"] = self.consumer.run
        if self.producer is not None:
            table["kafka producer"] = self.producer.run
        return table

    def health(self) -> dict[str, Any]:
        """State of each; ``ok`` is false where one stands still."""
        parts: dict[str, Any] = {f"mirror {name}": _mirror(mirror) for name, mirror in self.mirrors.items()}
        for name, stream in (("kafka consumer", self.consumer), ("kafka producer", self.producer)):
            if stream is not None:
                parts[name] = {"ok": stream.problem is None, "problem": stream.problem, **stream.counters.as_dict()}
        return parts

    def samples(self) -> Iterator[Sample]:
        """Everything Prometheus reads of them."""
        for name, mirror in self.mirrors.items():
            yield from _mirror_samples(name, mirror)
        for name, stream in (("consumer", self.consumer), ("producer", self.producer)):
            if stream is not None:
                yield Sample(f"kafka_{name}_up", "1 while the brokers answer", float(stream.problem is None))
                for counter, value in stream.counters.as_dict().items():
                    yield Sample(f"kafka_{name}_{counter}_total", f"{counter} of the kafka {name}", value)


def _mirror(mirror: Mirror) -> dict[str, Any]:
    state = mirror.state
    return {
        "ok": mirror.problem is None,
        "problem": mirror.problem,
        "position": state.position if state else None,
        "taken_at": state.taken_at if state else None,
        "rebuilding_since": state.rebuild.since if state and state.rebuild else None,
        "refused": state.refused if state else 0,
    }


def _mirror_samples(name: str, mirror: Mirror) -> Iterator[Sample]:
    labels = {"mirror": name}
    counters = mirror.counters
    yield Sample("mirror_up", "1 while the mirror's target takes lines", float(mirror.problem is None), labels)
    yield Sample("mirror_lines_total", "lines the target took", counters.lines, labels)
    yield Sample("mirror_refused_total", "readings the target refused for good", counters.refused, labels)
    yield Sample("mirror_failures_total", "rounds that failed", counters.failures, labels)
    yield Sample("mirror_steps_back_total", "replays of the overlap", counters.steps_back, labels)
