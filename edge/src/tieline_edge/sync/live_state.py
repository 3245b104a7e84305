"""What the live lane says and when, as a pure table: births with aliases, report by exception, deaths."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from tieline_core.ids import DeviceId, PointId
from tieline_core.quantities import QUANTITIES, Quality, Reading
from tieline_core.sparkplug.metric import DataType, Metric, Payload, Property, quality_properties
from tieline_core.sparkplug.session import REBIRTH, AliasTable, bdseq_metric
from tieline_core.timegrid import to_us


def to_ms(instant: datetime) -> int:
    """Milliseconds since 1970, as Sparkplug stamps."""
    return to_us(instant) // 1000


@dataclass(frozen=True, slots=True)
class LiveView:
    """What is true now.

    Attributes:
        readings: Last reading of each point (:attr:`tieline_edge.snapshot.Snapshot.readings`).
        devices: Every configured device, with what it is, e.g. its role; each gets a birth.
        offline: Devices that do not answer.
        node: Metrics of the node itself: numbers and texts by name, such as ``ladder_step`` or ``software``.
    """

    readings: Mapping[PointId, Reading]
    devices: Mapping[DeviceId, str]
    offline: frozenset[DeviceId] = frozenset()
    node: Mapping[str, float | int | str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Publication:
    """One message to publish: kind such as ``DDATA``, device or None for the node, metrics under their names."""

    kind: str
    device: DeviceId | None
    metrics: tuple[Metric, ...]


@dataclass(frozen=True, slots=True)
class _Said:
    value: float | int | str | None
    quality: Quality
    at: datetime


def _deadband(point: PointId) -> float:
    quantity = QUANTITIES.get(point.quantity)
    # A little less than a step: a whole one must not fall victim to rounding.
    return 0.0 if quantity is None else 0.99 * 10.0**quantity.exponent


def reading_metric(reading: Reading) -> Metric:
    """A reading as a metric: name = quantity, DOUBLE, null when there is no number, quality as a property."""
    return Metric(
        name=reading.point.quantity,
        value=None if reading.value is None else float(reading.value),
        datatype=DataType.DOUBLE,
        timestamp_ms=to_ms(reading.measured_at),
        properties=quality_properties(reading.quality),
    )


def node_metric(name: str, value: float | str, at_ms: int) -> Metric:
    """A number or text about the node itself."""
    if isinstance(value, str):
        return Metric(name=name, value=value, datatype=DataType.STRING, timestamp_ms=at_ms)
    return Metric(name=name, value=float(value), datatype=DataType.DOUBLE, timestamp_ms=at_ms)


class LiveTable:
    """Remembers what was said, so that only what changed is said again.

    Args:
        refresh: Unchanged values are said again after this time.
    """

    def __init__(self, refresh: timedelta) -> None:
        self._refresh = refresh
        self._aliases = AliasTable()
        self._said: dict[tuple[DeviceId | None, str], _Said] = {}
        self._born: set[DeviceId] = set()

    def births(self, view: LiveView, bdseq: int, now: datetime) -> list[Publication]:
        """NBIRTH and a DBIRTH for each device that answers; forgets everything said before."""
        self._said.clear()
        self._born.clear()
        at_ms = to_ms(now)
        control = Metric(name=REBIRTH, value=False, datatype=DataType.BOOLEAN, timestamp_ms=at_ms)
        metrics = [self._aliases.birth(None, bdseq_metric(bdseq, at_ms)), control]
        for name, value in view.node.items():
            metrics.append(self._aliases.birth(None, node_metric(name, value, at_ms)))
            self._said[None, name] = _Said(value, Quality.GOOD, now)
        return [Publication("NBIRTH", None, tuple(metrics)), *self._device_births(view, now)]

    def _device_births(self, view: LiveView, now: datetime) -> list[Publication]:
        readings = _by_device(view.readings.values())
        births = []
        # Derived values, such as those of the site, are a device of their own without standing in the configuration.
        for device, role in {**dict.fromkeys(readings, "derived"), **view.devices}.items():
            rows = readings.get(device, ())
            if device in self._born or device in view.offline or not rows:
                continue
            self._born.add(device)
            metrics = [Metric(name="role", value=role, datatype=DataType.STRING, timestamp_ms=to_ms(now))]
            for reading in rows:
                unit = QUANTITIES[reading.point.quantity].unit if reading.point.quantity in QUANTITIES else ""
                metric = reading_metric(reading)
                properties = {**metric.properties, "engUnit": Property(DataType.STRING, unit)}
                metrics.append(
                    Metric(metric.name, metric.value, metric.datatype, None, metric.timestamp_ms, properties=properties)
                )
                self._said[device, reading.point.quantity] = _Said(reading.value, reading.quality, now)
            # A list of present values has to be in the order of time.
            metrics.sort(key=lambda metric: metric.timestamp_ms or 0)
            births.append(Publication("DBIRTH", device, tuple(self._aliases.birth(device, metric) for metric in metrics)))
        return births

    def changes(self, view: LiveView, now: datetime) -> list[Publication]:
        """Deaths, births and data since the last call; a device with a new metric is born again."""
        publications = []
        readings = _by_device(view.readings.values())
        # A device that was taken out of the configuration dies like one that no longer answers.
        gone = self._born - {*view.devices, *readings}
        for device in sorted((self._born & view.offline) | gone):
            self._born.discard(device)
            publications.append(Publication("DDEATH", device, ()))
        for device in sorted(self._born):
            if any((device, reading.point.quantity) not in self._said for reading in readings.get(device, ())):
                self._born.discard(device)
        publications += self._device_births(view, now)
        node = [
            node_metric(name, value, to_ms(now))
            for name, value in view.node.items()
            if self._due((None, name), _Said(value, Quality.GOOD, now), 0.0)
        ]
        if node:
            data = tuple(self._aliases.data(None, metric) for metric in node)
            publications.append(Publication("NDATA", None, data))
        for device in sorted(self._born):
            due = [
                self._aliases.data(device, reading_metric(reading))
                for reading in readings.get(device, ())
                if self._due(
                    (device, reading.point.quantity), _Said(reading.value, reading.quality, now), _deadband(reading.point)
                )
            ]
            if due:
                publications.append(Publication("DDATA", device, tuple(due)))
        return publications

    def _due(self, key: tuple[DeviceId | None, str], new: _Said, deadband: float) -> bool:
        old = self._said.get(key)
        if old is None and key[0] is None:
            # Born without it: it has no alias at the host until the next birth.
            return False
        if old is not None and old.quality is new.quality and new.at - old.at < self._refresh:
            if old.value == new.value:
                return False
            if isinstance(old.value, float) and isinstance(new.value, float) and abs(new.value - old.value) < deadband:
                return False
        self._said[key] = new
        return True


def _by_device(readings: Iterable[Reading]) -> dict[DeviceId, Sequence[Reading]]:
    rows: dict[DeviceId, list[Reading]] = {}
    for reading in readings:
        rows.setdefault(reading.point.device, []).append(reading)
    return {device: sorted(held, key=lambda reading: reading.measured_at) for device, held in rows.items()}


def payload(publication: Publication, seq: int | None, now: datetime) -> Payload:
    """The Sparkplug body of a publication."""
    return Payload(metrics=publication.metrics, timestamp_ms=to_ms(now), seq=seq)
