"""What the columns of a history file mean: the long or the wide form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tieline_core.errors import BadInputError
from tieline_core.ids import PointId

LONG: Final = ("point", "measured_at", "value")
MAX_COLUMNS: Final = 5000


@dataclass(frozen=True, slots=True)
class Layout:
    """What the header says.

    Attributes:
        names: Columns in their order.
        points: Points of a wide file; empty for a long one.
        delimiter: Between cells.
    """

    names: tuple[str, ...]
    points: tuple[PointId, ...]
    delimiter: str = ","


def layout_of(names: list[str], source: str, delimiter: str = ",") -> Layout:
    """Judge the columns of a file.

    Raises:
        BadInputError: When it is neither the long nor the wide form.
    """
    said = ", ".join(names[:20])
    if len(set(names)) < len(names) or len(names) > MAX_COLUMNS:
        raise BadInputError(source, "columns", said, f"at most {MAX_COLUMNS} columns, each name once")
    if "point" not in names and "value" not in names and "measured_at" in names and len(names) > 1:
        return Layout(tuple(names), _wide(names, source, said), delimiter)
    missing = [name for name in LONG if name not in names]
    unknown = [name for name in names if name not in (*LONG, "quality")]
    if missing or unknown:
        what = f"lacks {', '.join(missing)}" if missing else f"has unknown {', '.join(unknown[:5])}"
        raise BadInputError(
            source,
            "columns",
            said,
            f"{what}; expected point, measured_at, value and optionally quality, or measured_at and one column a point",
        )
    return Layout(tuple(names), (), delimiter)


def _wide(names: list[str], source: str, said: str) -> tuple[PointId, ...]:
    points = []
    for name in names:
        if name == "measured_at":
            continue
        try:
            points.append(PointId(name))
        except ValueError as error:
            raise BadInputError(source, "columns", said, f"has unknown {name!r}: {error}") from error
    return tuple(points)
