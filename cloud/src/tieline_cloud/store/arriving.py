"""Readings between the door and the tables: numbered, examined, and split into what is stored where."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from tieline_cloud.store.examination import Arrival, Examined, Examiner
from tieline_cloud.store.last_values import LastValues
from tieline_cloud.store.values import Stored
from tieline_core.frame import ReadingBatch
from tieline_core.ids import PointId

_Item = TypeVar("_Item", bound=np.generic)
#: Rule named for a misdated reading whose examiner names none.
_UNNAMED: Final = "misdated"


@dataclass(frozen=True, slots=True)
class Arriving:
    """Columns of readings on their way into the tables.

    Attributes:
        new: Points this arrival is the first to name, in the order of their numbers.
        arrival: As received.
        examined: What the examiner said, None when nobody examined.
    """

    new: tuple[PointId, ...]
    arrival: Arrival
    examined: Examined | None

    @property
    def values(self) -> NDArray[np.float64]:
        """As stored, of all rows."""
        return self.arrival.values if self.examined is None else self.examined.values

    @property
    def quality(self) -> NDArray[np.uint8]:
        """As stored, of all rows."""
        return self.arrival.quality if self.examined is None else self.examined.quality

    def dated(self) -> Stored:
        """What goes among the readings."""
        arrival = self.arrival
        if self.examined is None or self.examined.dated.all():
            return Stored(arrival.numbers, arrival.at_us, self.values, self.quality)
        rows = self.examined.dated
        return Stored(arrival.numbers[rows], arrival.at_us[rows], self.values[rows], self.quality[rows])

    def found(self) -> Found:
        """Findings on stored readings."""
        if self.examined is None or not len(self.examined.findings):
            return Found(np.zeros(0, np.int64), (), np.zeros(0))
        findings = self.examined.findings
        kept = self.examined.dated[findings.rows]
        rules = tuple(rule for rule, keep in zip(findings.rules, kept, strict=True) if keep)
        return Found(findings.rows[kept], rules, findings.limits[kept])

    def set_aside(self) -> Found:
        """Readings that are not dated, with the first rule that spoke of each."""
        if self.examined is None or self.examined.dated.all():
            return Found(np.zeros(0, np.int64), (), np.zeros(0))
        rows = np.flatnonzero(~self.examined.dated)
        findings = self.examined.findings
        first: dict[int, str] = {}
        for row, rule in zip(findings.rows.tolist(), findings.rules, strict=True):
            first.setdefault(row, rule)
        return Found(rows, tuple(first.get(row, _UNNAMED) for row in rows.tolist()), np.full(len(rows), np.nan))


@dataclass(frozen=True, slots=True)
class Found:
    """Rows of an arrival with the rule and the figure that go with each."""

    rows: NDArray[np.int64]
    rules: tuple[str, ...]
    limits: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.rows)


def gather(last: LastValues, batches: Sequence[tuple[ReadingBatch, int]], examiner: Examiner | None) -> Arriving:
    """Bring batches with the instant each was received [us] into columns, and have them examined."""
    new = {point: len(last) + offset for offset, point in enumerate(last.unknown(batch for batch, _ in batches))}
    arrival = Arrival(
        _joined([last.numbers(batch, new) for batch, _ in batches]),
        _joined([batch.at_us for batch, _ in batches]),
        _joined([batch.values for batch, _ in batches]),
        _joined([batch.quality for batch, _ in batches]),
        np.repeat(np.array([us for _, us in batches], np.int64), [len(batch) for batch, _ in batches]),
        _namer(last, new),
    )
    return Arriving(tuple(new), arrival, None if examiner is None else examiner.examine(arrival))


def _joined(columns: Sequence[NDArray[_Item]]) -> NDArray[_Item]:
    return columns[0] if len(columns) == 1 else np.concatenate(columns)


def _namer(last: LastValues, new: Mapping[PointId, int]) -> Callable[[int], PointId]:
    fresh = list(new)
    known = len(last)
    return lambda number: last.name(number) if number < known else fresh[number - known]
