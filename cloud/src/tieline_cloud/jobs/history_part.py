"""What a reader of history files hands on: usable rows, the others with reason, and how far it has come."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from tieline_core.frame import ReadingBatch
from tieline_core.ids import PointId


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row, or a cell of a wide row, that was left out."""

    row: int
    """Number of the row, counted as an editor counts lines in a csv (header = 1), from 1 in a parquet file."""
    key: str
    value: str
    reason: str


class FileMark(BaseModel):
    """How far a file was read: enough to go on there, and to notice that it is no longer the same file.

    Attributes:
        offset: Bytes of a csv (unpacked), rows of a parquet file.
        row: Last row that was read.
        sha256: Of a csv's bytes up to the offset; of a parquet file as a whole.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    offset: int = Field(ge=0)
    row: int = Field(ge=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


@dataclass(frozen=True, slots=True)
class HistoryPart:
    """Some rows of a file.

    Attributes:
        batch: The usable ones.
        bad: The others, in the order of the file.
        rows: Rows read for this part.
        done: Share of the file read so far, 0..1.
        mark: Where the next part begins.
    """

    batch: ReadingBatch
    bad: tuple[BadRow, ...]
    rows: int
    done: float
    mark: FileMark


@dataclass(frozen=True, slots=True)
class OpenedHistory:
    """A file that is being read.

    Attributes:
        parts: Its parts, lazily; BadInputError when the file cannot be read on.
        resumed: True when it is read on from the mark that was handed in.
    """

    parts: Generator[HistoryPart, None, None]
    resumed: bool


def joined(batches: Sequence[ReadingBatch]) -> ReadingBatch:
    """Several batches as one, in their order, with only the points that have readings."""
    numbers: dict[PointId, int] = {}
    index = [np.zeros(0, np.int32)]
    for batch in batches:
        used = np.unique(batch.point_index)
        table = np.zeros(len(batch.points) or 1, np.int32)
        table[used] = [numbers.setdefault(batch.points[number], len(numbers)) for number in used.tolist()]
        index.append(table[batch.point_index])
    return ReadingBatch(
        tuple(numbers),
        np.concatenate(index),
        np.concatenate([np.zeros(0, np.int64), *(batch.at_us for batch in batches)]),
        np.concatenate([np.zeros(0), *(batch.values for batch in batches)]),
        np.concatenate([np.zeros(0, np.uint8), *(batch.quality for batch in batches)]),
    )
