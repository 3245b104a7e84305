"""Last values of the live lane: what was said last, and since when nobody answers for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final

from tieline_cloud.ingest.host_table import NodeKey
from tieline_cloud.store.ports import LastValue
from tieline_core.ids import PointId
from tieline_core.quantities import Quality
from tieline_core.sparkplug.metric import INTEGERS, DataType, Metric
from tieline_core.sparkplug.session import BDSEQ
from tieline_core.timegrid import EARLIEST, LATEST, from_us, to_us

_NUMERIC: Final = frozenset({*INTEGERS, DataType.FLOAT, DataType.DOUBLE, DataType.BOOLEAN} - {DataType.DATETIME})
#: Metrics of the protocol itself.
_CONTROL: Final = ("Node Control/", "Device Control/")
_EARLIEST_MS: Final = to_us(EARLIEST) // 1000
_LATEST_MS: Final = to_us(LATEST) // 1000


def is_number(metric: Metric) -> bool:
    """True for numbers and flags that say something about the plant; texts, times and the protocol's own are none."""
    control = metric.name is None or metric.name == BDSEQ or metric.name.startswith(_CONTROL)
    return not control and metric.datatype in _NUMERIC


def value_of(point: PointId, metric: Metric, sent_ms: int | None) -> LastValue | None:
    """The metric as a value of its point; None when nobody can say when it was measured.

    Args:
        point: What was measured.
        metric: A number, see :func:`is_number`.
        sent_ms: Stamp of the payload, for a metric without one.
    """
    stamp = metric.timestamp_ms if metric.timestamp_ms is not None else sent_ms
    if stamp is None or not _EARLIEST_MS <= stamp < _LATEST_MS:
        return None
    quality = metric.quality
    number = None if metric.value is None or quality is Quality.BAD else float(metric.value)
    return LastValue(point, number, from_us(stamp * 1000), int(quality))


class LiveValues:
    """Values by point, and the points of every device, so that a death costs no more than what has died."""

    def __init__(self) -> None:
        self._values: dict[PointId, LastValue] = {}
        self._stale_since: dict[PointId, datetime] = {}
        self._points: dict[NodeKey, dict[str | None, set[PointId]]] = {}

    def of(self, points: Sequence[PointId] | None = None) -> list[LastValue]:
        """Values of the points, or of all, sorted by point."""
        if points is None:
            return [value for _, value in sorted(self._values.items())]
        return [self._values[point] for point in sorted(set(points)) if point in self._values]

    def stale_since(self, point: PointId) -> datetime | None:
        """Since when a value is stale, by the host's clock; None when it is not."""
        return self._stale_since.get(point)

    def keep(self, node: NodeKey, device: str | None, values: Sequence[LastValue]) -> None:
        """Take new values of a device, or of the node itself."""
        points = self._points.setdefault(node, {}).setdefault(device, set())
        for value in values:
            points.add(value.point)
            self._values[value.point] = value
            self._stale_since.pop(value.point, None)

    def grow_stale(self, node: NodeKey, device: str | None, now: datetime) -> list[LastValue]:
        """Nobody answers for a device, or (None) for a whole node, any more; numbers and their instants stay."""
        by_device = self._points.get(node, {})
        rows = by_device.values() if device is None else [by_device.get(device, set())]
        stale = [replace(self._values[point], quality=int(Quality.STALE)) for row in rows for point in sorted(row)]
        for value in stale:
            self._values[value.point] = value
            self._stale_since.setdefault(value.point, now)
        return stale
