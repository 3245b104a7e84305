"""What makes a stream of payloads a session: births, aliases, sequence numbers, the state of the host."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from tieline_core.sparkplug.metric import DataType, Metric, Payload, SparkplugError, fold

REBIRTH: Final = "Node Control/Rebirth"
BDSEQ: Final = "bdSeq"
_WRAP: Final = 256
_MAX_STATE_BYTES: Final = 1024


class UnknownMetricError(SparkplugError):
    """Data of a metric no birth has declared: the host asks for a rebirth."""


@dataclass(frozen=True, slots=True)
class HostState:
    """Body of ``spBv1.0/STATE/<host>``: JSON, QoS 1, retained."""

    online: bool
    timestamp_ms: int

    def to_bytes(self) -> bytes:
        """The JSON form."""
        return json.dumps({"online": self.online, "timestamp": self.timestamp_ms}).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> HostState:
        """Read a host state.

        Raises:
            SparkplugError: Not the JSON object of Sparkplug 3.0; the text form of 2.2 is refused too.
        """
        if len(data) > _MAX_STATE_BYTES:
            raise SparkplugError(f"STATE: {len(data)} bytes, at most {_MAX_STATE_BYTES} are read")
        try:
            body = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise SparkplugError("STATE: not JSON") from error
        online, timestamp = (body.get("online"), body.get("timestamp")) if isinstance(body, dict) else (None, None)
        if not isinstance(online, bool) or isinstance(timestamp, bool) or not isinstance(timestamp, int) or timestamp < 0:
            raise SparkplugError("STATE: needs 'online' (boolean) and 'timestamp' (milliseconds)")
        return cls(online, timestamp)


def next_seq(seq: int) -> int:
    """The sequence number after this one; 255 is followed by 0."""
    return (seq + 1) % _WRAP


def bdseq_metric(bdseq: int, timestamp_ms: int) -> Metric:
    """The birth-death number, INT64, as will, birth and death carry it."""
    return Metric(name=BDSEQ, value=bdseq % _WRAP, datatype=DataType.INT64, timestamp_ms=timestamp_ms)


def bdseq_of(payload: Payload) -> int | None:
    """The birth-death number of a payload; INT64 and UINT64 are both taken. None when there is none."""
    for metric in payload.metrics:
        if metric.name == BDSEQ and isinstance(metric.value, int) and not isinstance(metric.value, bool):
            return metric.value
    return None


def death(bdseq: int, timestamp_ms: int) -> Payload:
    """An NDEATH: the birth-death number and nothing else, without a sequence number."""
    return Payload(metrics=(bdseq_metric(bdseq, timestamp_ms),), timestamp_ms=timestamp_ms)


def rebirth_request(timestamp_ms: int) -> Payload:
    """An NCMD that asks a node to publish its births again."""
    metric = Metric(name=REBIRTH, value=True, datatype=DataType.BOOLEAN, timestamp_ms=timestamp_ms)
    return Payload(metrics=(metric,), timestamp_ms=timestamp_ms)


class AliasTable:
    """Edge side: numbers that stand for names in data, unique over a node and all of its devices."""

    def __init__(self) -> None:
        self._numbers: dict[tuple[str | None, str], int] = {}

    def number(self, device: str | None, name: str) -> int:
        """The alias of a metric of a device (None = of the node itself); given out on first use, never changed."""
        return self._numbers.setdefault((device, name), len(self._numbers) + 1)

    def birth(self, device: str | None, metric: Metric) -> Metric:
        """The metric with its alias, as a birth declares it; rebirth control must stay without."""
        if metric.name is None:
            raise SparkplugError("a birth metric needs a name")
        return metric if metric.name == REBIRTH else replace(metric, alias=self.number(device, metric.name))

    def data(self, device: str | None, metric: Metric) -> Metric:
        """The metric as data carries it: under its alias, without the name."""
        if metric.name is None:
            raise SparkplugError("a metric needs a name before it gets its alias")
        return replace(metric, name=None, alias=self.number(device, metric.name))


class BirthTable:
    """Host side: what the births of one node declared, and data made whole with it."""

    def __init__(self) -> None:
        self._names: dict[int, tuple[str | None, str]] = {}
        self._declared: dict[str | None, dict[str, tuple[DataType, int | None]]] = {}

    def learn(self, device: str | None, metrics: Iterable[Metric]) -> None:
        """Take a birth of the node (device None; forgets everything before) or of one of its devices.

        Raises:
            SparkplugError: A metric without name or datatype, a name twice, or an alias that stands for two names.
        """
        if device is None:
            self._names.clear()
            self._declared.clear()
        else:
            self.forget(device)
        declared = self._declared.setdefault(device, {})
        for metric in metrics:
            if metric.name is None or metric.datatype is None:
                raise SparkplugError(f"{metric.label}: a birth declares name and datatype")
            if metric.name in declared:
                raise SparkplugError(f"{metric.name}: declared twice")
            key = (device, metric.name)
            if metric.alias is not None and self._names.setdefault(metric.alias, key) != key:
                raise SparkplugError(f"{metric.name}: alias {metric.alias} is taken by {self._names[metric.alias][1]}")
            declared[metric.name] = (metric.datatype, metric.alias)

    def forget(self, device: str) -> None:
        """Drop what a device declared: it died, or is born again."""
        for _, alias in self._declared.pop(device, {}).values():
            if alias is not None:
                self._names.pop(alias, None)

    def resolve(self, device: str | None, metrics: Sequence[Metric]) -> tuple[Metric, ...]:
        """Data with name, datatype and folded value.

        Raises:
            UnknownMetricError: Alias or name is not declared, or the alias belongs to another device.
            SparkplugError: A value is not of its declared datatype.
        """
        return tuple(self._whole(device, metric) for metric in metrics)

    def _whole(self, device: str | None, metric: Metric) -> Metric:
        owner, name = self._names.get(metric.alias, (device, "")) if metric.alias is not None else (device, metric.name or "")
        declared = self._declared.get(device, {}).get(name)
        if owner != device or declared is None:
            raise UnknownMetricError(f"{metric.label} of {device or 'the node'}: no birth has declared it")
        value, datatype = metric.value, declared[0]
        if metric.datatype not in (None, datatype):
            raise SparkplugError(f"{name}: its birth said {datatype.name}, its data says {metric.datatype.name}")
        if value is not None and metric.datatype is None:
            value = fold(value, datatype, name)
        return replace(metric, name=name, datatype=datatype, value=value)
