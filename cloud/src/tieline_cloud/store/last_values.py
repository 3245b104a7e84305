"""The points a store knows and their last values, in memory: what consoles ask for most never touches the disk."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase

import numpy as np
from numpy.typing import NDArray

from tieline_cloud.store.values import LastValue, Stored
from tieline_core.frame import ReadingBatch
from tieline_core.ids import PointId
from tieline_core.timegrid import from_us

_NEVER = np.iinfo(np.int64).min


class LastValues:
    """Points under dense numbers from 0, each with the newest reading seen. Safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._numbers: dict[PointId, int] = {}
        self._names: list[PointId] = []
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
            while len(self._names) > len(self._at_us):
                self._at_us = np.concatenate([self._at_us, np.full_like(self._at_us, _NEVER)])
                self._values = np.concatenate([self._values, np.full_like(self._values, np.nan)])
                self._quality = np.concatenate([self._quality, np.zeros_like(self._quality)])

    def unknown(self, batches: Iterable[ReadingBatch]) -> list[PointId]:
        """Points of the batches without a number, in the order of their first appearance."""
        seen = dict.fromkeys(point for batch in batches for point in batch.points)
        return [point for point in seen if point not in self._numbers]

    def numbers(self, batch: ReadingBatch, new: Mapping[PointId, int]) -> NDArray[np.int32]:
        """Number of the point of each reading; ``new`` holds numbers that are not taken up yet."""
        known = self._numbers
        table = np.array([known[name] if name in known else new[name] for name in batch.points], np.int32)
        return table[batch.point_index]

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
        order = np.argsort(at_us, kind="stable")
        with self._lock:
            order = order[at_us[order] >= self._at_us[numbers[order]]]
            # Ascending in time: of several readings of one point the last assignment, the newest, stays.
            rows = numbers[order]
            self._at_us[rows] = at_us[order]
            self._values[rows] = values[order]
            self._quality[rows] = quality[order]

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
