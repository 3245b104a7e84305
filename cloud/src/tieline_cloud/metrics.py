"""What Prometheus reads: counters and gauges of every room, gathered when asked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

PREFIX: Final = "tieline_hub_"


@dataclass(frozen=True, slots=True)
class Sample:
    """One number.

    Attributes:
        name: Without prefix; a counter's ends in ``_total``.
        text: What it is.
        value: None = not known, left out.
        labels: Label values by name.
    """

    name: str
    text: str
    value: float | None
    labels: Mapping[str, str] | None = None


class _HubCollector(Collector):
    def __init__(self, samples: Callable[[], Iterable[Sample]]) -> None:
        self._samples = samples

    def collect(self) -> Iterable[Metric]:
        families: dict[str, CounterMetricFamily | GaugeMetricFamily] = {}
        for sample in self._samples():
            if sample.value is None:
                continue
            labels = sample.labels or {}
            if sample.name not in families:
                kind = CounterMetricFamily if sample.name.endswith("_total") else GaugeMetricFamily
                families[sample.name] = kind(PREFIX + sample.name, sample.text, labels=list(labels))
            families[sample.name].add_metric(list(labels.values()), sample.value)
        return families.values()

    def describe(self) -> Iterable[Metric]:
        """Nothing beforehand: the names follow from the samples."""
        return ()


def exposition(samples: Callable[[], Iterable[Sample]]) -> Callable[[], bytes]:
    """A function that renders the samples in Prometheus text form."""
    registry = CollectorRegistry()
    registry.register(_HubCollector(samples))
    return lambda: generate_latest(registry)


def age_s(at: datetime | None, now: datetime) -> float | None:
    """Age in seconds of the hub's clock; None stays None."""
    return None if at is None else (now - at).total_seconds()
