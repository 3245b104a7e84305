"""The points a store knows and their last values, in memory: what consoles ask for most never touches the disk."""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase

import numpy as np
from numpy.typing import NDArray

from tieline_cloud.store.values import LastValue, Stored
from tieline_core.frame import ReadingBatch
from tieline_core.ids import PointId
from tieline_core.timegrid import from_us

_NEVER = np.iinfo(np.int64).min
#: Points of the dictionaries whose numbers are remembered.
_REMEMBERED = 500_000


class LastValues:
    """Points under dense numbers from 0, each with the newest reading seen. Safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._numbers: dict[PointId, int] = {}
        self._names: list[PointId] = []
        self._of_edge: Counter[str] = Counter()
        # By the identity of a dictionary, which is kept with it: the frames of an edge share theirs as one object.
        self._tables: OrderedDict[int, tuple[tuple[PointId, ...], NDArray[np.int32]]] = OrderedDict()
        self._remembered = 0
        self._at_us = np.full(256, _NEVER, np.int64)
        self._values = np.full(256, np.nan)
        self._quality = np.zeros(256, np.uint8)

    def __len__(self) -> int:
        return len(self._names)

    def add(self, names: Iterable[PointId]) -> None:
        """Take up new points in the order of their numbers."""
        with self._lock:
            for name in names:
                self._numbers[name] = len(self._names)
                self._names.append(name)
                self._of_edge[name.partition("/")[0]] += 1
            while len(self._names) > len(self._at_us):
                self._at_us = np.concatenate([self._at_us, np.full_like(self._at_us, _NEVER)])
                self._values = np.concatenate([self._values, np.full_like(self._values, np.nan)])
                self._quality = np.concatenate([self._quality, np.zeros_like(self._quality)])

    def of_edge(self, edge: str) -> int:
        """How many points of an edge are known."""
        return self._of_edge[edge]

    def unknown(self, batches: Iterable[ReadingBatch]) -> list[PointId]:
        """Points of the batches without a number, in the order of their first appearance."""
        seen = dict.fromkeys(point for batch in batches if id(batch.points) not in self._tables for point in batch.points)
        return [point for point in seen if point not in self._numbers]

    def numbers(self, batch: ReadingBatch, new: Mapping[PointId, int]) -> NDArray[np.int32]:
        """Number of the point of each reading; ``new`` holds numbers that are not taken up yet."""
        remembered = self._tables.get(id(batch.points))
        if remembered is not None:
            self._tables.move_to_end(id(batch.points))
            return remembered[1][batch.point_index]
        known = self._numbers
        table = np.array([known[name] if name in known else new[name] for name in batch.points], np.int32)
        if new.keys().isdisjoint(batch.points):
            self._remember(batch.points, table)
        return table[batch.point_index]

    def _remember(self, points: tuple[PointId, ...], table: NDArray[np.int32]) -> None:
        self._tables[id(points)] = points, table
        self._remembered += len(points)
        while self._remembered > _REMEMBERED:
            _, (forgotten, _) = self._tables.popitem(last=False)
            self._remembered -= len(forgotten)

    def number(self, point: PointId) -> int | None:
        """The number of a point, None when it is not known."""
        return self._numbers.get(point)

    def name(self, number: int) -> PointId:
        """The point of a number."""
        return self._names[number]

    def names(self, edge: str | None = None, like: str | None = None) -> list[PointId]:
        """Known points, sorted."""
        with self._lock:
            names = sorted(self._names)
        return [
            name
            for name in names
            if (edge is None or name.startswith(edge + "/")) and (like is None or fnmatchcase(name, like))
        ]

    def update(
        self,
        numbers: NDArray[np.int32],
        at_us: NDArray[np.int64],
        values: NDArray[np.float64],
        quality: NDArray[np.uint8],
    ) -> None:
        """Take readings up where they are not older than what is known."""
        with self._lock:
            taken = at_us >= self._at_us[numbers]
            if not taken.any():
                return
            if not taken.all():
                numbers, at_us, values, quality = numbers[taken], at_us[taken], values[taken], quality[taken]
            # Of several readings of one point the last assignment stays. Mostly that is the newest, else they are sorted.
            self._at_us[numbers] = at_us
            if (self._at_us[numbers] < at_us).any():
                order = np.argsort(at_us, kind="stable")
                numbers, values, quality = numbers[order], values[order], quality[order]
                self._at_us[numbers] = at_us[order]
            self._values[numbers] = values
            self._quality[numbers] = quality

    def columns(self) -> Stored:
        """Every point that has a value, with it."""
        with self._lock:
            seen = np.flatnonzero(self._at_us[: len(self._names)] != _NEVER).astype(np.int32)
            return Stored(seen, self._at_us[seen], self._values[seen], self._quality[seen])

    def rows(self, points: Sequence[PointId] | None = None) -> list[LastValue]:
        """Last values sorted by point."""
        with self._lock:
            names = sorted(self._names if points is None else {point for point in points if point in self._numbers})
            numbers = [self._numbers[name] for name in names]
            at_us, values, quality = self._at_us[numbers], self._values[numbers], self._quality[numbers]
        return [
            LastValue(name, None if np.isnan(value) else float(value), from_us(int(at)), int(grade))
            for name, at, value, grade in zip(names, at_us, values, quality, strict=True)
            if at != _NEVER
        ]
