"""One delivered row, checked: what every door asks of a reading, with the key and the reason when it is refused."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

import numpy as np

from tieline_core.frame import ReadingBatch
from tieline_core.ids import EdgeId, PointId
from tieline_core.quantities import Quality
from tieline_core.timegrid import EARLIEST, LATEST, to_us

EARLIEST_US: Final = to_us(EARLIEST)
LATEST_US: Final = to_us(LATEST)
QUALITIES: Final = {quality.name.lower(): quality for quality in Quality}
#: Nothing that was measured is larger; sums of such numbers stay numbers.
LARGEST: Final = 1e100
_SHOWN: Final = 80


class RowError(ValueError):
    """A row that cannot be taken.

    Attributes:
        key: Which part of it.
        value: What stands there, shortened.
    """

    def __init__(self, key: str, value: object, reason: str) -> None:
        self.key = key
        self.value = shown(value)
        self.reason = reason
        super().__init__(reason)


def shown(value: object) -> str:
    """A value from outside as short text."""
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"


def read_instant(value: object) -> int:
    """Microseconds since 1970 of an RFC 3339 instant with offset.

    Raises:
        RowError: When it is none, or lies outside what a store has to hold.
    """
    if not isinstance(value, str):
        raise RowError("measured_at", value, "expected text like 2026-11-20T12:00:00Z")
    try:
        at_us = to_us(datetime.fromisoformat(value))
    except (ValueError, OverflowError) as error:
        reason = "it has no time zone; add Z or an offset" if "no time zone" in str(error) else "expected 2026-11-20T12:00:00Z"
        raise RowError("measured_at", value, reason) from error
    if not EARLIEST_US <= at_us < LATEST_US:
        raise RowError("measured_at", value, f"an instant from {EARLIEST.year} to {LATEST.year - 1} was expected")
    return at_us


def read_quality(value: object) -> Quality:
    """A quality word; absent means good.

    Raises:
        RowError: When it is none of ours.
    """
    if value is None:
        return Quality.GOOD
    quality = QUALITIES.get(value.strip().lower()) if isinstance(value, str) else None
    if quality is None:
        raise RowError("quality", value, f"is none of {', '.join(QUALITIES)}")
    return quality


def read_number(value: object, quality: Quality) -> float:
    """A finite number, or NaN where there is none and the quality says so.

    Raises:
        RowError: When value and quality contradict each other or it is no finite number.
    """
    if value is None:
        if quality.usable:
            raise RowError("value", value, "there is no number, and the quality says there is one")
        return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise RowError("value", value, "expected a number")
    try:
        number = float(value)
    except OverflowError as error:
        raise RowError("value", value, "the number is too large") from error
    if not math.isfinite(number):
        raise RowError("value", value, "the number is not finite")
    if abs(number) > LARGEST:
        raise RowError("value", value, f"no measurement is beyond {LARGEST:g}")
    if quality is Quality.BAD:
        raise RowError("value", value, "a bad reading carries no number")
    return number


@dataclass(slots=True)
class RowColumns:
    """Takes checked rows one by one and gives them as a batch.

    Attributes:
        sources: First parts the points may have; None = any.
    """

    sources: Collection[EdgeId] | None = None
    _index: dict[str, int] = field(default_factory=dict)
    _names: list[PointId] = field(default_factory=list)
    _rows: list[int] = field(default_factory=list)
    _at: list[int] = field(default_factory=list)
    _values: list[float] = field(default_factory=list)
    _quality: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self._rows)

    def take(self, point: object, measured_at: object, value: object, quality: object) -> None:
        """Take a row.

        Raises:
            RowError: When it cannot be taken; nothing of it stays.
        """
        number = self._index.get(point) if isinstance(point, str) else None
        if number is None:
            number = self._new(point)
        grade = read_quality(quality)
        at_us = read_instant(measured_at)
        self._values.append(read_number(value, grade))
        self._rows.append(number)
        self._at.append(at_us)
        self._quality.append(int(grade))

    def _new(self, text: object) -> int:
        if not isinstance(text, str):
            raise RowError("point", text, "expected text like harbour/bat1/p_w")
        point = read_point(text, self.sources)
        self._names.append(point)
        return self._index.setdefault(text, len(self._index))

    def batch(self) -> ReadingBatch:
        """Everything taken so far."""
        return ReadingBatch(
            tuple(self._names),
            np.array(self._rows, np.int32),
            np.array(self._at, np.int64),
            np.array(self._values, np.float64),
            np.array(self._quality, np.uint8),
        )


def read_point(text: str, sources: Collection[EdgeId] | None) -> PointId:
    """A point of one of the sources.

    Raises:
        RowError: When it has another form or belongs to somebody else.
    """
    try:
        point = PointId(text)
    except ValueError as error:
        raise RowError("point", text, "expected a form like 'harbour/bat1/p_w' (a-z, 0-9, '-', '_')") from error
    if sources is not None and point.edge not in sources:
        raise RowError("point", text, f"points of this source begin with {' or '.join(f'{name}/' for name in sorted(sources))}")
    return point
