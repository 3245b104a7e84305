"""After the hub has ended: what its ledger really holds, row by row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import duckdb

_SLICES = 16
_DOUBLES = (
    "SELECT coalesce(sum(n - 1), 0) FROM (SELECT count(*) AS n FROM readings WHERE point_id % ? = ? GROUP BY point_id, at_us)"
)


@dataclass(frozen=True, slots=True)
class Held:
    """Rows of the ledger.

    Attributes:
        virtual: Readings of the virtual edges.
        real: Readings of the real edges' meters.
        doubled: Rows beyond the first of one point and instant.
        aside: Rows kept apart because their instant was not believed.
        bytes: Size of the file with its log.
    """

    virtual: int
    real: int
    doubled: int
    aside: int
    bytes: int


def _one(connection: duckdb.DuckDBPyConnection, sql: str, parameters: Sequence[int] = ()) -> int:
    row = connection.execute(sql, list(parameters)).fetchone()
    return 0 if row is None or row[0] is None else int(row[0])


def count(path: Path) -> Held:
    """Count every row and look for doubles, a slice of the points at a time."""
    size = sum(file.stat().st_size for file in path.parent.glob(path.name + "*"))
    with duckdb.connect(str(path), read_only=True, config={"memory_limit": "3GB"}) as connection:
        tables = {row[0] for row in connection.execute("SELECT table_name FROM information_schema.tables").fetchall()}
        rows = "SELECT count(*) FROM readings r JOIN points p ON r.point_id = p.id WHERE p.name LIKE"
        doubled = 0
        for part in range(_SLICES):
            doubled += _one(connection, _DOUBLES, [_SLICES, part])
        aside = _one(connection, "SELECT count(*) FROM misdated") if "misdated" in tables else 0
        # An edge marks a meter that falls silent by a row without a number: that is no reading of the field's.
        real = _one(connection, f"{rows} 'real-%/m%' AND r.value IS NOT NULL")
        return Held(_one(connection, f"{rows} 'virtual-%'"), real, doubled, aside, size)


def verdict(held: Held, generated: int, real: int) -> dict[str, Any]:
    """Lost, doubled and invented against what was generated."""
    short = generated - held.virtual - held.aside, real - held.real
    return {
        **asdict(held),
        "generated": generated,
        "real_generated": real,
        "lost": sum(max(0, rows) for rows in short),
        "invented": sum(max(0, -rows) for rows in short),
        "doubled": held.doubled,
    }
