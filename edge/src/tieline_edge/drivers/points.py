"""The points of one device: catalogue rows with ids, signs and resolutions, and how a number becomes a reading."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from tieline_core.ids import EdgeId, PointId
from tieline_core.quantities import QUANTITIES, Quality, Reading, round_to
from tieline_edge.drivers.catalog.entry import CatalogEntry, Point
from tieline_edge.settings import DeviceSettings

#: No quantity of the field reaches this, whatever its unit: 10 TWh in Wh is 1e13.
LARGEST: Final = 1e15
#: What turns round with a device that is wired the other way: signed powers change sign, energy registers change place.
_SIGNED: Final = frozenset({"p_w", "q_var", *(f"p_l{n}_w" for n in (1, 2, 3)), *(f"q_l{n}_var" for n in (1, 2, 3))})
_SWAPPED: Final = {"e_import_wh": "e_export_wh", "e_export_wh": "e_import_wh"}


@dataclass(frozen=True, slots=True)
class PointRow:
    """One point of one device.

    Attributes:
        id: Where its readings belong.
        point: Its catalogue row.
        factor: 1 or -1: source convention and orientation together.
        exponent: Declared resolution as a power of ten.
    """

    id: PointId
    point: Point
    factor: int
    exponent: int


class PointTable:
    """All points of a device, in catalogue order."""

    def __init__(self, edge: EdgeId, settings: DeviceSettings, entry: CatalogEntry) -> None:
        turned = settings.orientation == -1
        self._rows = tuple(
            PointRow(
                PointId.of(edge, settings.id, quantity),
                point,
                point.sign * (-1 if turned and point.quantity in _SIGNED else 1),
                QUANTITIES[quantity].exponent,
            )
            for point in entry.points
            for quantity in [_SWAPPED.get(point.quantity, point.quantity) if turned else point.quantity]
        )

    def __iter__(self) -> Iterator[PointRow]:
        return iter(self._rows)

    def ids(self) -> tuple[PointId, ...]:
        """Ids of all points."""
        return tuple(row.id for row in self._rows)


def good_reading(row: PointRow, value: float, at: datetime, quality: Quality = Quality.GOOD) -> Reading:
    """A number of the source as a reading: sign of the house, declared resolution, no minus zero.

    Raises:
        ValueError: No quantity of the field is as large; sums of such numbers would end in infinity.
    """
    if not -LARGEST < value < LARGEST:
        raise ValueError(f"{row.id}: {value:g} is beyond everything a field shows")
    return Reading(row.id, round_to(value * row.factor, row.exponent) + 0.0, at, quality)


def bad_reading(row: PointRow, at: datetime) -> Reading:
    """Nothing usable at that instant."""
    return Reading(row.id, None, at, Quality.BAD)
